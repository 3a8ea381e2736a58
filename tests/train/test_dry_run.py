"""What is wrong with a layer or a task is found before hours of training, and named with the site."""

import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import normbench
from normbench.errors import UsageError
from normbench.registry import Offered, Plugin
from normbench.train import fit
from normbench.train.dry_run import try_trial


@pytest.fixture
def tried(registry, trial):
    """Return a function that tries a norm of the tiny registry, or one whose layer computes `forward(self, x)`."""

    def run(norm="mine", forward=None, build=None, **options):
        if forward or build:
            kind = type("Layer", (nn.Module,), {"forward": forward})
            made = normbench.Norm(norm, build or (lambda site: kind()), summary="M", **options)
            registry.norms[norm] = Offered(made, Plugin("t", "t"))
        try_trial(trial(norm), registry, torch.device("cpu"), Path())

    return run


@pytest.fixture
def task_with(registry):
    """Return a function that puts the tiny task into the registry with other parts."""

    def put(**parts):
        task = registry.task("tiny")
        given = {"data": task.data, "network": lambda place, recipe: task.network(place, recipe, 5), **parts}
        made = normbench.Task("tiny", 1, summary="T", recipe=task.recipe, chance=0.5, reference=1.0, **given)
        registry.tasks["tiny"] = Offered(made, Plugin("t", "t"))

    return put


def refuse_to_build(site):
    raise ValueError("no such thing")


def only_in_training(self, x):
    if not self.training:
        raise RuntimeError("not in evaluation")
    return x


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ({"forward": lambda self, x: 1 / 0}, "ZeroDivisionError: division by zero"),
        ({"forward": lambda self, x: x[:, :1]}, "the layer returned the shape (7, 1); here it is (7, 5)"),
        ({"forward": lambda self, x: x.unsqueeze(0)}, "the layer returned the shape (1, 7, 5); here it is (7, 5)"),
        ({"forward": lambda self, x: (x, x)}, "the layer returned tuple; it returns a tensor"),
        ({"forward": only_in_training}, "RuntimeError: not in evaluation"),
        ({"build": refuse_to_build}, "ValueError: no such thing"),
        ({"build": lambda site: "a string"}, "layer returned 'a string'"),
        ({"forward": lambda self, x: exit(1)}, "SystemExit: 1"),
    ],
)
def test_a_layer_that_can_not_work_is_named_with_its_site(tried, layer, message):
    """Whatever it raises or returns, while it is built, in training or in evaluation, is the user's mistake."""
    with pytest.raises(UsageError, match=re.escape(message)) as refused:
        tried(**layer)

    assert str(refused.value).startswith("norm mine at site 0 of tiny (5 channels, NC): ")


def test_a_wrapped_linear_has_the_channels_of_its_site(tried):
    """A layer of placement weight may change what it wraps, not how many channels come out."""
    tried("weight")

    with pytest.raises(UsageError, match=r"at site 0 .*the shape \(7, 10\); here it is \(7, 5\)"):
        tried(build=lambda site, module: nn.Linear(6, 10), placement="weight")


def test_a_network_that_can_not_work_is_the_tasks_fault(task_with, tried):
    """Where no layer computes, the task is named."""
    task_with(network=lambda place, recipe: nn.Sequential(place(nn.Linear(6, 5)), nn.Linear(3, 2)))

    with pytest.raises(UsageError, match=r"task tiny, with norm plain: RuntimeError: .*mat1 and mat2"):
        tried("plain")


@pytest.mark.parametrize(
    ("given", "norm", "message"),
    [
        ({"network": lambda place, recipe: nn.Linear(6, 2)}, "plain", "its network has no norm: it never calls place"),
        ({"network": lambda place, recipe: tokens(place(nn.Linear(2, 5), "relu"))}, "before",
         'site 0 is (7, 3, 5); the network says NC with 5 channels (tokens are layout="NLC")'),
        ({"network": lambda place, recipe: tokens(place(nn.Linear(2, 5), "relu"))}, "weight",
         "the shape at the norm of site 0 is (7, 3, 5); the network says NC with 5 channels"),
        ({"network": lambda place, recipe: nn.Sequential(nn.Linear(6, 4), place.norm(5, "NC"), nn.Linear(4, 2))},
         "before", "the shape at the norm of site 0 is (7, 4); the network says NC with 5 channels"),
        ({"network": lambda place, recipe: nn.Sequential(nn.LazyLinear(5), place.norm(5, "NC"), nn.Linear(5, 2))},
         "plain", "its parameter '0.weight' has no shape before the first forward"),
        ({"score": lambda outputs, targets: (outputs.argmax(1) == targets).float().mean()}, "plain",
         "score returned the shape (); it is (7,)"),
        ({"score": lambda outputs, targets: (outputs.argmax(1) == targets).float()[:, None]}, "plain",
         "score returned the shape (7, 1); it is (7,)"),
        ({"network": lambda place, recipe: nn.Sequential(place(nn.Linear(6, 5)), Counted(5), nn.Linear(5, 2))},
         "plain", "built twice from one seed it gives other numbers (the loss)"),
        ({"network": lambda place, recipe: nn.Sequential(place(nn.Linear(6, 5)), NowAndThen(5, 2))},
         "plain", "built twice from one seed it gives other numbers (its buffer '1.odd' after a step)"),
    ],
)  # fmt: skip
def test_a_mistaken_task_is_named(tried, task_with, given, norm, message):
    """A network or a score that would give numbers which are of no norm, or of another score, is the task's mistake."""
    task_with(**given)

    with pytest.raises(UsageError, match=re.escape(message)) as refused:
        tried(norm)

    assert str(refused.value).startswith("task tiny")


def tokens(placed):
    return nn.Sequential(nn.Unflatten(1, (3, 2)), placed, nn.Flatten(), nn.Linear(15, 2))


def test_a_norm_of_weights_that_finds_none_is_unsupported(tried, task_with, registry, trial):
    """Where a network has norms alone, with no linear before, its numbers would be those without a norm."""
    task_with(network=lambda place, recipe: nn.Sequential(nn.Linear(6, 5), place.norm(5, "NC"), nn.Linear(5, 2)))

    tried("weight")

    [outcome] = fit([trial("weight")], registry=registry)
    assert ("unsupported", "weight wraps linears; the network of tiny has none at its places for norms") == (
        outcome.outcome, outcome.reason
    )  # fmt: skip


class Counted(nn.Module):
    """Scales by a number that its class counts up with each layer that is built."""

    built = 0

    def __init__(self, channels):
        super().__init__()
        Counted.built += 1
        self.scale = nn.Parameter(torch.full((channels,), float(Counted.built)))

    def forward(self, x):
        return x * self.scale


class NowAndThen(nn.Linear):
    """Has a buffer more each second time that it is built."""

    def __init__(self, *sizes):
        super().__init__(*sizes)
        Counted.built += 1
        if Counted.built % 2:
            self.register_buffer("odd", torch.zeros(1))


class CountedInBackward(nn.Module):
    """The same, of its gradient alone."""

    def __init__(self, channels):
        super().__init__()
        Counted.built += 1
        self.factor, self.linear = float(Counted.built), nn.Linear(channels, channels)

    def forward(self, x):
        out = self.linear(x)
        if out.requires_grad:
            out.register_hook(lambda gradient: gradient * self.factor)
        return out


class Unset(nn.Module):
    """Scales by memory that nothing has set, at its start or in each forward."""

    def __init__(self, channels, *, in_forward):
        super().__init__()
        self.in_forward = in_forward
        self.scale = nn.Parameter(torch.ones(channels) if in_forward else torch.empty(channels))

    def forward(self, x):
        return x + 0 * torch.empty_like(x) if self.in_forward else x * self.scale


SHARED, STATE = nn.BatchNorm1d(5), nn.BatchNorm1d(5, affine=False)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda site: Counted(5), "(its output): they depend on something outside of it"),
        (lambda site: CountedInBackward(5), "(the gradient of its parameter 'linear.weight')"),
        (lambda site: SHARED, "(its output): they depend on something outside of it"),
        (lambda site: STATE, "(its output in evaluation): they depend on something outside of it"),
        (lambda site: Unset(5, in_forward=False), "(its output): they depend on"),
        (lambda site: Unset(5, in_forward=True), "(its output): they depend on"),
    ],
    ids=["counter", "counter in the backward", "shared", "shared state", "unset weight", "unset memory"],
)
def test_numbers_that_depend_on_what_is_outside_of_the_layer(tried, build, message):
    """Two networks built from one seed compute the same, or no trial of the norm could be repeated."""
    with pytest.raises(UsageError, match=re.escape(message)) as refused:
        tried(build=build)

    assert str(refused.value).startswith(
        "norm mine at site 0 of tiny (5 channels, NC): built twice from one seed it gives other numbers "
    )


@pytest.mark.parametrize("draw", [torch.rand, lambda n: torch.tensor(np.random.rand(n)).float(),
                                  lambda n: torch.tensor([random.random() for _ in range(n)])])  # fmt: skip
def test_what_a_layer_draws_from_global_generators_is_its_own(tried, draw):
    """Draws of torch, NumPy and Python, at the start, in the forward and in the backward, are on streams."""

    class Drawn(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(draw(5))

        def forward(self, x):
            out = x * self.scale * draw(5)
            if out.requires_grad:
                out.register_hook(lambda gradient: gradient + draw(5))
            return out

    tried(build=lambda site: Drawn())


class MadeLate(nn.Module):
    def forward(self, x):
        if not hasattr(self, "scale"):
            self.scale = nn.Parameter(torch.ones(5))
        return x * self.scale


class MadeForNothing(nn.Module):
    def forward(self, x):
        self.scale = nn.Parameter(torch.ones(5))
        return x


class Listed(nn.Module):
    def __init__(self):
        super().__init__()
        self.parts = [nn.Linear(5, 5)]

    def forward(self, x):
        return self.parts[0](x)


class KeepsItsMode(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.BatchNorm1d(5)

    def train(self, mode=True):
        self.training = mode
        return self

    def forward(self, x):
        return self.inner(x)


class InItsOwnMode(KeepsItsMode):
    def __init__(self):
        super().__init__()
        self.inner.eval()

    train = nn.Module.train


class FrozenForGood(KeepsItsMode):
    def train(self, mode=True):
        super(KeepsItsMode, self).train(mode)
        self.inner.eval()
        return self


def in_place(self, x):
    return x.mul_(2)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ({"build": lambda site: nn.LazyBatchNorm1d()}, "its parameter 'weight' has no shape before the first forward"),
        ({"build": lambda site: MadeLate()}, "a weight of shape (5,) that no optimizer has"),
        ({"build": lambda site: MadeForNothing()}, "its parameter 'scale' is made after"),
        ({"build": lambda site: Listed()}, "a weight of shape (5, 5) that no optimizer has"),
        ({"build": lambda site: KeepsItsMode()}, "its BatchNorm1d stays in training mode in evaluation"),
        ({"build": lambda site: InItsOwnMode()}, "its BatchNorm1d begins in evaluation mode, which does not last"),
        ({"forward": lambda self, x: x.double()}, "the layer returned torch.float64; here it is torch.float32"),
        ({"forward": lambda self, x: x.to("meta")}, "the layer returned a tensor on meta; here it is on cpu"),
        ({"forward": lambda self, x: Raising.apply(x)}, "KeyError: 'in the backward' (test_dry_run.py:"),
        ({"forward": in_place, "placement": "after"}, "RuntimeError: one of the variables needed for gradient"),
    ],
)
def test_a_layer_that_could_not_be_trained_as_it_says(tried, layer, message):
    """Weights that are never trained, modes that are not followed, other types: what a step shows beside an error."""
    with pytest.raises(UsageError, match=re.escape(message)) as refused:
        tried(**layer)

    assert str(refused.value).startswith("norm mine at site 0 of tiny (5 channels, NC): ")


class Raising(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        raise KeyError("in the backward")


def test_a_layer_may_be_frozen_for_good(tried):
    """A module that stays in evaluation mode by its own train() keeps to it."""
    tried(build=lambda site: FrozenForGood())


@pytest.mark.parametrize("norm", ["plain", "before", "after", "fused", "drawing", "refusing", "convolutions-only",
                                  "out-of-memory"])  # fmt: skip
def test_what_works_and_what_a_trial_itself_ends_in_is_let_through(tried, norm):
    """A norm that says it is unsupported, or lacks memory, is left to its trial, whose outcome that is."""
    before = torch.get_rng_state()

    tried(norm)

    assert torch.equal(before, torch.get_rng_state())

"""What is wrong with a layer or a task is found before hours of training, and named with the site."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

import normbench
from normbench.errors import UsageError
from normbench.plugins import Offered, Plugin
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


def test_a_network_that_can_not_work_is_the_tasks_fault(registry, trial, tried):
    """Where no layer computes, the task is named."""
    task = registry.task("tiny")
    broken = normbench.Task(
        "tiny", 1, summary="T", recipe=task.recipe, chance=0.5, reference=1.0, data=task.data,
        network=lambda place, recipe: nn.Linear(3, 2),
    )  # fmt: skip
    registry.tasks["tiny"] = Offered(broken, Plugin("t", "t"))

    with pytest.raises(UsageError, match=r"task tiny, with norm plain: RuntimeError: .*mat1 and mat2"):
        tried("plain")


@pytest.mark.parametrize("norm", ["plain", "before", "after", "fused", "drawing", "refusing", "convolutions-only",
                                  "out-of-memory"])  # fmt: skip
def test_what_works_and_what_a_trial_itself_ends_in_is_let_through(tried, norm):
    """A norm that says it is unsupported, or lacks memory, is left to its trial, whose outcome that is."""
    before = torch.get_rng_state()

    tried(norm)

    assert torch.equal(before, torch.get_rng_state())

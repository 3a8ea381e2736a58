"""What a layer may have beside forward: when it is called, what it changes, and what a mistake in it costs."""

import math
from pathlib import Path

import pytest
import torch
from torch import nn

import normbench
from normbench.errors import UsageError
from normbench.registry import Offered, Plugin
from normbench.throughput.candidate import Candidate
from normbench.train import assemble, fit
from normbench.train.data import Batches, InMemory
from normbench.train.dry_run import try_trial
from normbench.train.trainer import train

CPU, PLUGIN = torch.device("cpu"), Plugin("t", "t")


def keeping(self, x):
    """Return what goes in, and keep it: a layer's forward."""
    self.seen = x
    return x


@pytest.fixture
def layer(registry):
    """Return a function that registers a layer as the norm "mine"; its class is made of the functions given."""

    def register(**methods):
        made = type("Mine", (nn.Module,), {"forward": keeping, **methods})
        registry.norms["mine"] = Offered(normbench.Norm("mine", lambda site: made(), summary="M"), PLUGIN)

    return register


@pytest.fixture
def calls(layer):
    """Return the calls of a layer that notes each, with its arguments, and its mode and that of the gradients."""
    noted = []

    def noting(name, result=lambda self, *args: None):
        def method(self, *args):
            noted.append((name, *(arg for arg in args if isinstance(arg, int)), self.training, torch.is_grad_enabled()))
            return result(self, *args)

        return method

    layer(
        on_step=noting("on_step"),
        forward=noting("forward", keeping),
        own_loss=noting("own_loss", lambda self: self.seen.square().mean()),
        after_step=noting("after_step"),
        before_evaluation=noting("before_evaluation"),
    )
    return noted


def test_each_is_called_in_its_place(registry, trial, calls):
    """Of a step: on_step, each part's forward and own_loss, after_step; of an evaluation: before_evaluation first."""
    list(fit([trial("mine", epochs=0, steps=4, batch_size=6, accumulate=2)], registry=registry))

    part = [("forward", True, True), ("own_loss", True, True)]
    steps = [[("on_step", i, 4, True, True), *part, *part, ("after_step", i, 4, True, False)] for i in range(4)]
    validation = test = [("before_evaluation", True, False), ("forward", False, False)]
    alone_or_together = [("before_evaluation", True, False), *[("forward", False, False)] * 2]
    assert [*steps[0], *steps[1], *steps[2], *steps[3], *validation, *test, *alone_or_together] == calls


def test_a_session_and_a_dry_run_call_them_as_well(registry, trial, calls):
    """A timed block of evaluation begins with before_evaluation, and a timed step ends with after_step."""
    one = trial("mine")

    candidate = Candidate(one, registry, assemble.data(one, registry.task("tiny"), Path(), CPU), CPU)
    candidate.train(2)
    candidate.evaluate(3)
    timed = [call[0] for call in calls]
    calls.clear()
    try_trial(one, registry, CPU, Path())

    step, evaluation = ["on_step", "forward", "own_loss", "after_step"], ["before_evaluation", "forward"]
    assert [*step, *step, *evaluation, "forward", "forward"] == timed
    assert [*step[:-1], *evaluation, "after_step"] * 2 == [call[0] for call in calls]


def test_a_training_with_all_of_them_is_a_loop_by_hand(registry, trial):
    """In float64 its losses, weights and buffers are those of SGD written out, to rounding."""
    task = registry.task("tiny")
    splits = task.data(None, task.recipe)
    double = {name: (pair[0].double(), pair[1]) for name, pair in vars(splits).items()}
    made = normbench.Task("tiny", 1, summary="D", recipe=task.recipe, chance=0.5, reference=1.0,
                          data=lambda folder, recipe: normbench.Splits(**double),
                          network=lambda place, recipe: task.network(place, recipe).double())  # fmt: skip
    registry.tasks["tiny"] = Offered(made, PLUGIN)
    one = trial("everything", batch_size=6, accumulate=2, momentum=0.9, weight_decay=0.1, schedule="cosine",
                weight_decay_spares="norms-and-biases")  # fmt: skip
    trained = assemble.training(one, registry, assemble.data(one, made, Path(), CPU))
    network = trained.network
    values = {name: value.detach().clone().requires_grad_() for name, value in network.named_parameters()}
    losses, average = _by_hand(values, double["train"], Batches(InMemory(*double["train"]), 6, one.seed, accumulate=2))

    train(trained)

    assert losses == pytest.approx(trained.series["loss"], rel=1e-12)
    for name, value in network.named_parameters():
        torch.testing.assert_close(value, values[name], rtol=1e-11, atol=1e-13)
    torch.testing.assert_close(network[0][1][0].average, average, rtol=1e-11, atol=1e-13)


def _by_hand(values, samples, batches):
    """Train the network of the norm "everything" for two epochs; return its losses by epoch, and its buffer."""
    first, first_bias, alpha, gain, bias, last, last_bias = values.values()
    decay = {first: 0.1, last: 0.1, alpha: 0.1, gain: 0.3}
    velocity = {value: torch.zeros_like(value) for value in values.values()}
    average, epochs, step = torch.zeros(5).double(), [], 0
    for _ in range(2):
        losses = []
        for parts in batches:
            gradients = {value: torch.zeros_like(value) for value in values.values()}
            for indices, _ in parts:
                x, y = samples[0][indices], samples[1][indices]
                seen = x @ first.T + first_bias
                hidden = (alpha * seen * (1 + step / 8)).tanh() * gain + bias
                loss = nn.functional.cross_entropy(hidden.relu() @ last.T + last_bias, y)
                total = loss + 0.01 * hidden.square().mean() + 0.1 * gain.square().sum()
                for value, gradient in zip(values.values(), torch.autograd.grad(total, values.values()), strict=True):
                    gradients[value] += gradient / 2
                losses.append(loss.item())
            with torch.no_grad():
                rate = 0.1 * (1 + math.cos(math.pi * step / 8)) / 2
                for value, gradient in gradients.items():
                    velocity[value].mul_(0.9).add_(gradient + decay.get(value, 0.0) * value)
                    value -= rate * (0.5 if value is alpha else 1.0) * velocity[value]
                gain.clamp_(max=0.99)
                average.lerp_(gain, 0.5)
            step += 1
        with torch.no_grad():
            bias.lerp_(average, 0.1)
        epochs.append(sum(losses) / len(losses))
    return epochs, average


@pytest.mark.parametrize(
    ("methods", "said"),
    [
        ({"own_loss": lambda self: 0.5}, "TypeError: Mine.own_loss returned 0.5; it returns a tensor, a scalar"),
        ({"own_loss": lambda self: None}, "TypeError: Mine.own_loss returned None; it returns a tensor, a scalar"),
        (
            {"own_loss": lambda self: self.seen},
            "ValueError: Mine.own_loss returned the shape (7, 5); it returns a scalar",
        ),
        (
            {"own_loss": lambda self: self.seen.detach().sum()},
            "ValueError: Mine.own_loss returned a number without a gr",
        ),
        (
            {"parameter_groups": lambda self: {"lr": 1}},
            "ValueError: Mine.parameter_groups: a group has no 'params'; its",
        ),
    ],
    ids=["a number", "nothing", "a vector", "off the graph", "no group"],
)
def test_what_can_not_be_added_or_grouped_is_refused(registry, trial, layer, methods, said):
    """The dry run says what is wrong in one line, with the layer's class."""
    layer(**methods)

    with pytest.raises(UsageError) as refused:
        try_trial(trial("mine"), registry, CPU, Path())

    assert str(refused.value).startswith(f"task tiny, with norm mine: {said}")


def test_an_own_loss_that_is_not_finite_is_a_divergence(registry, trial, layer):
    """It ends the training at its step, though the task's loss is finite there and no weight is wrong."""

    def on_step(self, step, steps):
        self.added = math.inf if step == 3 else 0.0

    layer(on_step=on_step, own_loss=lambda self: 0 * self.seen.sum() + self.added)

    [found] = fit([trial("mine")], registry=registry)

    assert ("diverged", 4, "a loss is not finite") == (found.outcome, found.diverged_at, found.reason)
    assert [True, False] == [math.isfinite(loss) for loss in found.series["loss"]]


def test_what_weight_decay_spares_is_in_the_outcome(registry, trial):
    """Names are counted, of norms and elsewhere, where weight decay acts."""
    spares = {"weight_decay_spares": "norms-and-biases"}
    asked = [trial("everything", weight_decay=0.1, **spares), trial("weight", weight_decay=0.1, **spares)]
    asked += [trial("before", weight_decay=0.1), trial("before", **spares)]

    found = [outcome.spared for outcome in fit(asked, registry=registry)]

    assert [{"norms": {"bias": 1}, "elsewhere": {"bias": 2}}, {"elsewhere": {"bias": 2}}, {}, {}] == found

"""Trainings with the values of a recipe, end to end: each does what it says, in training and in evaluation."""

import functools
import shutil
from pathlib import Path

import msgspec
import pytest
import torch
from torch import nn

import normbench
from normbench.boards.accuracy import epochs_to
from normbench.errors import UsageError
from normbench.registry import Offered, Plugin
from normbench.store.records import Result
from normbench.train import fit
from normbench.train.assemble import data, network, training
from normbench.train.data import Batches, InMemory
from normbench.train.dry_run import try_trial
from normbench.train.optimize import optimizer
from normbench.train.streams import global_stream
from normbench.trials import Measure, Trial

PLUGIN = Plugin("t", "t")


@pytest.fixture
def watched(registry):
    """Return what a layer and a probe saw: steps, inputs of the layer, weights after each epoch; norm "watching"."""
    seen = {"steps": [], "inputs": [], "training": [], "weights": [], "epochs": []}

    class Watching(nn.Module):
        def on_step(self, step, steps):
            seen["steps"].append((step, steps))

        def forward(self, x):
            seen["inputs"].append(x.detach())
            seen["training"].append(self.training)
            return x

    class Weights:
        def __init__(self, network):
            self.network = network

        def on_epoch(self, epoch):
            seen["epochs"].append(epoch)
            seen["weights"].append([weight.detach().clone() for weight in self.network.parameters()])
            return {}

    registry.norms["watching"] = Offered(normbench.Norm("watching", lambda site: Watching(), summary="W"), PLUGIN)
    registry.probes["weights"] = Offered(normbench.Probe("weights", Weights, summary="W"), PLUGIN)
    return seen


@pytest.fixture
def trained(registry, trial):
    """Return a function that trains one trial on the tiny task, three steps an epoch, and gives its outcome."""

    def run(norm="watching", probes=("weights",), seed=0, **recipe):
        length = {} if {"epochs", "steps"} & set(recipe) else {"epochs": 2}
        one = trial(norm, seed, **{"epochs": 0, **length, **recipe})
        return next(fit([one], registry=registry, probes=probes))

    return run


@pytest.fixture
def images(registry):
    """Add a task of images, whose network is a convolution and, where the recipe has it, dropout."""

    def data(folder, recipe):
        inputs = torch.randn(40, 3, 4, 4, generator=torch.Generator().manual_seed(1))
        targets = (inputs.mean((1, 2, 3)) > 0).long()
        return normbench.Splits(*((inputs[i:j], targets[i:j]) for i, j in ((0, 24), (24, 32), (32, 40))))

    def build(place, recipe):
        dropout = [nn.Dropout(recipe.dropout)] if recipe.dropout else []
        conv = place(nn.Conv2d(3, 4, 3, padding=1), "relu", layout="NCHW")
        return nn.Sequential(conv, nn.Flatten(), *dropout, nn.Linear(64, 2))

    task = normbench.Task(
        "images", 1, summary="I", recipe=normbench.Recipe(rate=0.1, batch_size=8, epochs=2), chance=0.5, reference=1.0,
        data=data, network=build,
    )  # fmt: skip
    registry.tasks["images"] = Offered(task, PLUGIN)

    def made(norm="watching", **recipe):
        return Trial(task="images", task_version=1, norm=norm, recipe=task.recipe.changed(**recipe), seed=0)

    return made


def test_a_training_ends_after_its_steps(trained, watched):
    """Five steps of an epoch of three are five: two epochs of series, of which the second is a part."""
    found = trained(steps=5)

    assert (5, 3) == (found.steps, found.epoch_steps)
    assert [(step, 5) for step in range(5)] == watched["steps"]
    assert (2, 2) == (len(found.series["loss"]), len(found.series["validation"]))
    assert [1, 2] == watched["epochs"]
    assert found.series["validation"][-1] == found.validation


@pytest.mark.parametrize(("steps", "epochs"), [(1, 1), (3, 1), (4, 2), (6, 2), (7, 3)])
def test_steps_are_those_of_epochs_as_far_as_they_go(trained, watched, steps, epochs):
    """A training of so many steps goes the way of one of epochs, and stops there."""
    whole = trained(epochs=3)

    found = trained(steps=steps)

    ended = steps // 3
    assert epochs == len(found.series["loss"])
    assert whole.series["loss"][:ended] == found.series["loss"][:ended]
    assert whole.series["validation"][:ended] == found.series["validation"][:ended]


def test_a_divergence_in_a_part_of_an_epoch_has_its_step(registry, trained):
    """Where a loss first is not finite in the second epoch, its step counts those of the first."""

    class Breaking(nn.Module):
        def on_step(self, step, steps):
            self.step = step

        def forward(self, x):
            return x / 0 if self.training and self.step == 4 else x

    registry.norms["breaking"] = Offered(normbench.Norm("breaking", lambda site: Breaking(), summary="B"), PLUGIN)

    found = trained("breaking", probes=(), steps=5)

    assert ("diverged", 5, 5) == (found.outcome, found.diverged_at, found.steps)
    assert 1 == len(found.series["validation"])


ACCURACY = Measure(name="accuracy", unit="%", direction="up", chance=0.5, reference=1.0)


def stored(progress, **fields):
    """Return what is stored of a training with this validation progress, in epochs of three steps."""
    values = {"schema": 1, "key": "k", "run": "r", "device": "cpu", "environment": "e", "score": 1.0, "epoch_steps": 3}
    series = {"validation": [0.5 + share / 2 for share in progress]}
    return Result(**{**values, "outcome": "trained", "measure": ACCURACY, "series": series, **fields})


@pytest.mark.parametrize(
    ("progress", "steps", "expected"),
    [
        ([0.5, 0.95], 6, 1 + 0.4 / 0.45),
        ([0.5, 0.95], 5, 1 + 2 / 3 * 0.4 / 0.45),
        ([0.95, 0.99], 4, None),
        ([0.5, 0.8], 5, None),
    ],
)
def test_epochs_to_most_of_the_progress_within_a_part_of_an_epoch(progress, steps, expected):
    """The last epoch of a training that counts steps is as long as it was."""
    found = epochs_to([stored(progress, steps=steps)], ACCURACY)

    assert expected == pytest.approx(found)


def test_epochs_to_most_of_the_progress_before_a_divergence():
    """An epoch is one epoch long, also where the next one ended the training without a score."""
    series = {"loss": [1.0, 1.0, None], "validation": [0.75, 0.975]}
    found = epochs_to([stored([], steps=9, outcome="diverged", score=0.5, series=series)], ACCURACY)

    assert 1 + 0.4 / 0.45 == pytest.approx(found)


@pytest.mark.parametrize(
    "values",
    [
        {"optimizer": "sgd", "momentum": 0.9, "schedule": "cosine"},
        {"optimizer": "sgd", "schedule": "steps", "milestones": (0.4, 0.6), "weight_decay": 0.1},
        {"optimizer": "adam", "schedule": "one-cycle", "weight_decay": 0.1},
        {"optimizer": "adamw", "schedule": "cosine", "weight_decay": 0.1, "weight_decay_spares": "norms-and-biases"},
        {"optimizer": "adamw"},
    ],
    ids=str,
)
@pytest.mark.parametrize("length", [{"epochs": 3}, {"steps": 7}], ids=str)
def test_training_is_that_of_a_loop_with_torchs_optimizer_and_schedule(
    registry, trained, trial, watched, length, values
):
    """The weights at the end equal those of a loop written out, with torch's schedulers."""
    total = length.get("steps", 9)
    one = trial("before", **{"epochs": 0, **length, **values})
    model = network(one, registry)
    weights = [module for module in model.modules() if isinstance(module, nn.BatchNorm1d)]
    torchs = optimizer(model, weights, one.recipe)
    schedule = {
        "constant": lambda: torch.optim.lr_scheduler.ConstantLR(torchs, 1.0),
        "cosine": lambda: torch.optim.lr_scheduler.CosineAnnealingLR(torchs, total),
        "steps": lambda: torch.optim.lr_scheduler.MultiStepLR(torchs, [-(-2 * total // 5), -(-3 * total // 5)], 0.1),
        "one-cycle": lambda: torch.optim.lr_scheduler.OneCycleLR(
            torchs, one.recipe.rate, total_steps=total, cycle_momentum=False
        ),
    }[one.recipe.schedule]()
    data = registry.task("tiny").data(None, one.recipe)
    batches, taken = Batches(InMemory(*data.train), 7, one.seed), 0
    with global_stream(torch.device("cpu"), one.seed, "layer"):
        while taken < total:
            for [(indices, _)] in batches:
                if taken < total:
                    torchs.zero_grad()
                    nn.functional.cross_entropy(model(data.train[0][indices]), data.train[1][indices]).backward()
                    torchs.step()
                    schedule.step()
                    taken += 1

    trained("before", **length, **values)

    for expected, found in zip(model.parameters(), watched["weights"][-1], strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)


def test_bf16_computes_in_bfloat16_and_keeps_weights_in_float32(trained, watched):
    """Under bf16 a layer sees what a linear gives in bfloat16, in training and in evaluation; weights stay float32."""
    found = trained(precision="bf16")

    assert {(True, torch.bfloat16), (False, torch.bfloat16)} == {
        (training, inputs.dtype) for training, inputs in zip(watched["training"], watched["inputs"], strict=True)
    }
    assert {torch.float32} == {weight.dtype for weight in watched["weights"][-1]}
    assert found.series["loss"] == pytest.approx(trained().series["loss"], rel=0.02)


def test_32_is_what_a_layer_computes_in_by_default(trained, watched):
    """Without a precision everything is in float32."""
    trained()

    assert {torch.float32} == {inputs.dtype for inputs in watched["inputs"]}


@pytest.mark.parametrize("wanted", [True, False])
def test_channels_last_is_the_layout_in_memory(registry, images, watched, wanted):
    """With channels_last a convolution gives that memory format, in training and in evaluation; the numbers stay."""
    one = images(channels_last=wanted)

    found = next(fit([one], registry=registry))

    formats = [inputs.is_contiguous(memory_format=torch.channels_last) for inputs in watched["inputs"]]
    assert {(True, wanted), (False, wanted)} == set(zip(watched["training"], formats, strict=True))
    plain = next(fit([images()], registry=registry))
    assert plain.series["loss"] == pytest.approx(found.series["loss"], rel=1e-5)
    assert plain.score == found.score


def test_group_norm_keeps_its_digits_in_channels_last(registry, images):
    """Whoever's it is, far from zero too, where torch's kernel for this memory format loses them."""
    norm = normbench.Norm("group", lambda site: nn.GroupNorm(1, site.channels), summary="G")
    registry.norms["group"] = Offered(norm, Plugin("t", "t"))
    one = msgspec.structs.replace(images(channels_last=True), norm="group")
    loaded = data(one, registry.task(one.task), Path(), torch.device("cpu"))

    layers = [layer for layer in training(one, registry, loaded).modules() if isinstance(layer, nn.GroupNorm)]

    assert layers
    for layer in layers:
        x = 30 + 0.1 * torch.randn(4, layer.num_channels, 32, 32, generator=torch.Generator().manual_seed(0))
        found = layer(x.contiguous(memory_format=torch.channels_last))
        torch.testing.assert_close(found.double(), layer.double()(x.double()), rtol=1e-3, atol=1e-3)


def test_channels_last_where_there_are_no_images(registry, trial):
    """A task without images refuses channels_last before anything is trained: the value would have no effect."""
    with pytest.raises(UsageError, match=r"^task tiny: channels_last is a memory format of images, \(N, C, H, W\)$"):
        try_trial(trial("plain", channels_last=True), registry, torch.device("cpu"), Path())


def test_dropout_is_that_of_the_recipe(registry, images):
    """A network that has dropout trains with it, and is evaluated without."""
    outcomes = [next(fit([images("plain", dropout=value)], registry=registry)) for value in (0.0, 0.5, 0.5)]

    plain, dropped, again = (outcome.series["loss"] for outcome in outcomes)
    assert plain != dropped
    assert dropped == again
    assert "error" not in {outcome.outcome for outcome in outcomes}


def test_dropout_where_the_network_has_none(registry, trial):
    """A task whose network has no dropout refuses it before anything is trained: the value would have no effect."""
    one = trial("plain", dropout=0.5)

    with pytest.raises(UsageError, match=r"^task tiny: dropout is 0\.5; its network has no dropout$"):
        try_trial(one, registry, torch.device("cpu"), Path())


def test_initialization_is_that_of_the_recipe(trained, watched):
    """Without a step of any size, the weights at the end are the recipe's."""
    plain = trained(steps=1, rate=1e-30, probes=("weights",))

    scaled = trained(steps=1, rate=1e-30, init_scale=2.0)

    first, other = watched["weights"]
    assert torch.equal(2 * first[0], other[0])
    assert torch.equal(first[1], other[1])
    assert plain.series["loss"] != scaled.series["loss"]


def test_threads_are_those_of_the_recipe(registry, trained):
    """A trial on a CPU computes with as many threads of torch as its recipe says."""
    seen = []

    class Counting(nn.Module):
        def forward(self, x):
            seen.append(torch.get_num_threads())
            return x

    registry.norms["counting"] = Offered(normbench.Norm("counting", lambda site: Counting(), summary="C"), PLUGIN)
    before = torch.get_num_threads()
    try:
        for threads in (2, 1):
            trained("counting", probes=(), threads=threads, steps=1)
    finally:
        torch.set_num_threads(before)

    assert [2, 1] == list(dict.fromkeys(seen))


def compiled(test):
    """Mark a test as slow, and as one that needs a compiler."""
    compiler = any(map(shutil.which, ("g++", "clang++", "c++")))
    return pytest.mark.slow(pytest.mark.skipif(not compiler, reason="needs a C++ compiler")(test))


@compiled
@pytest.mark.parametrize("norm", ["before", "everything"])
def test_compiled_trainings_are_those_without(trained, norm):
    """Under torch.compile losses and scores are those of a plain training, for one trial after another."""
    plain = [trained(norm, probes=(), seed=seed) for seed in (0, 1)]

    found = [trained(norm, probes=(), seed=seed, compile=True) for seed in (0, 1)]

    for one, other in zip(plain, found, strict=True):
        assert (one.outcome, one.steps, one.reason) == (other.outcome, other.steps, other.reason)
        assert one.series["loss"] == pytest.approx(other.series["loss"], rel=1e-4)
        # One of the eight test samples may lie at the boundary.
        assert one.score == pytest.approx(other.score, abs=0.13)


@compiled
def test_a_compiled_layer_draws_the_same_again(trained):
    """A layer that draws gives the same numbers on every run under torch.compile, though not those without it."""
    first, again = (trained("drawing", probes=(), compile=True) for _ in range(2))

    assert (first.series, first.score) == (again.series, again.score)


@compiled
def test_every_norm_of_a_run_is_compiled(trained, monkeypatch):
    """However many norms a process trains, each is compiled."""
    # Whether it is, not what code comes of it: that takes minutes for this many.
    monkeypatch.setattr(nn.Module, "compile", functools.partialmethod(nn.Module.compile, backend="eager"))
    torch.compiler.reset()
    counted = []

    for norm in ("plain", "before", "after", "fused", "weight", "drawing"):
        before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
        trained(norm, probes=(), compile=True)
        counted.append(torch._dynamo.utils.counters["stats"]["unique_graphs"] - before)

    assert all(counted), counted

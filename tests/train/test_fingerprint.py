"""A fingerprint is a training in small: what changes a number of it shows, and nothing else does."""

import random
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import zygote
from torch import nn

import normbench
from normbench.contract import Unsupported
from normbench.fingerprint.numbers import agree, largest_difference
from normbench.fingerprint.steps import fingerprint, projected, steps_of
from normbench.registry import Offered, Plugin
from normbench.train import fit
from normbench.train.guard import Guard

SCRIPT = """
import json
from normbench.execute import Request, prepare
from normbench.fingerprint import take

asked = prepare(Request("quick", norms=["batch-renorm"], device="cpu", executor="serial", throughput=False))
[record] = take.take(asked.cells, asked.workplace)
print(json.dumps([record.outcome, record.digest, record.numbers]))
"""


class Ramp(nn.Module):
    """Batch norm whose output a step of the run has times 1.001, the steps given as a range of shares."""

    def __init__(self, channels: int, begin: float = 2.0, end: float = 2.0) -> None:
        super().__init__()
        self.norm, self.begin, self.end, self.factor = nn.BatchNorm1d(channels), begin, end, 1.0

    def on_step(self, step: int, steps: int) -> None:
        self.factor = 1.001 if self.begin <= step / steps < self.end else 1.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(x) * self.factor


class Silent(nn.Module):
    """Has a limit that grows in the course of a run, and reaches nothing that is computed."""

    def __init__(self, end: float) -> None:
        super().__init__()
        self.end = end
        self.register_buffer("limit", torch.zeros(()))

    def on_step(self, step: int, steps: int) -> None:
        self.limit.fill_(min(1.0, step / (self.end * steps)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


class Warming(nn.Module):
    """Passes its input through in the first half of a run, and then normalizes it by the batch's statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.normalizes = False

    def on_step(self, step: int, steps: int) -> None:
        self.normalizes = step / steps >= 0.5

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x - x.mean(0)) / (x.var(0) + 1e-5).sqrt() if self.normalizes and self.training else x


@pytest.fixture
def taken(registry, trial):
    """Return a function that takes the fingerprint of a norm of the tiny registry, or of one with this layer."""

    def take(norm="mine", layer=None, **recipe):
        if layer is not None:
            made = normbench.Norm(norm, layer, summary="M", traits=normbench.Traits(batch_dependent=True))
            registry.norms[norm] = Offered(made, Plugin("t", "t"))
        return fingerprint(trial(norm, **recipe), registry, Path(), torch.device("cpu"), Guard(()))

    return take


def test_two_processes_take_the_same(capsys):
    """Each number of a real task is the same, to the last digit, wherever it is taken on one machine."""
    there = zygote.run([sys.executable, "-c", SCRIPT]).stdout

    exec(SCRIPT, {})

    assert there.startswith('["taken", "')
    assert there == capsys.readouterr().out


@pytest.mark.parametrize(
    "changed",
    [
        lambda site: nn.BatchNorm1d(site.channels, eps=1e-3),
        lambda site: nn.BatchNorm1d(site.channels, momentum=0.11),
        lambda site: nn.BatchNorm1d(site.channels, affine=False),
        lambda site: nn.Sequential(nn.BatchNorm1d(site.channels), nn.Identity()),
    ],
    ids=["eps", "momentum", "affine", "names"],
)
def test_a_changed_layer_is_seen(taken, changed):
    """An eps, a momentum, a parameter that is gone, or one of another name, each makes another fingerprint."""
    before = taken(layer=lambda site: nn.BatchNorm1d(site.channels))

    assert not agree(before, taken(layer=changed))


@pytest.mark.parametrize(("begin", "end"), [(0.0, 0.01), (0.3, 0.4), (0.6, 0.7), (0.8, 1.0)])
def test_a_thousandth_at_one_step_is_seen(taken, begin, end):
    """A layer that differs by a thousandth in one part of the run, the first or the last, is another."""
    before = taken(layer=lambda site: Ramp(site.channels))

    assert not agree(before, taken(layer=lambda site: Ramp(site.channels, begin, end)))


def test_a_ramp_is_seen_on_its_way(taken):
    """A buffer that ends where it did, and is not computed with, shows that it came there another way."""
    before, after = (taken(layer=lambda site, end=end: Silent(end)) for end in (0.8, 0.81))

    assert "0.1.0.limit" == largest_difference(before, after).name
    assert not agree(before, after)


def test_what_a_layer_does_later_is_computed(taken):
    """A layer that needs statistics of the batch in the second half alone is taken, and is not what it first was."""
    before, after = taken("plain"), taken(layer=lambda site: Warming())

    changed = [name for name in before if before[name] != after[name]]

    assert [f"{what} at step {step}" for step in (4, 5) for what in ("outputs", "loss", "gradient")] == changed


@pytest.mark.parametrize("norm", ["before", "drawing"])
def test_the_first_step_is_the_trainings_own(taken, trial, registry, norm):
    """Its loss is that of a training's first step, whatever the layer draws."""
    found = taken(norm, epochs=0, steps=1)

    [outcome] = fit([trial(norm, epochs=0, steps=1)], registry=registry)

    assert outcome.series["loss"] == pytest.approx(found["loss at step 0"], rel=1e-8)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_the_optimizers_steps_are_seen(taken, optimizer):
    """A weight decay that is a hundredth larger moves the weights elsewhere, whichever the optimizer."""
    before, after = (taken("before", optimizer=optimizer, weight_decay=decay) for decay in (1.0, 1.01))

    assert not agree(before, after)


def test_schedules_and_accumulation_are_the_recipes(taken):
    """Another schedule is another fingerprint; a batch in two parts has the numbers of the whole."""
    constant, cosine = (taken("plain", schedule=schedule) for schedule in ("constant", "cosine"))
    whole, parts = (taken("plain", batch_size=6, accumulate=accumulate) for accumulate in (1, 2))

    assert not agree(constant, cosine)
    assert agree(whole, parts)


def test_nothing_is_compiled(taken):
    """torch.compile is left out: it takes longer than all else."""
    assert taken("before") == taken("before", compile=True)


def test_what_is_not_finite_has_a_word(taken):
    """A buffer that becomes infinite says so from that step on."""
    running = taken("poisoned")["0.1.0.running"]

    assert [0.0, 0.0, "inf", "inf", "inf", "inf", "inf", "inf"] == running


def test_generators_and_threads_are_left_as_they_were(taken):
    """A layer that draws moves no global generator, and the recipe's threads are not kept."""
    before = (random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist(), torch.get_num_threads())

    first, second = (taken("drawing", threads=threads) for threads in (1, 2))

    after = (random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist(), torch.get_num_threads())
    assert before == after
    assert agree(first, second)


def test_a_norm_that_can_not_stand_raises(taken):
    """What a layer raises comes through."""
    with pytest.raises(Unsupported, match="not on a Tuesday"):
        taken("refusing")


@pytest.mark.parametrize(("total", "expected"), [(100, [0, 10, 40, 70, 99]), (6, [0, 2, 4, 5]), (2, [0, 1]), (1, [0])])
def test_steps_are_spread_over_the_run(total, expected):
    """The first, one early, two in the middle and the last, each once."""
    assert expected == steps_of(total)


def test_a_projection_sees_signs_and_order():
    """The norm of a vector is the same under both; its other number is not. Both are definitions in float64."""
    x = torch.tensor([3.0, -4.0, 12.0])
    cosines = [np.cos(i) for i in (1, 2, 3)]

    norm, sum_ = projected([x])

    assert norm == pytest.approx(13 / 3**0.5, rel=1e-8)
    assert sum_ == pytest.approx(sum(a * b for a, b in zip(x.tolist(), cosines, strict=True)) / 3**0.5, rel=1e-8)
    assert projected([x[:1], x[1:]]) == [norm, sum_]
    for other in (-x, x.flip(0)):
        assert projected([other])[0] == norm
        assert projected([other])[1] != sum_
    assert projected([x], per_element=False) == pytest.approx([13, sum_ * 3**0.5])

"""What a layer is told of its network before the first layer is built."""

from __future__ import annotations

from collections import deque
from typing import Any

import msgspec
import pytest
import torch
from torch import nn

import normbench
from normbench.registry import Offered, Plugin
from normbench.train import assemble, fit, survey
from normbench.train.data import InMemory, Loaded

IMAGES = InMemory(torch.randn(21, 3, 8, 8), torch.zeros(21).long())
DATA = Loaded(IMAGES, IMAGES, IMAGES)


class Block(nn.Module):
    """A convolution of stride 2 and the end of a residual block, whose shortcut is a convolution of its own."""

    def __init__(self, place: normbench.Place) -> None:
        super().__init__()
        self.first = place(nn.Conv2d(4, 4, 3, stride=2, padding=1), "relu")
        self.sum = place.sum(nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1, stride=2), "relu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.sum(self.first(x), x)


def of_sums(place: Any, recipe: Any) -> nn.Module:
    layers = [Block(place), nn.Dropout(0.5), Block(place), nn.Flatten()]
    return nn.Sequential(nn.Conv2d(3, 4, 1), *layers, place(nn.Linear(16, 6), "relu"), nn.Linear(6, 2))


def of_blocks(place: Any, recipe: Any) -> nn.Module:
    stem = place(nn.Conv2d(3, 4, 1), "relu")
    with place.block():
        first = [Block(place), Block(place)]
    with place.block():
        second = place(nn.Conv2d(4, 4, 1), "relu")
    return nn.Sequential(stem, *first, second, Block(place), nn.Flatten(), nn.Linear(4, 2))


class Said(nn.Module):
    """Computes on a map that it flips, and has a norm that it says the size of."""

    def __init__(self, place: Any) -> None:
        super().__init__()
        self.norm = place.norm(3, "NCHW", spatial=(1, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(x.mul_(-1)).flatten(1)[:, :2]


class Untold(nn.Module):
    """Raises in its first forward."""

    def __init__(self, place: Any) -> None:
        super().__init__()
        self.norm = place(nn.Conv2d(3, 2, 1), "relu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("it can't")


def shifted(inputs: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
    """Change inputs in place."""
    return inputs.add_(draws.sum())


@pytest.fixture
def assembled(registry, trial, monkeypatch):
    """Return a function that assembles a trial of a network, and returns it with the sites that its norm was told."""
    monkeypatch.setattr(survey, "_made", deque())

    def make(network, placement="before", seed=0, **recipe):
        told = []
        layer = (
            (lambda site, module: told.append(site) or module)
            if placement == "weight"
            else (lambda site: told.append(site) or nn.Identity())
        )
        norm = normbench.Norm("told", layer, summary="T", placement=placement)
        task = normbench.Task(
            "maps", 1, summary="M", recipe=normbench.Recipe(rate=0.1, batch_size=7, epochs=2), chance=0.5, reference=1,
            data="no:data", network=network, augment=shifted, augment_draws=2,
        )  # fmt: skip
        plugin = Plugin("tiny", "tests")
        registry.norms["told"], registry.tasks["maps"] = Offered(norm, plugin), Offered(task, plugin)
        asked = trial("told", seed, **recipe)
        return assemble.training(msgspec.structs.replace(asked, task="maps"), registry, DATA), told

    return make


@pytest.mark.parametrize("placement", ["before", "after", "fused", "weight"])
def test_a_layer_is_told_its_size_its_block_and_the_steps(assembled, placement):
    """Each site knows its size, how many sites and blocks there are, its own block, and how long training takes."""
    training, told = assembled(of_sums, placement)

    assert [(4, 4), (4, 4), (2, 2), (2, 2), ()] == [site.spatial for site in told]
    assert [0, 0, 1, 1, None] == [site.block for site in told]
    assert {(5, 2, training.steps)} == {(site.sites, site.blocks, site.steps) for site in told}
    assert 6 == training.steps


def test_a_block_that_is_named_counts_as_one(assembled):
    """`with place.block()` has all that is placed meanwhile, sums as well; what stands between blocks is in none."""
    _, told = assembled(of_blocks)

    assert [None, 0, 0, 0, 0, 1, 2, 2] == [site.block for site in told]
    assert {3} == {site.blocks for site in told}


def test_a_survey_moves_nothing(assembled, monkeypatch):
    """Weights, generators and data are what they are without it."""
    images, state = IMAGES.inputs.clone(), torch.get_rng_state()

    surveyed, _ = assembled(of_sums)
    monkeypatch.setattr(assemble, "surveyed", lambda *args: ())
    without, told = assembled(of_sums)

    assert told[0].spatial is None
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(images, IMAGES.inputs)
    weights, others = surveyed.network.state_dict(), without.network.state_dict()
    assert weights.keys() == others.keys()
    assert all(torch.equal(weights[name], others[name]) for name in weights)


def test_what_a_network_says_of_a_size_counts(assembled):
    """A size that the network gives a site is what its layer is told; and its forward may change its input."""
    images = IMAGES.inputs.clone()

    _, [site] = assembled(lambda place, recipe: Said(place))

    assert (1, 2) == site.spatial
    assert torch.equal(images, IMAGES.inputs)


def test_a_network_that_can_not_compute_tells_what_it_can(assembled):
    """Where the first forward raises the size is unknown, and all else is known."""
    _, [site] = assembled(lambda place, recipe: Untold(place))

    assert (None, 1, 6) == (site.spatial, site.sites, site.steps)


def test_a_network_is_surveyed_once_for_all_seeds_and_rates(assembled):
    """Trials that differ by seed and rate alone share a survey; another batch size or placement needs its own."""
    built = []

    def network(place, recipe):
        built.append(recipe.batch_size)
        return of_sums(place, recipe)

    for options in ({}, {"seed": 1}, {"rate": 0.3}, {"batch_size": 3}, {"placement": "weight"}):
        assembled(network, **options)

    assert 8 == len(built)


def test_a_network_that_can_not_be_built_says_so_itself(registry, trial):
    """The survey keeps what is raised to itself: the trial raises it."""
    task = registry.tasks["tiny"].thing
    broken = normbench.Task(
        "tiny", 1, summary="B", recipe=task.recipe, chance=0.5, reference=1.0, data=task.data, params=dict(task.params),
        network=lambda place, recipe: place(nn.Linear(6, 5), "rleu"),
    )  # fmt: skip
    registry.tasks["tiny"] = Offered(broken, Plugin("tiny", "tests"))

    [outcome] = fit([trial("plain")], registry=registry)

    assert outcome.reason.startswith("ValueError: no activation 'rleu'; did you mean 'relu'")

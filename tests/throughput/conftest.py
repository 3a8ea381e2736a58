"""A session of made-up norms on a made-up clock: nothing is timed, so that nothing depends on the machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import normbench
from normbench.registry import Offered, Plugin, Registry
from normbench.throughput import session
from normbench.throughput.entry import Effort, Entry, Measured, Round
from normbench.trials import Trial


@dataclass(frozen=True)
class Pace:
    """How a norm behaves: the seconds of a step, or of an evaluation batch, in its n-th block; and where it fails.

    `fails` gives what is raised by which copy of the norm (the baseline has two) in which block of training; -1 is its
    construction. Block 0 of all but the baseline's first copy is the round that warms up.
    """

    seconds: Callable[[int], float] = lambda block: 0.01
    fails: Callable[[int, int], BaseException | None] = lambda copy, block: None


@dataclass
class Clock:
    """The seconds that all blocks took so far, and which blocks there were: norm, kind, how many steps or batches."""

    seconds: float = 0.0
    log: list[tuple[str, str, int]] = field(default_factory=list)


class Session:
    """Measures made-up norms, the baseline the first of them."""

    def __init__(self, registry: Registry, clock: Clock, paces: dict[str, Pace]) -> None:
        self.registry, self.clock, self.paces = registry, clock, paces
        self.rounds: list[int] = []

    def measure(self, seconds: float = 1e9, precision: float = 0.03) -> tuple[Measured, dict[str, Entry]]:
        """Measure; return the result, and the entries by norm, the baseline's second one as "again"."""
        norms = [*self.paces, next(iter(self.paces))]
        found = _measured(map(trial, norms), self.registry, Effort(seconds, precision), self.rounds.append)
        return found, dict(zip([*self.paces, "again"], found.entries, strict=True))

    def blocks(self) -> list[list[tuple[str, str, int]]]:
        """Return the blocks of each round that counts, where no norm failed."""
        turns = 2 * (len(self.paces) + 1)
        blocks = self.clock.log[-turns * self.rounds[-1] :]
        return [blocks[i : i + turns] for i in range(0, len(blocks), turns)]


def _measured(
    trials: Iterable[Trial],
    registry: Registry,
    effort: Effort = Effort(1e9, 0.03),  # noqa: B008 - it is frozen
    on_round: Callable[[int], None] = lambda done: None,
    device: str = "cpu",
) -> Measured:
    """Measure trials beside the first, which comes last again."""
    trials = list(trials)
    options = {"registry": registry, "device": device, "data_dir": Path()}
    events = list(session.measure(trials, 0, len(trials) - 1, effort, **options))
    for event in events:
        if isinstance(event, Round):
            on_round(event.done)
    assert isinstance(events[-1], Measured)
    return events[-1]


def trial(norm: str) -> Trial:
    """Return a trial of a norm on the tiny task."""
    recipe = normbench.Recipe(rate=1e-4, batch_size=8, epochs=1)
    return Trial(task="tiny", task_version=1, norm=norm, recipe=recipe, seed=0)


def _data(folder: Any, recipe: normbench.Recipe) -> normbench.Splits:
    inputs = torch.randn(24, 3, generator=torch.Generator().manual_seed(1))
    split = (inputs, (inputs[:, 0] > 0).long())
    return normbench.Splits(split, split, split)


def _network(place: Any, recipe: normbench.Recipe) -> nn.Module:
    return nn.Sequential(place(nn.Linear(3, 4), "relu"), nn.Linear(4, 2))


@pytest.fixture
def measured() -> Callable[..., Measured]:
    """Return a function that measures trials beside the first, which comes last again."""
    return _measured


@pytest.fixture
def registry() -> Callable[..., Registry]:
    """Return a function that makes a registry of the tiny task and these norms: name -> layer."""
    recipe = normbench.Recipe(rate=0.1, batch_size=8, epochs=1)
    task = normbench.Task(
        "tiny", 1, summary="T", recipe=recipe, chance=0.5, reference=1.0, data=_data, network=_network
    )

    def made(**layers: Callable[..., nn.Module]) -> Registry:
        plugin = Plugin("tests", "the tests")
        norms = {name: normbench.Norm(name, layer, summary=name) for name, layer in layers.items()}
        return Registry(
            norms={name: Offered(norm, plugin) for name, norm in norms.items()},
            tasks={"tiny": Offered(task, plugin)},
        )

    return made


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch, registry: Callable[..., Registry]) -> Callable[..., Session]:
    """Return a function that makes a session of norms, given the fields of each one's Pace by its name."""

    def made(**given: dict[str, Any]) -> Session:
        paces = {norm: Pace(**fields) for norm, fields in given.items()}
        clock, made_of = Clock(), []

        class Fake:
            """What is timed of a made-up norm."""

            evaluation_batch = 24
            peak_memory = None

            def __init__(self, trial: Trial, *_: Any) -> None:
                self.norm, self.pace, self.blocks = trial.norm, paces[trial.norm], 0
                self.copy = made_of.count(trial.norm)
                made_of.append(trial.norm)
                self._fail(-1)

            def train(self, steps: int) -> float:
                self._fail(self.blocks)
                self.blocks += 1
                return self._spent("train", steps)

            def evaluate(self, batches: int) -> float:
                return self._spent("evaluate", batches)

            def _spent(self, kind: str, times: int) -> float:
                seconds = times * self.pace.seconds(self.blocks - 1)
                clock.seconds += seconds
                clock.log.append((self.norm, kind, times))
                return seconds

            def _fail(self, block: int) -> None:
                error = self.pace.fails(self.copy, block)
                if error is not None:
                    raise error

        class Time:
            perf_counter = staticmethod(lambda: clock.seconds)

        monkeypatch.setattr(session, "Candidate", Fake)
        monkeypatch.setattr(session, "made", lambda trial, registry: None)
        monkeypatch.setattr(session, "time", Time)
        return Session(registry(**dict.fromkeys(paces, lambda site: nn.Identity())), clock, paces)

    return made

"""What `compare` tests: each metric of trials as one object, its value on one seed, its test, its unit.

`normbench.gates` has their names and how their gates are spelled: suites know these without anything of this.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from normbench import gates
from normbench.boards.stability import Curve, over_the_grid, trains_up_to
from normbench.gates import Gate
from normbench.stats.decide import Kind
from normbench.trials import Measure


@dataclass(frozen=True)
class Points:
    """What one seed gave at each of a norm's rates, ascending; `chosen` is the place of the chosen one."""

    measure: Measure
    rates: list[float]
    chosen: int
    scores: list[float]
    trained: list[bool]

    @property
    def curve(self) -> Curve:
        """The scores as more is better: of a score that is better the lower it is, its progress."""
        up = self.measure.direction == "up"
        return Curve(self.scores if up else [self.measure.progress(score) for score in self.scores], self.trained)


@dataclass(frozen=True)
class Metric:
    """A metric of trials: `value` is that of one seed, in `unit`, which may depend on the measure and the gate.

    `test` is how its differences are tested. `needs_grid`: there is none at one rate alone. `is_score`: it is the
    task's own score, so that the measure says which way is better.
    """

    words: gates.Metric
    test: Kind
    unit: Callable[[Measure, Gate | None], str]
    value: Callable[[Points, str], float]
    needs_grid: bool = True
    is_score: bool = False

    @property
    def name(self) -> str:
        """How gates and programs name it."""
        return self.words.name

    def sign(self, measure: Measure) -> int:
        """Return what a rise is multiplied by, so that + is better."""
        falls = measure.direction == "down" if self.is_score else self.words.worse == "+"
        return -1 if falls else 1


def _own_unit(measure: Measure, _: Gate | None) -> str:
    return measure.unit


def _unit_of_mean(measure: Measure, _: Gate | None) -> str:
    # Progress has no unit.
    return "%" if measure.unit == "%" and measure.direction == "up" else ""


def _unit_of_reach(_: Measure, gate: Gate | None) -> str:
    return "decades" if gate is not None and gate.unit == "dec" else "step"


def _score(points: Points, _: str) -> float:
    return points.scores[points.chosen]


def _mean(points: Points, _: str) -> float:
    return over_the_grid(points.curve.scores, points.rates)


def _sensitivity(points: Points, unit: str) -> float:
    return points.curve.scores[points.chosen] - _mean(points, unit)


def _failures(points: Points, _: str) -> float:
    return 1 - sum(points.trained) / len(points.trained)


def _reach(points: Points, unit: str) -> float:
    """Return the last rate that trains from the chosen one up, as its place in the grid or its decade."""
    last = trains_up_to(points.curve, points.chosen)
    if unit == "step":
        return float(-1 if last is None else last)
    logs = [math.log10(rate) for rate in points.rates]
    # Below the grid counts as one step lower than its first rate.
    return logs[0] - (logs[1] - logs[0]) if last is None else logs[last]


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(gates.METRICS["accuracy"], "mean", _own_unit, _score, needs_grid=False, is_score=True),
        Metric(gates.METRICS["over_the_grid"], "mean", _unit_of_mean, _mean),
        Metric(gates.METRICS["max_trainable_lr"], "median", _unit_of_reach, _reach),
        Metric(gates.METRICS["failure_rate"], "share", lambda *_: "%", _failures, needs_grid=False),
        Metric(gates.METRICS["sensitivity"], "mean", _unit_of_mean, _sensitivity),
    )
}

"""What `compare` tests: each metric of trials as one object, its value on one seed, its test, its unit.

`normbench.gates` has their names and how their gates are spelled: suites know these without anything of this.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from normbench import gates
from normbench.boards.stability import Curve, trains_up_to, weights
from normbench.compare.rounding import Steps
from normbench.gates import Gate
from normbench.stats.decide import Kind
from normbench.trials import Measure


@dataclass(frozen=True)
class Points:
    """What one seed gave at each of a norm's rates, ascending; `chosen` is the place of the chosen one.

    `score` is that on test, at the chosen rate. The curve has the scores on validation where there are any, as more is
    better: of a score that is better the lower it is, its progress.
    """

    rates: list[float]
    chosen: int
    score: float
    curve: Curve

    @property
    def at_chosen(self) -> float:
        """The curve's score at the chosen rate."""
        return self.curve.scores[self.chosen]

    @property
    def trains(self) -> bool:
        """Whether it trained at the chosen rate."""
        return self.curve.trained[self.chosen]


@dataclass(frozen=True)
class Metric:
    """A metric of trials: `value` is that of one seed, in `unit`, which may depend on the measure and the gate.

    `test` is how its differences are tested. `weights` are those of the scores in a mean, by the rates and the place of
    the chosen one. `needs_grid`: there is none at one rate alone. `is_score`: it is the task's own score, so that the
    measure says which way is better.
    """

    words: gates.Metric
    test: Kind
    unit: Callable[[Measure, Gate | None], str]
    value: Callable[[Points, str], float]
    weights: Callable[[Sequence[float], int], list[float]] | None = None
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

    def rounding(self, sides: Iterable[Points], steps: Steps) -> float:
        """Return the variance of a difference between two sides by rounding alone."""
        if self.weights is None:
            return 0.0
        # An error of rounding is uniform over a step, so that its variance is a twelfth of the step's square.
        step = steps.score if self.is_score else steps.curve
        return step**2 / 12 * sum(weight**2 for side in sides for weight in self.weights(side.rates, side.chosen))


def _own_unit(measure: Measure, _: Gate | None) -> str:
    return measure.unit


def _unit_of_mean(measure: Measure, _: Gate | None) -> str:
    # Progress has no unit.
    return "%" if measure.unit == "%" and measure.direction == "up" else ""


def _unit_of_reach(_: Measure, gate: Gate | None) -> str:
    return "decades" if gate is not None and gate.unit == "dec" else "step"


def _score(points: Points, _: str) -> float:
    return points.score


def _at_chosen(rates: Sequence[float], chosen: int) -> list[float]:
    return [float(place == chosen) for place in range(len(rates))]


def _over_the_grid(rates: Sequence[float], _: int) -> list[float]:
    return weights(list(rates))


def _apart(rates: Sequence[float], chosen: int) -> list[float]:
    return [one - mean for one, mean in zip(_at_chosen(rates, chosen), _over_the_grid(rates, chosen), strict=True)]


def _mean(points: Points, _: str) -> float:
    return _weighted(points, _over_the_grid)


def _sensitivity(points: Points, _: str) -> float:
    return _weighted(points, _apart)


def _weighted(points: Points, of: Callable[[Sequence[float], int], list[float]]) -> float:
    weighted = zip(of(points.rates, points.chosen), points.curve.scores, strict=True)
    return sum(weight * score for weight, score in weighted)


def _failures(points: Points, _: str) -> float:
    return 1 - sum(points.curve.trained) / len(points.rates)


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
        Metric(gates.METRICS["accuracy"], "mean", _own_unit, _score, _at_chosen, needs_grid=False, is_score=True),
        Metric(gates.METRICS["over_the_grid"], "mean", _unit_of_mean, _mean, _over_the_grid),
        Metric(gates.METRICS["max_trainable_lr"], "median", _unit_of_reach, _reach),
        Metric(gates.METRICS["failure_rate"], "share", lambda *_: "%", _failures, needs_grid=False),
        Metric(gates.METRICS["sensitivity"], "mean", _unit_of_mean, _sensitivity, _apart),
    )
}

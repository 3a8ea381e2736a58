"""Two norms' results, or one norm's in two folders, as differences paired by seed: what `compare` and gates test."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import msgspec

from normbench.boards.grid import Row
from normbench.boards.stability import Curve, over_the_grid, trains_up_to
from normbench.gates import Gate
from normbench.sources import agree
from normbench.stats.decide import Gated, Kind
from normbench.store.records import Result
from normbench.trials import Measure

#: How a difference of each metric is tested.
KINDS: dict[str, Kind] = {
    "accuracy": "mean",
    "over_the_grid": "mean",
    "sensitivity": "mean",
    "max_trainable_lr": "median",
    "failure_rate": "share",
}


@dataclass(frozen=True)
class Contrast:
    """One metric of one norm: each seed's value in BASE and in HEAD, as it is shown.

    `same` are seeds whose trainings were the same to the last bit, by the same code in the same environment: they say
    nothing of a difference. `failed` is whether a seed did not train, on either side.
    """

    metric: str
    base: dict[int, float]
    head: dict[int, float]
    same: frozenset[int]
    failed: bool
    sign: int

    @property
    def seeds(self) -> list[int]:
        """The paired seeds that are tested, ascending."""
        return sorted(seed for seed in self.base if seed not in self.same)

    @property
    def differences(self) -> list[float]:
        """HEAD less BASE at each tested seed, signed so that + is better."""
        return [self.sign * (self.head[seed] - self.base[seed]) for seed in self.seeds]

    def gated(self, margin: float) -> Gated:
        """Return what is decided, with the place of each tested seed among all that are paired."""
        places = {seed: place for place, seed in enumerate(sorted(self.base))}
        return Gated(
            KINDS[self.metric],
            self.differences,
            margin,
            places=[places[seed] for seed in self.seeds],
            paired=len(self.base),
        )


def at_choice(row: Row, rate: float, setting: dict[str, object]) -> Row | None:
    """Return a row at another's rate and setting; None where it has not been there."""
    if rate not in row.rates or setting not in row.settings:
        return None
    return replace(row, rate=rate, setting=row.settings.index(setting))


def contrasts(measure: Measure, base: Row, head: Row, gates: dict[str, Gate]) -> Iterator[Contrast]:
    """Yield every metric that two rows share, each row at its rate, over the seeds that both have whole.

    Over the grid, and what else needs one, is left out where the grids differ.
    """
    assert base.rate is not None
    assert head.rate is not None
    grid = base.rates if base.rates == head.rates else [base.rate]
    whole = _points(base, grid), _points(head, [head.rate] if len(grid) == 1 else grid)
    # A norm that can't stand at some rate has an accuracy at the chosen one all the same.
    chosen = _points(base, [base.rate]), _points(head, [head.rate])
    up = 1 if measure.direction == "up" else -1
    for metric in KINDS:
        ours, theirs = chosen if metric == "accuracy" else whole
        seeds = sorted(set(ours) & set(theirs))
        if not seeds or (len(grid) < 2 and metric not in ("accuracy", "failure_rate")):
            continue
        same = frozenset(seed for seed in seeds if _same(base, head) and ours[seed] == theirs[seed])
        values = [
            {seed: _value(metric, measure, points[seed], row, gates.get(metric)) for seed in seeds}
            for points, row in ((ours, base), (theirs, head))
        ]
        sign = up if metric == "accuracy" else -1 if metric in ("failure_rate", "sensitivity") else 1
        failed = any(
            points[seed][rate].outcome != "trained"
            for points, rate in ((ours, base.rate), (theirs, head.rate))
            for seed in seeds
        )
        yield Contrast(metric, values[0], values[1], same, failed, sign)


class _Point(msgspec.Struct, frozen=True):
    """What a training gave, to the last bit."""

    outcome: str
    score: float
    validation: float | None
    series: dict[str, list[float | None]]
    environment: str


def _points(row: Row, grid: list[float]) -> dict[int, dict[float, _Point]]:
    """Return of each whole seed that has a score at every rate what it gave there."""
    at_rates = {rate: row.at(rate) for rate in {*grid, row.rate} if rate is not None}
    seeds = [seed for seed in row.complete if all(seed in found for found in at_rates.values())]
    return {seed: {rate: _point(found[seed]) for rate, found in at_rates.items()} for seed in seeds}


def _point(result: Result) -> _Point:
    assert result.score is not None
    return _Point(result.outcome, result.score, result.validation, result.series, result.environment)


def _same(base: Row, head: Row) -> bool:
    prints = base.cell.norm_print, base.cell.task_print
    same = None not in prints and prints == (head.cell.norm_print, head.cell.task_print)
    return same and agree(base.files, head.files)


def _value(metric: str, measure: Measure, points: dict[float, _Point], row: Row, gate: Gate | None) -> float:
    assert row.rate is not None
    if metric == "accuracy":
        return points[row.rate].score
    rates = sorted(points)
    trained = [points[rate].outcome == "trained" for rate in rates]
    if metric == "failure_rate":
        return 1 - sum(trained) / len(rates)
    scores = [points[rate].score for rate in rates]
    upward = scores if measure.direction == "up" else [measure.progress(score) for score in scores]
    chosen = rates.index(row.rate)
    if metric == "over_the_grid":
        return over_the_grid(upward, rates)
    if metric == "sensitivity":
        return upward[chosen] - over_the_grid(upward, rates)
    last = trains_up_to(Curve(upward, trained), chosen)
    index = -1 if last is None else last
    if gate is None or gate.unit == "step":
        return float(index)
    # Below the grid counts as a step lower than its first rate.
    lowest = math.log10(rates[0]) - (math.log10(rates[1]) - math.log10(rates[0]))
    return math.log10(rates[index]) if index >= 0 else lowest

"""Two norms' results, or one norm's in two folders, as differences paired by seed: what `compare` and gates test."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from normbench.boards.grid import Row
from normbench.compare.metrics import METRICS, Metric, Points
from normbench.gates import Gate
from normbench.sources import agree
from normbench.stats.decide import Gated
from normbench.stats.intervals import Interval
from normbench.store.records import Result
from normbench.trials import Measure


@dataclass(frozen=True)
class Contrast:
    """One metric of one norm: each seed's value in BASE and in HEAD, as it is shown; `sign` makes + better.

    `same` are seeds whose trainings were the same to the last bit, by the same code in the same environment: they tell
    nothing about a difference. `failed` is whether a seed did not train, on either side.
    """

    metric: Metric
    unit: str
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
        """HEAD minus BASE at each tested seed, signed so that + is better."""
        return [self.sign * (self.head[seed] - self.base[seed]) for seed in self.seeds]

    def gated(self, margin: float) -> Gated:
        """Return what is decided, with the place of each tested seed among all that are paired."""
        places = {seed: place for place, seed in enumerate(sorted(self.base))}
        return Gated(
            self.metric.test,
            self.differences,
            margin,
            places=[places[seed] for seed in self.seeds],
            paired=len(self.base),
        )

    @property
    def signed(self) -> bool:
        """Whether its difference is shown as BASE - HEAD: of a score that is better the lower it is, + is better."""
        return self.metric.is_score and self.sign < 0

    def shown(self, ends: Interval) -> Interval:
        """Return a difference, in which + is better, with the sign that is shown: + is worse in some metrics."""
        if self.sign > 0 or self.signed:
            return ends
        return Interval(0.0 - ends.centre, 0.0 - ends.high, 0.0 - ends.low, ends.kind)


def at_choice(row: Row, rate: float, setting: dict[str, object]) -> Row | None:
    """Return a row at another's rate and setting; None where it has no trials there."""
    if rate not in row.rates or setting not in row.settings:
        return None
    return replace(row, rate=rate, setting=row.settings.index(setting))


def contrasts(measure: Measure, base: Row, head: Row, gates: dict[str, Gate]) -> Iterator[Contrast]:
    """Yield every metric that two rows share, each row at its rate, over the seeds that are complete on both sides.

    Metrics over the grid are left out where the grids differ.
    """
    assert base.rate is not None
    assert head.rate is not None
    grid = base.rates if base.rates == head.rates else [base.rate]
    whole = _points(base, grid), _points(head, [head.rate] if len(grid) == 1 else grid)
    # A norm that does not support some rate still has an accuracy at the chosen one.
    chosen = _points(base, [base.rate]), _points(head, [head.rate])
    same_code = _same(base, head)
    for metric in METRICS.values():
        ours, theirs = chosen if metric.is_score else whole
        seeds = sorted(set(ours) & set(theirs))
        if not seeds or (len(grid) < 2 and metric.needs_grid):
            continue
        unit = metric.unit(measure, gates.get(metric.name))
        values = [
            {seed: metric.value(_seen(points[seed], row, measure), unit) for seed in seeds}
            for points, row in ((ours, base), (theirs, head))
        ]
        same = frozenset(seed for seed in seeds if same_code and _bits(ours[seed]) == _bits(theirs[seed]))
        failed = any(
            not points[seed][rate].trained
            for points, rate in ((ours, base.rate), (theirs, head.rate))
            for seed in seeds
        )
        yield Contrast(metric, unit, values[0], values[1], same, failed, metric.sign(measure))


def _points(row: Row, grid: list[float]) -> dict[int, dict[float, Result]]:
    """Return what each complete seed gave at each rate; a seed without a score at one of them is left out."""
    at_rates = {rate: row.at(rate) for rate in {*grid, row.rate} if rate is not None}
    seeds = [seed for seed in row.complete if all(seed in results for results in at_rates.values())]
    return {seed: {rate: results[seed] for rate, results in at_rates.items()} for seed in seeds}


def _bits(results: dict[float, Result]) -> dict[float, object]:
    """Return what the training at each rate gave, to be compared to the last bit."""
    names = ("outcome", "score", "validation", "series", "environment")
    return {rate: [getattr(one, name) for name in names] for rate, one in results.items()}


def _same(base: Row, head: Row) -> bool:
    prints = base.cell.norm_print, base.cell.task_print
    same = None not in prints and prints == (head.cell.norm_print, head.cell.task_print)
    return same and agree(base.files, head.files)


def _seen(points: dict[float, Result], row: Row, measure: Measure) -> Points:
    assert row.rate is not None
    rates = sorted(points)
    scores = [score for rate in rates if (score := points[rate].score) is not None]
    return Points(measure, rates, rates.index(row.rate), scores, [points[rate].trained for rate in rates])

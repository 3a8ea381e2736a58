"""Two norms' results, or one norm's in two folders, as differences paired by seed: what `compare` and gates test."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from normbench.boards.grid import Grid, Row
from normbench.boards.stability import Curve
from normbench.compare.metrics import METRICS, Metric, Points
from normbench.compare.rounding import Steps
from normbench.gates import SENSITIVITY, Gate
from normbench.sources import agree
from normbench.stats.decide import Gated
from normbench.stats.intervals import Interval
from normbench.store.records import Result
from normbench.trials import Measure

#: Scores that may be any number.
NO_STEPS = Steps()
#: One pair of fresh seeds says nothing of a difference's variance.
LEAST_FRESH = 2


@dataclass(frozen=True)
class Contrast:
    """One metric of one norm: each seed's value in BASE and in HEAD, as it is shown; `sign` makes + better.

    `before` and `after` are what the values were made from. `same` are seeds whose trainings were the same to the last
    bit, by the same code in the same environment: they tell nothing about a difference. `least` is the variance of a
    difference by rounding alone; `fresh` is whether its seeds are fresh ones.
    """

    metric: Metric
    unit: str
    base: dict[int, float]
    head: dict[int, float]
    before: dict[int, Points]
    after: dict[int, Points]
    same: frozenset[int]
    sign: int
    least: float = 0.0
    fresh: bool = False

    @property
    def seeds(self) -> list[int]:
        """The paired seeds that are tested, ascending."""
        return sorted(seed for seed in self.base if seed not in self.same)

    @property
    def differences(self) -> list[float]:
        """HEAD minus BASE at each tested seed, signed so that + is better."""
        return [self.sign * (self.head[seed] - self.base[seed]) for seed in self.seeds]

    @property
    def failed(self) -> bool:
        """Whether a seed did not train at the chosen rate, on either side."""
        return not all(points.trains for side in (self.before, self.after) for points in side.values())

    def gated(self, margin: float) -> Gated:
        """Return what is decided, with the place of each tested seed among all that are paired."""
        places = {seed: place for place, seed in enumerate(sorted(self.base))}
        return Gated(
            self.metric.test,
            self.differences,
            margin,
            places=[places[seed] for seed in self.seeds],
            paired=len(self.base),
            least=self.least,
            lost=[self.before[seed].trains - self.after[seed].trains for seed in self.seeds],
            before=[not self.before[seed].trains for seed in self.seeds],
        )

    def failures(self, tested: int) -> str:
        """Say how many of the seeds up to so many tested ones fail in HEAD that trained in BASE, and the other way."""
        unread = self.seeds[tested:]
        read = [seed for seed in sorted(self.base) if not unread or seed < unread[0]]
        sides = [(self.before[seed].trains, self.after[seed].trains) for seed in read]
        lost, won = sides.count((True, False)), sides.count((False, True))
        trained = lost + sides.count((True, True))
        points = self.after[read[0]]
        back = f", {won} the other way" if won else ""
        return (
            f"{lost} of {trained} seed{'s' * (trained != 1)} that trained in BASE fail{'s' * (lost == 1)} in HEAD at "
            f"the rate {points.rates[points.chosen]:g}{back}"
        )

    def hides_a_fall(self, seeds: Sequence[int]) -> bool:
        """Whether the sensitivity fell with the score at the chosen rate: then it is no gain."""
        if self.metric.words is not SENSITIVITY:
            return False
        before, after = (statistics.fmean(side[seed].at_chosen for seed in seeds) for side in (self.before, self.after))
        return after < before

    @property
    def signed(self) -> bool:
        """Whether its difference is shown as BASE - HEAD: of a score that is better the lower it is, + is better."""
        return self.metric.is_score and self.sign < 0

    def shown(self, ends: Interval) -> Interval:
        """Return a difference, in which + is better, with the sign that is shown: + is worse in some metrics."""
        if self.sign > 0 or self.signed:
            return ends
        return Interval(0.0 - ends.centre, 0.0 - ends.high, 0.0 - ends.low, ends.kind)


def same_norm(row: Row, other: Grid) -> Row | None:
    """Return the row of another table that is of the same norm; None where there is none."""
    return next((one for one in other.rows if one.cell.norm_id == row.cell.norm_id), None)


def at_choice(row: Row, rate: float, setting: dict[str, object]) -> Row | None:
    """Return a row at another's rate and setting; None where it has no trials there."""
    if rate not in row.rates or setting not in row.settings:
        return None
    return replace(row, rate=rate, setting=row.settings.index(setting))


def contrasts(
    measure: Measure, base: Row, head: Row, gates: dict[str, Gate], steps: Steps = NO_STEPS
) -> Iterator[Contrast]:
    """Yield every metric that two rows share, each row at its rate, over the seeds that are complete on both sides.

    The score is that of fresh seeds where both have two of the same, else that of the grid's. Metrics over the grid are
    left out where the grids differ. `steps` are those of the scores.
    """
    assert base.rate is not None
    assert head.rate is not None
    grid = base.rates if base.rates == head.rates else [base.rate]
    whole = _points(base, grid), _points(head, [head.rate] if len(grid) == 1 else grid)
    # A norm that does not support some rate still has an accuracy at the chosen one.
    chosen = _points(base, [base.rate]), _points(head, [head.rate])
    fresh = _fresh_points(base), _fresh_points(head)
    reads_fresh = len(fresh[0].keys() & fresh[1].keys()) >= LEAST_FRESH
    same_code = same_made(base, head)
    for of_score, (ours, theirs) in ((True, fresh if reads_fresh else chosen), (False, whole)):
        seeds = sorted(set(ours) & set(theirs))
        if not seeds:
            continue
        before = {seed: _seen(ours[seed], base, measure) for seed in seeds}
        after = {seed: _seen(theirs[seed], head, measure) for seed in seeds}
        same = frozenset(seed for seed in seeds if same_code and _bits(ours[seed]) == _bits(theirs[seed]))
        for metric in METRICS.values():
            if metric.is_score is not of_score or (len(grid) < 2 and metric.needs_grid):
                continue
            unit = metric.unit(measure, gates.get(metric.name))
            yield Contrast(
                metric=metric,
                unit=unit,
                base={seed: metric.value(points, unit) for seed, points in before.items()},
                head={seed: metric.value(points, unit) for seed, points in after.items()},
                before=before,
                after=after,
                same=same,
                sign=metric.sign(measure),
                least=metric.rounding((before[seeds[0]], after[seeds[0]]), steps),
                fresh=reads_fresh and of_score,
            )


def _points(row: Row, grid: list[float]) -> dict[int, dict[float, Result]]:
    """Return what each complete seed gave at each rate; a seed without a score at one of them is left out."""
    at_rates = {rate: row.at(rate) for rate in {*grid, row.rate} if rate is not None}
    seeds = [seed for seed in row.complete if all(seed in results for results in at_rates.values())]
    return {seed: {rate: results[seed] for rate, results in at_rates.items()} for seed in seeds}


def _fresh_points(row: Row) -> dict[int, dict[float, Result]]:
    """Return what each fresh seed with a score gave at the row's rate."""
    return {seed: {row.rate: result} for seed, result in row.fresh_scored().items() if row.rate is not None}


def _bits(results: dict[float, Result]) -> dict[float, object]:
    """Return what the training at each rate gave, to be compared to the last bit."""
    names = ("outcome", "score", "validation", "series", "environment")
    return {rate: [getattr(one, name) for name in names] for rate, one in results.items()}


def same_made(base: Row, head: Row) -> bool:
    """Whether two rows were made by the same code from the same files; False where the code can't be told."""
    same = None not in base.cell.prints and base.cell.prints == head.cell.prints
    return same and agree(base.files, head.files)


def own_code(base: Row, head: Row) -> bool:
    """Whether HEAD trained BASE's own code, in the same environment on the same data, so that nothing can differ."""
    ours, theirs = ({(one.environment, one.data) for one in row.results.values()} for row in (base, head))
    return same_made(base, head) and ours == theirs


def _seen(points: dict[float, Result], row: Row, measure: Measure) -> Points:
    assert row.rate is not None
    rates = sorted(points)
    results = [points[rate] for rate in rates]
    score = points[row.rate].score
    assert score is not None
    scores = [selection for result in results if (selection := result.selection) is not None]
    upward = scores if measure.direction == "up" else [measure.progress(score) for score in scores]
    return Points(rates, rates.index(row.rate), score, Curve(upward, [result.trained for result in results]))

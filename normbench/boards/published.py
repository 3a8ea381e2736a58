"""Published figures beside measured ones: where they are from, how far ours lie from them, what was not reproduced."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from normbench.boards.grid import Grid, Row
from normbench.spelling import assignments
from normbench.stats.intervals import welch_error

#: Fewer seeds have no ± on the board, and no verdict here.
LEAST_SEEDS = 3


@dataclass(frozen=True)
class Figure:
    """A norm's published score and ours, in the board's unit, and the difference, signed so that + is better.

    `spread` and `runs` are the source's standard deviation and number of runs, as far as it gives them. `half` is half
    the width of the difference's 95% interval, and `p` that of Welch's test; NaN where there is none.
    """

    norm: str
    published: float
    ours: float
    difference: float
    spread: float | None
    runs: int
    half: float = math.nan
    p: float = math.nan

    def said(self, digits: int) -> str:
        """Return the difference with its interval, as notes say it."""
        return f"{self.difference:+.{digits}f}" + ("" if math.isnan(self.half) else f" ±{self.half:.{digits}f}")

    @property
    def behind(self) -> str:
        """What the source says of its runs, in brackets."""
        runs = [f"{self.runs} run{'s' * (self.runs > 1)}"] if self.runs else []
        spread = [f"sd {self.spread:g}"] if self.spread is not None else []
        return f" ({', '.join(runs + spread)})" if runs or spread else ""


def published_score(grid: Grid, row: Row) -> float | None:
    """Return the norm's figure from elsewhere, as scores are stored."""
    figure = None if grid.published is None else grid.published.scores.get(row.label)
    return None if figure is None else figure / _scale(grid)


def published_notes(grid: Grid) -> Iterator[str]:
    """Say where published figures are from, how far ours lie from them, and which were not reproduced."""
    if grid.published is None:
        return
    yield f"published: {grid.published.source}; {grid.published.setting}"
    if grid.condition:
        here = assignments(grid.condition)
        yield f"the published figures are for the task's own recipe, not for {here}, and are not compared"
        return
    digits, unit = (2, "points") if grid.measure.unit == "%" else (3, grid.measure.unit)
    figures = list(_figures(grid))
    if figures:
        differences = ", ".join(f"{figure.norm!r} {figure.said(digits)}{figure.behind}" for figure in figures)
        yield (
            f"here against published ({unit or 'score'}; + is better here; ±: 95%, by Welch's test), with the source's "
            f"runs: {differences}"
        )
    yield from _verdicts([figure for figure in figures if not math.isnan(figure.p)], digits)
    if untested := ", ".join(repr(figure.norm) for figure in figures if math.isnan(figure.p)):
        yield (
            f"no verdict on {untested}: it takes the standard deviation and the number of the published runs, two or "
            f"more, and {LEAST_SEEDS} seeds here, all of which trained"
        )


def _figures(grid: Grid) -> Iterator[Figure]:
    from scipy.special import stdtr, stdtrit

    sign = 1 if grid.measure.direction == "up" else -1
    for row in grid.rows:
        theirs = grid.published.scores.get(row.label) if grid.published is not None else None
        scores = [_scale(grid) * score for score in row.scores().values()]
        if grid.published is None or theirs is None or not scores:
            continue
        ours = statistics.mean(scores)
        difference = sign * (ours - theirs)
        spread, runs = grid.published.spread.get(row.label), grid.published.runs.get(row.label, 0)
        half = p = math.nan
        trained = all(result.trained for result in row.chosen().values())
        if spread is not None and runs > 1 and len(scores) >= LEAST_SEEDS and trained:
            error, freedom = welch_error((statistics.variance(scores), spread**2), (len(scores), runs))
            # Where neither side varies nothing says how much another try would.
            if error:
                half, p = float(stdtrit(freedom, 0.975)) * error, 2 * float(stdtr(freedom, -abs(difference) / error))
        yield Figure(row.label, theirs, ours, difference, spread, runs, half, p)


def _verdicts(figures: Sequence[Figure], digits: int) -> Iterator[str]:
    """Say what was not reproduced, with Holm's correction over the table's figures."""
    from normbench.stats.verdicts import holm

    for figure, p in zip(figures, holm([figure.p for figure in figures]).tolist() if figures else [], strict=True):
        if p <= 0.05:
            yield (
                f"not reproduced: {figure.norm!r}, published {figure.published:g}, here {figure.ours:.{digits}f}, a "
                f"difference of {figure.said(digits)} (p {p:.2g} after Holm's correction)"
            )


def _scale(grid: Grid) -> int:
    return 100 if grid.measure.unit == "%" else 1

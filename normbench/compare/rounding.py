"""The steps of a score: a share of right samples changes by one sample at least, and is rounded to that.

How many samples there are isn't stored. It is the least common denominator of all scores of a table, or a multiple of
it; then scores count as coarser than they are, which makes nothing seem surer than it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from normbench.boards.grid import Grid

#: Of more samples than this a step is no matter, and nearly any number is a share of so many.
MOST = 100_000


@dataclass(frozen=True)
class Steps:
    """The step of the scores on test, and that of the curves, in their own unit; 0 where there is none."""

    score: float = 0.0
    curve: float = 0.0


def steps(*sides: Grid) -> Steps:
    """Return the steps of a table, from what one or two sides have of it; a score that is no share has none."""
    measure = sides[0].measure
    if measure.unit != "%":
        return Steps()
    results = [result for grid in sides for row in grid.rows for result in row.shown]
    # A trial that diverged scores chance, which need not be a number of samples.
    counted = [result for result in results if result.outcome != "diverged"]
    # Curves are in progress where a share should be low.
    scale = 1.0 if measure.direction == "up" else abs(measure.reference - measure.chance)
    return Steps(_step(result.score for result in counted), _step(result.selection for result in counted) / scale)


def _step(scores: Iterable[float | None]) -> float:
    """Return one sample's share; 0 where no number of samples gives all scores, and where it could be any."""
    samples = 1
    for score in {score for score in scores if score is not None}:
        share = Fraction(score).limit_denominator(MOST)
        samples = math.lcm(samples, share.denominator)
        if samples > MOST or not math.isclose(share, score, rel_tol=1e-12):
            return 0.0
    return 1 / samples if samples > 1 else 0.0

"""Means and medians over seeds, with their uncertainty; docs/metrics.md defines each.

scipy.special is imported where a quantile is needed: scipy.stats would cost every board half a second.
"""

from __future__ import annotations

import functools
import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Interval:
    """A centre with two ends. `kind` says what the ends are: "t", "order" or "exact" intervals, or the "min-max"."""

    centre: float
    low: float
    high: float
    kind: Literal["t", "order", "exact", "min-max"]


def mean_over_seeds(values: Sequence[float], *, level: float = 0.95, least: int = 3) -> Interval:
    """Return the mean with its Student-t interval, or, of fewer than `least` values, with their min-max.

    Raises ValueError for no values.
    """
    # Exact: a rounded sum can put the mean of equal values outside of them.
    n, mean = len(values), float(statistics.mean(values))
    if n < max(2, least):
        return Interval(mean, min(values), max(values), "min-max")
    from scipy.special import stdtrit

    half = float(stdtrit(n - 1, (1 + level) / 2)) * statistics.stdev(values) / math.sqrt(n)
    return Interval(mean, mean - half, mean + half, "t")


def welch_error(variances: Sequence[float], sizes: Sequence[int]) -> tuple[float, float]:
    """Return the standard error of the difference of two means, and its degrees of freedom (Welch 1947).

    Where neither side varies they are 0 and infinite. Raises ZeroDivisionError for a side of fewer than 2 values that
    does vary.
    """
    parts = [variance / n for variance, n in zip(variances, sizes, strict=True)]
    weight = sum(part**2 / (n - 1) for part, n in zip(parts, sizes, strict=True) if part)
    return math.sqrt(sum(parts)), sum(parts) ** 2 / weight if weight else math.inf


def median_of(values: Sequence[float], *, level: float = 0.95, on_grid: bool = False) -> Interval:
    """Return the median with the narrowest interval of order statistics, or their min-max where none covers `level`.

    The median of an even number is the mean of the middle two; `on_grid`, where values are places in a grid and there
    is nothing between two of them, it is the lower. The interval is distribution-free, [x(k), x(n + 1 - k)] with the
    largest k whose coverage is at least `level`; at 95% there is one from 6 values.

    Raises ValueError for no values.
    """
    median = statistics.median_low(values) if on_grid else statistics.median(values)
    ordered, k = sorted(values), _order(len(values), level)
    if k == 0:
        return Interval(median, ordered[0], ordered[-1], "min-max")
    return Interval(median, ordered[k - 1], ordered[-k], "order")


def ratio_over_rounds(baseline: Sequence[float], seconds: Sequence[float]) -> Interval:
    """Return how many times as fast as the baseline something is: the median of its rounds' ratios, with its interval.

    Both are seconds, one number per round.
    """
    return median_of([theirs / ours for theirs, ours in zip(baseline, seconds, strict=True)])


@functools.cache
def _order(n: int, level: float) -> int:
    """Return the largest k with which [x(k), x(n + 1 - k)] covers the median at `level`; 0 where none does."""
    tails = itertools.accumulate(math.comb(n, k) / 2**n for k in range(n + 1))
    return next(k for k, tail in enumerate(tails) if 2 * tail > 1 - level)


def clopper_pearson(k: int, n: int, *, level: float = 0.95) -> Interval:
    """Return the share k / n with its Clopper-Pearson interval.

    It covers with probability `level` or more, whatever the true share.

    Raises ValueError unless 0 <= k <= n and n >= 1.
    """
    if not 0 <= k <= n or n < 1:
        raise ValueError(f"{k} of {n} is no share")
    from scipy.special import betaincinv

    tail = (1 - level) / 2
    low = float(betaincinv(k, n - k + 1, tail)) if k else 0.0
    high = float(betaincinv(k + 1, n - k, 1 - tail)) if k < n else 1.0
    return Interval(k / n, low, high, "exact")


def unseen_failures(n: int) -> float:
    """Return the largest share of seeds that a failure can strike and still stay unseen in n seeds, 1 time in 20."""
    return float(1 - 0.05 ** (1 / n))


def flattery(choices: int, n: int) -> float:
    """Return by how much the best of equal choices looks better than it is at the n seeds that chose it, on average.

    In standard deviations of a seed; the mean of the largest of normal draws is Blom's (1958), within .03.
    """
    return statistics.NormalDist().inv_cdf((choices - 0.375) / (choices + 0.25)) / math.sqrt(n)

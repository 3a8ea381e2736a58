"""Ranks with intervals: which norm is surely better than which other, from seeds that they share.

Every pair of norms is compared by the differences paired by seed, all pairs at once. Arrays have the shape
(..., norms, seeds), so that thousands of simulated tables are as quick as one.
"""

from __future__ import annotations

import itertools
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from normbench.stats.verdicts import holm

Scores: TypeAlias = NDArray[np.float64]
Sure: TypeAlias = NDArray[np.bool_]

#: The table's variance counts for this many degrees of freedom at most, beside the n - 1 of a pair's own.
SHARED = 4
#: Pairs share it from this number of seeds on, where Bartlett's test of the norms' spreads has a larger p than this.
SHARED_FROM, ALIKE = 3, 0.3
#: A difference that is smaller, relative to the scores, is one of rounding.
ROUNDING = 1e-12


def surely_better(scores: Scores, *, level: float = 0.95) -> Sure:
    """Return for tables of scores (..., norms, seeds) whether norm i is surely better than j, as (..., norms, norms).

    More is better; NaN is a score that is not there. A pair is compared on the seeds that both have, two or more, by a
    two-sided t test of the differences, with Holm's correction over all pairs of the table: that any claim is wrong has
    probability 1 - `level` at most.

    A few seeds say little of a pair's variance v. From 3 on, and where the norms' own spreads are `alike`, it is shrunk
    to that of the table, v0, and never below itself: max(v, (4 v0 + (n - 1) v) / (n + 3)), with n + 3 degrees of
    freedom, where v0 is the median of v over the pairs divided by the median of chi-squared(n - 1) / (n - 1). Three
    norms may have fewer than 4 degrees of freedom beside a pair's own, and two have none: then that number replaces the
    4. Else it is the plain paired t, with n - 1.
    """
    scores = np.asarray(scores, dtype=np.float64)
    norms = scores.shape[-2]
    above, below = np.triu_indices(norms, 1)
    differences = scores[..., above, :] - scores[..., below, :]
    size = np.maximum(np.abs(scores[..., above, :]), np.abs(scores[..., below, :]))
    differences = np.where(np.abs(differences) <= ROUNDING * size, 0.0, differences)
    known = ((~np.isnan(scores)).sum(axis=-1) >= 2).sum(axis=-1)
    mean, p = _tested(differences, np.where(alike(scores), known, 0))
    sure = holm(p) <= 1 - level
    better = np.zeros((*scores.shape[:-1], norms), dtype=bool)
    better[..., above, below] = sure & (mean > 0)
    better[..., below, above] = sure & (mean < 0)
    return better


def rank_intervals(better: Sure) -> tuple[NDArray[np.int_], NDArray[np.int_]]:
    """Return the lower and upper ends (..., norms) of the ranks that `surely_better` leaves a norm.

    They are 1 + the norms surely better, and the number of norms less those surely worse; all hold their norm's true
    rank at once, with the probability that no claim of `better` is wrong.
    """
    return 1 + better.sum(axis=-2), better.shape[-1] - better.sum(axis=-1)


def groups(better: Sure) -> list[int]:
    """Return the group of each norm of one table, from 1, the norms given best first.

    A group is cut where every norm above is surely better than every norm below.
    """
    cuts = [int(better[:i, i:].all()) for i in range(len(better))]  # the first norm's, which has none above it, is 1
    return list(itertools.accumulate(cuts))


def comparable(scores: Scores) -> bool:
    """Whether any two norms of one table (norms, seeds) share the two seeds that a comparison takes."""
    there = (~np.isnan(scores)).astype(int)
    shared = there @ there.T
    return bool((shared[np.triu_indices(len(there), 1)] >= 2).any())


def alike(scores: Scores) -> Sure:
    """Return for tables of scores (..., norms, seeds) whether the norms' own spreads are alike, as (...).

    That is whether Bartlett's test of equal variances has p > .3, over the norms with two seeds or more. Where a norm
    does not vary, or there is only one, they are not.
    """
    from scipy.special import chdtrc, xlogy

    there = ~np.isnan(scores)
    n = there.sum(axis=-1)
    free = np.maximum(n - 1, 0)
    # Nothing varies: 0 / 0. A huge finite score may overflow.
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        mean = np.where(there, scores, 0.0).sum(axis=-1) / np.maximum(n, 1)
        squares = (np.where(there, scores - mean[..., None], 0.0) ** 2).sum(axis=-1)
        every, norms = free.sum(axis=-1), (free > 0).sum(axis=-1)
        own = xlogy(free, squares / np.maximum(free, 1)).sum(axis=-1)
        statistic = xlogy(every, squares.sum(axis=-1) / every) - own
        small = (np.where(free > 0, 1 / free, 0.0).sum(axis=-1) - 1 / every) / (3 * (norms - 1))
        p = chdtrc(norms - 1, statistic / (1 + small))
    return np.asarray(p > ALIKE)


def _tested(differences: Scores, norms: NDArray[np.int_]) -> tuple[Scores, Scores]:
    """Return the mean difference of each pair (..., pairs), and its two-sided p, NaN where no two seeds are shared.

    `norms` (...) is how many norms the table's variance is from; 0 where pairs share none.
    """
    from scipy.special import gammaincinv, stdtr

    there = ~np.isnan(differences)
    n = there.sum(axis=-1)
    tested = n >= 2
    free = np.where(tested, n - 1, 1)
    # A huge finite score may overflow: such a pair is then not told apart.
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        mean = np.where(there, differences, 0.0).sum(axis=-1) / np.maximum(n, 1)
        spread = np.where(there, differences - mean[..., None], 0.0)
        v = (spread**2).sum(axis=-1) / free
        c = 2 * gammaincinv(free / 2, 0.5) / free
        v0 = _median(np.where(tested, v / c, np.nan))
        shared = np.where(n >= SHARED_FROM, np.clip((norms - 2)[..., None] * free, 0, SHARED), 0)
        shrunk = np.where(shared > 0, np.maximum(v, (shared * v0[..., None] + free * v) / (shared + free)), v)
        t = np.abs(mean) / np.sqrt(shrunk / np.maximum(n, 1))
        # Where nothing varies, in the pair or in the table, nothing says how much it would with other seeds.
        told = np.isfinite(t) & (shrunk > (ROUNDING * mean) ** 2)
        p = np.where(told, 2 * stdtr(shared + free, -t), 1.0)
    return mean, np.where(tested, p, np.nan)


def _median(values: Scores) -> Scores:
    """Return the median over the last axis without NaN; NaN where there is nothing else."""
    ordered = np.sort(values, axis=-1)
    count = (~np.isnan(values)).sum(axis=-1)[..., None]
    if not values.shape[-1]:
        return np.full(values.shape[:-1], np.nan)
    low = np.take_along_axis(ordered, np.maximum(count - 1, 0) // 2, axis=-1)
    high = np.take_along_axis(ordered, np.minimum(count // 2, values.shape[-1] - 1), axis=-1)
    return np.asarray((low + high)[..., 0] / 2)

"""Is it worse? Tests of "no worse than a margin", on arrays; docs/metrics.md defines each.

Differences are signed so that + is better, and margins are above 0. A test's p is of the hypothesis that the true loss
is at most half the margin: small where it is surely more. scipy.special is imported where a quantile is needed.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from normbench.stats.intervals import Interval, welch_error

Floats: TypeAlias = NDArray[np.float64]

#: How often each of a gate's two errors may happen: a loss of up to m/2 called regressed, one of m or more called ok.
ALPHA = 0.05
#: The least share of seeds that is taken to fail by chance on either side. Where fewer fail the count of failures errs
#: less; where more fail in BASE, their share is taken, or a norm that fails at half its seeds would regress by chance.
FAILURE_SHARE = 0.13


class Tested(NamedTuple):
    """A centre with its two ends, each of which errs with at most `alpha`; p; and whether "no worse than m" is sure.

    Each is an array, one number per row.
    """

    centre: Floats
    low: Floats
    high: Floats
    p: Floats
    ok: NDArray[np.bool_]

    @property
    def interval(self) -> Interval:
        """Where there is one row: its centre and ends."""
        return Interval(float(self.centre), float(self.low), float(self.high), "t")


def mean_test(differences: Any, margin: Any, alpha: float = ALPHA, least: Any = 0.0) -> Tested:
    """Test means of differences, shape (..., n) with n >= 2, by Student's paired t.

    `ok`: the lower end is above -margin. `least` is the least variance that a difference may have: scores that are
    rounded to steps are often equal by chance. Raises ValueError for fewer than 2 differences.
    """
    from scipy.special import stdtr, stdtrit

    values = np.asarray(differences, dtype=float)
    n = values.shape[-1]
    if n < 2:
        raise ValueError(f"{n} differences; a t test needs 2")
    mean = values.mean(-1)
    error = np.sqrt(np.maximum(values.var(-1, ddof=1), least) / n)
    half = float(stdtrit(n - 1, 1 - alpha)) * error
    p, ok = _against(mean, error, half, margin, np.asarray(margin) / 2, lambda t: stdtr(n - 1, t))
    return Tested(mean, mean - half, mean + half, p, ok)


def two_sample_test(base: Sequence[float], head: Sequence[float], margin: float, half: float) -> Tested:
    """Test the difference head - base of two means by Welch's t; `half` is what counts as half the margin."""
    from scipy.special import stdtr, stdtrit

    error, freedom = welch_error([float(np.var(side, ddof=1)) for side in (base, head)], [len(base), len(head)])
    mean = np.asarray(np.mean(head) - np.mean(base))
    width = float(stdtrit(freedom, 1 - ALPHA)) * error if error else 0.0
    p, ok = _against(mean, np.asarray(error), width, margin, half, lambda t: stdtr(freedom, t))
    return Tested(mean, mean - width, mean + width, p, ok)


def _against(
    mean: Floats, error: Floats, width: Any, margin: Any, half_margin: Any, below: Callable[[Floats], Floats]
) -> tuple[Floats, NDArray[np.bool_]]:
    """Return p of a loss of at most half the margin, and whether the lower end is above a loss of the margin."""
    beyond = mean + half_margin
    # Differences that are all equal leave no doubt, in either direction.
    with np.errstate(divide="ignore", invalid="ignore"):
        p = np.where(error > 0, below(beyond / error), np.where(beyond < 0, 0.0, 1.0))
    return p, np.asarray(mean - width > -np.asarray(margin))


def failures_to_tell(seeds: int, alpha: float = ALPHA, before: int = 0) -> int:
    """Return how many more seeds must fail in HEAD alone than in BASE alone to be no chance, of so many seeds.

    It is the smallest net count whose probability is at most `alpha` where on both sides each seed fails independently:
    with the share of `before`, how many fail in BASE, or with `FAILURE_SHARE` where that is more. It is one more than
    there are seeds where no count is so rare.
    """
    return next((k for k in range(seeds + 1) if failures_p(seeds, k, before) <= alpha), seeds + 1)


def failures_p(seeds: int, net: int, before: int = 0) -> float:
    """Return the probability that at least `net` more of so many seeds fail in HEAD alone than in BASE alone.

    On both sides each seed fails independently, with the share that `failures_to_tell` says.
    """
    return float(_net_tails(seeds, before)[net + seeds])


@functools.lru_cache(maxsize=1024)
def _net_tails(seeds: int, before: int) -> Floats:
    """Return P(net >= k) for k = -seeds ... seeds: a seed adds 1, takes 1 away, or is alike on both sides."""
    share = max(FAILURE_SHARE, before / seeds)
    alone = share * (1 - share)
    chances = np.ones(1)
    for _ in range(seeds):
        chances = np.convolve(chances, [alone, 1 - 2 * alone, alone])
    return np.cumsum(chances[::-1])[::-1]


def sign_test(differences: Any) -> Floats:
    """Return p of the exact one-sided sign test, shape (..., n) -> (...): small where most differences are below 0.

    Differences of 0 are dropped.
    """
    from scipy.special import bdtr

    values = np.asarray(differences, dtype=float)
    falls, rises = (values < 0).sum(-1), (values > 0).sum(-1)
    # P(X >= falls) of as many fair coins as there are differences that are not 0 is P(X <= rises).
    return np.asarray(bdtr(rises.astype(float), falls + rises, 0.5))


def most_tolerate(differences: Any, margin: Any, alpha: float = ALPHA) -> NDArray[np.bool_]:
    """Return whether surely fewer than half of all seeds lose the margin or more, from differences (..., n).

    The one-sided Clopper-Pearson bound of their share is below 1/2.
    """
    from scipy.special import bdtr

    values = np.asarray(differences, dtype=float)
    n = values.shape[-1]
    lost = (values <= -np.asarray(margin)[..., None] * (1 - 1e-9)).sum(-1)
    # The bound is below 1/2 exactly where this few would be a surprise at a share of 1/2.
    return np.asarray(bdtr(lost.astype(float), n, 0.5) < alpha)


def holm(p: Any) -> Floats:
    """Return p-values adjusted for testing all rows at once, shape (..., rows) (Holm 1979); NaN is no test."""
    values = np.asarray(p, dtype=float)
    order = np.argsort(values, axis=-1, kind="stable")
    factors = (~np.isnan(values)).sum(-1)[..., None] - np.arange(values.shape[-1])
    stepped = np.maximum.accumulate(np.take_along_axis(values, order, -1) * factors, axis=-1)
    adjusted = np.empty_like(values)
    np.put_along_axis(adjusted, order, np.minimum(stepped, 1.0), axis=-1)
    return adjusted


def hodges_lehmann(
    base: Sequence[float], head: Sequence[float], margin: float, half: float, apart: float = 0.0
) -> Tested:
    """Test the shift head - base of two samples: the median of all differences, by ranks (Hodges & Lehmann 1963).

    The ends are those of the exact Mann-Whitney test, each moved outwards by `apart`, by which the samples may lie
    apart though nothing changed; `half` is what counts as half the margin.
    """
    shifts = np.sort(np.subtract.outer(np.asarray(head), np.asarray(base)).ravel())
    left = _left_tails(len(base), len(head))
    # The largest k with P(U < k) <= alpha: the k-th shift from either end bounds the true one.
    k = int(np.searchsorted(left, ALPHA, side="right"))
    low, high = (shifts[k - 1] - apart, shifts[-k] + apart) if k else (-math.inf, math.inf)
    # How many pairs are above a shift of -half: few where the shift is surely below.
    above = int((shifts + apart > -half).sum())
    arrays = [np.asarray(value) for value in (np.median(shifts), low, high, left[above], low > -margin)]
    return Tested(*arrays)


@functools.lru_cache(maxsize=64)
def _left_tails(m: int, n: int) -> Floats:
    """Return P(U <= u) of the Mann-Whitney statistic for u = 0 ... mn, where both samples are of one distribution."""
    if m * n > 1600:  # exact no longer differs from the normal approximation where it matters
        from scipy.special import ndtr

        every = np.arange(m * n + 1)
        return np.asarray(ndtr((every + 0.5 - m * n / 2) / math.sqrt(m * n * (m + n + 1) / 12)))
    # The numbers of orders with each U are the coefficients of a Gaussian binomial, in whole numbers.
    counts = [1] + [0] * (m * n)
    for i in range(1, m + 1):
        for u in range(m * n, n + i - 1, -1):
            counts[u] -= counts[u - n - i]
        for u in range(i, m * n + 1):
            counts[u] += counts[u - i]
    total = math.comb(m + n, m)
    return np.asarray([tail / total for tail in itertools.accumulate(counts)])


def power(spread: float, margin: float, seeds: int, rows: int = 1) -> float:
    """Return the probability that a loss of 2 margins is called regressed, where `rows` are gated together.

    `spread` is the standard deviation of the differences.
    """
    from scipy.special import nctdtr, stdtrit

    if seeds < 2:
        return 0.0
    if spread == 0:
        return 1.0
    bound = float(stdtrit(seeds - 1, 1 - ALPHA / rows))
    distance = 1.5 * margin * math.sqrt(seeds) / spread
    return 1.0 if distance > 30 else float(1 - nctdtr(seeds - 1, distance, bound))


def seeds_for_power(spread: float, margin: float, rows: int = 1, wanted: float = 0.5) -> int:
    """Return how many seeds it takes to call a loss of 2 margins regressed with probability `wanted`."""
    return next((n for n in range(2, 2000) if power(spread, margin, n, rows) >= wanted), 2000)


def seeds_for_sign_test(rows: int = 1, alpha: float = ALPHA) -> int:
    """Return how many seeds an exact sign test needs to reject anything, where `rows` are gated together."""
    return math.ceil(math.log2(rows / alpha))


def seeds_to_decide(spread: float, margin: float, loss: bool) -> int:
    """Return about how many seeds decide a gate on a mean: where nothing changed, or where the loss is the margin."""
    return math.ceil(((5.0 if loss else 2.5) * spread / margin) ** 2 + 2)

"""Ranks with intervals: against a reckoning pair by pair with scipy.stats, and how often they hold the true ranks."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from normbench.stats.ranking import ALIKE, alike, comparable, groups, rank_intervals, surely_better

TABLES = 1500


def by_hand(scores: np.ndarray) -> np.ndarray:
    """Return which norm is surely better than which, as docs/metrics.md defines it, pair by pair; NaN is no score."""
    norms = len(scores)
    shared = {}
    for i, j in itertools.combinations(range(norms), 2):
        differences = (scores[i] - scores[j])[~np.isnan(scores[i] - scores[j])]
        if len(differences) >= 2:
            shared[i, j] = differences
    variances = [np.var(d, ddof=1) / (stats.chi2.median(len(d) - 1) / (len(d) - 1)) for d in shared.values()]
    known = [row[~np.isnan(row)] for row in scores if (~np.isnan(row)).sum() >= 2]
    shrinks = len(known) > 1 and stats.bartlett(*known).pvalue > 0.3
    p = {}
    for pair, d in shared.items():
        n, v = len(d), np.var(d, ddof=1)
        extra = min(4, (len(known) - 2) * (n - 1)) if shrinks and n >= 3 else 0
        shrunk = max(v, (extra * np.median(variances) + (n - 1) * v) / (n - 1 + extra))
        p[pair] = 2 * stats.t.sf(abs(d.mean()) / np.sqrt(shrunk / n), n - 1 + extra)
    better = np.zeros((norms, norms), dtype=bool)
    for place, (i, j) in enumerate(sorted(p, key=p.__getitem__)):
        if p[i, j] > 0.05 / (len(p) - place):
            break
        better[(i, j) if shared[i, j].mean() > 0 else (j, i)] = True
    return better


@pytest.mark.parametrize("norms", [2, 3, 4, 8])
@pytest.mark.parametrize("seeds", [2, 3, 6])
@pytest.mark.parametrize("spreads", [1.0, 30.0])
def test_claims_are_those_of_holm_on_paired_tests(norms: int, seeds: int, spreads: float) -> None:
    """Where spreads are alike, from 3 seeds, a pair's variance is shrunk to the table's; Holm goes over all pairs."""
    wide = np.geomspace(1.0, spreads, norms)[:, None]
    tables = np.random.default_rng(norms).normal(size=(20, norms, seeds)) * wide + 3.0 * np.arange(norms)[:, None]
    expected = np.array([by_hand(table) for table in tables])

    actual = surely_better(tables)

    assert expected.tolist() == actual.tolist()
    assert seeds == 2 or spreads > 1 or actual.any()


def test_pairs_stand_on_the_seeds_that_both_have() -> None:
    """A norm that lacks seeds is compared on those it has; a pair with less than two is no hypothesis."""
    scores = np.random.default_rng(5).normal(size=(5, 6)) + 4.0 * np.arange(5)[:, None]
    scores[0, :2], scores[3, 3:], scores[4, 1:] = np.nan, np.nan, np.nan

    better = surely_better(scores)

    assert by_hand(scores).tolist() == better.tolist()
    assert (True, True, False) == (better[3, 1], better[2, 0], better[3, 0])
    assert not better[4].any()
    assert not better[:, 4].any()


@pytest.mark.parametrize("norms", [2, 4, 20])
def test_spreads_are_alike_by_bartletts_test(norms: int) -> None:
    """On norms that lack seeds, each with its own number, it is the test of any statistics package."""
    rng = np.random.default_rng(norms)
    tables = rng.normal(size=(50, norms, 6)) * rng.choice([1.0, 1.5], size=(50, norms, 1))
    tables[:, 0, 3:] = tables[:, -1, 4:] = np.nan
    expected = [stats.bartlett(*[row[~np.isnan(row)] for row in table]).pvalue > ALIKE for table in tables]

    found = alike(tables)

    assert expected == found.tolist()
    assert 5 < found.sum() < 45


@pytest.mark.parametrize(
    "scores",
    [
        [[0.8, 0.8, 0.8], [0.8, 0.7, 0.9]],
        [[0.8, 0.8, 0.8], [0.5, 0.5, 0.5]],
        [[0.8, 0.7, 0.9]],
        [[0.8, 0.7, 0.9], [0.8, np.nan, np.nan]],
        [[1e300, -1e300, 1.0], [0.1, 0.2, 0.3]],
    ],
    ids=["one does not vary", "none varies", "one norm", "one norm with two seeds", "huge"],
)
@pytest.mark.filterwarnings("error")
def test_spreads_that_can_not_be_compared_are_not_alike(scores: list[list[float]]) -> None:
    """Without two spreads above 0 there is nothing to share, and no division by 0."""
    assert not alike(np.array(scores))


def test_a_wild_norm_takes_no_certainty_from_calm_ones() -> None:
    """Where a norm's seeds vary 30 times as much, the others are told apart by their own differences."""
    calm = np.random.default_rng(3).normal(size=(3, 5)) + 20.0 * np.arange(3)[:, None]
    wild = np.array([[300.0, -200.0, 90.0, -310.0, 140.0]])

    better = surely_better(np.vstack([calm, wild]))

    assert [0, 1, 2] == better[:3, :3].sum(axis=1).tolist()
    assert not better[3].any()


def test_an_interval_counts_who_is_surely_better_and_worse() -> None:
    """From 1 + those surely better to the number of norms less those surely worse."""
    better = np.zeros((4, 4), dtype=bool)
    better[0, 2] = better[0, 3] = better[1, 3] = True

    low, high = rank_intervals(better)

    assert ([1, 1, 2, 3], [2, 3, 4, 4]) == (low.tolist(), high.tolist())


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ("", [1, 1, 1, 1]),
        ("02 03 12 13", [1, 1, 2, 2]),
        ("01 02 03", [1, 2, 2, 2]),
        ("01 02 03 12 13 23", [1, 2, 3, 4]),
        ("02 03 13", [1, 1, 1, 1]),
    ],
)
def test_a_group_is_cut_where_all_above_beat_all_below(claims: str, expected: list[int]) -> None:
    """One pair across a cut that can't be told apart is enough for one group."""
    better = np.zeros((4, 4), dtype=bool)
    for i, j in claims.split():
        better[int(i), int(j)] = True

    found = groups(better)

    assert expected == found


@pytest.mark.parametrize(
    "scores",
    [
        np.full((3, 4), 0.8),
        np.array([[0.9] * 3, [0.8] * 3, [0.1] * 3]),
        np.array([[0.9, 0.8, 0.7], [0.8, 0.7, 0.6]]),
        np.array([[1e300, -1e300, 1.0], [0.1, 0.2, 0.3], [0.5, 0.4, 0.6]]),
        np.array([[0.9, np.nan], [np.nan, 0.8], [0.7, np.nan]]),
        np.array([[0.9, 0.8, 0.7]]),
    ],
    ids=["equal", "no spread", "no spread but rounding", "huge", "nothing shared", "alone"],
)
@pytest.mark.filterwarnings("error")
def test_nothing_is_sure_where_nothing_tells(scores: np.ndarray) -> None:
    """Where no difference varies, or overflows, or no two seeds are shared, there is no claim, and no division by 0."""
    better = surely_better(scores)

    assert not better.any()


def test_equal_norms_do_not_hide_that_another_is_worse() -> None:
    """Norms that are the same at every seed share all claims, and are in none against one another."""
    scores = np.array([[0.91, 0.9, 0.92, 0.9], [0.91, 0.9, 0.92, 0.9], [0.3, 0.28, 0.33, 0.31]])

    better = surely_better(scores)

    assert [[0, 0, 1], [0, 0, 1], [0, 0, 0]] == better.astype(int).tolist()


@pytest.mark.parametrize(
    ("scores", "expected"),
    [([[1, 2], [3, 4]], True), ([[1, np.nan], [3, 4]], False), ([[1, 2, np.nan], [np.nan, 2, 3], [1, 2, 3]], True)],
)
def test_comparable_norms_share_two_seeds(scores: list[list[float]], expected: bool) -> None:
    """One pair with two seeds in common is enough."""
    found = comparable(np.array(scores, dtype=float))

    assert expected == found


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Return scores of standard deviation 1."""
    return rng.normal(size=shape)


def skewed(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Return scores near saturation, 1 - Beta(2, 98), scaled to a standard deviation of 1."""
    return -rng.beta(2, 98, size=shape) / np.sqrt(2 * 98 / (100**2 * 101))


@pytest.mark.parametrize("draw", [normal, skewed])
@pytest.mark.parametrize("apart", [0.0, 1.0], ids=["equal", "spread out"])
@pytest.mark.parametrize("norms", [2, 5, 20])
@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_intervals_hold_all_true_ranks_at_once(draw, apart: float, norms: int, seeds: int) -> None:
    """In 95% of tables, less the error of simulation, all intervals hold every rank that is true of their norm.

    Norms stand in pairs of equals, or are all equal. A norm's true ranks are those from 1 + the norms truly better to
    the number of norms less those truly worse: each of them may be said of it.
    """
    true = apart * (np.arange(norms) // 2)
    first, last = 1 + (true > true[:, None]).sum(1), norms - (true < true[:, None]).sum(1)
    scores = draw(np.random.default_rng(norms * seeds), (TABLES, norms, seeds)) + true[:, None]
    error = (0.95 * 0.05 / TABLES) ** 0.5

    low, high = rank_intervals(surely_better(scores))
    coverage = ((low <= first) & (last <= high)).all(axis=-1).mean()

    assert coverage >= 0.95 - 4 * error


def test_shrinking_lets_three_seeds_tell_twenty_norms_apart() -> None:
    """With 190 pairs and three seeds, norms four standard deviations apart are told apart; plain t tests tell few."""
    scores = np.random.default_rng(1).normal(size=(20, 3)) + 4.0 * np.arange(20)[:, None]
    plain = [stats.ttest_rel(scores[j], scores[i]).pvalue for i, j in itertools.combinations(range(20), 2)]

    better = surely_better(scores)

    assert better.sum() > 150
    assert sum(p < 0.05 / 190 for p in plain) < 75

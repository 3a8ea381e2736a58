"""Tests of "no worse than a margin", held against scipy.stats and against their definitions."""

import math

import numpy as np
import pytest
from scipy import stats

from normbench.stats.verdicts import (
    failures_p,
    failures_to_tell,
    hodges_lehmann,
    holm,
    mean_test,
    most_tolerate,
    power,
    seeds_for_power,
    seeds_for_sign_test,
    seeds_to_decide,
    sign_test,
    two_sample_test,
)

MARGIN = 0.02


@pytest.fixture
def drawn():
    """Return a generator of random numbers, the same in each run."""
    return np.random.default_rng(1)


@pytest.mark.parametrize("n", [2, 3, 5, 12])
@pytest.mark.parametrize("alpha", [0.05, 0.01])
def test_the_test_of_a_mean_is_the_paired_t_test(drawn, n, alpha):
    """Its p is that of a loss of at most half the margin, and each end errs with at most alpha."""
    differences = drawn.normal(-0.01, 0.02, size=(7, n))

    found = mean_test(differences, MARGIN, alpha)

    expected = stats.ttest_1samp(differences, -MARGIN / 2, axis=-1, alternative="less")
    ends = stats.ttest_1samp(differences, 0, axis=-1).confidence_interval(1 - 2 * alpha)
    assert pytest.approx(differences.mean(-1)) == found.centre
    assert pytest.approx(expected.pvalue) == found.p
    assert pytest.approx(ends.low) == found.low
    assert pytest.approx(ends.high) == found.high
    assert list(ends.low > -MARGIN) == list(found.ok)


def test_a_mean_is_surely_worse_than_half_the_margin_where_its_upper_end_is():
    """Its p is below alpha exactly where the upper end is below half the margin."""
    differences = np.random.default_rng(2).normal(-0.02, 0.015, size=(400, 5))

    found = mean_test(differences, MARGIN)

    assert list(found.high < -MARGIN / 2) == list(found.p < 0.05)
    assert 0 < (found.p < 0.05).sum() < 400


@pytest.mark.parametrize(
    ("difference", "p", "ok"), [(0.0, 1.0, True), (-0.005, 1.0, True), (-0.015, 0.0, True), (-0.03, 0.0, False)]
)
def test_equal_differences_leave_no_doubt(difference, p, ok):
    """Differences that are all the same have no spread: p is 0 or 1."""
    found = mean_test([difference] * 4, MARGIN)

    assert (p, ok) == (float(found.p), bool(found.ok))


def test_rounding_is_the_least_that_differences_vary(drawn):
    """Where differences vary less than rounding does, the test is the t test with rounding's variance instead."""
    differences = drawn.normal(-0.01, 0.02, size=(40, 2))

    found = mean_test(differences, MARGIN, least=1e-4)

    spread = np.maximum(differences.std(-1, ddof=1), 0.01)
    assert 0 < (spread == 0.01).sum() < 40
    t = (differences.mean(-1) + MARGIN / 2) / (spread / 2**0.5)
    assert pytest.approx(stats.t.cdf(t, 1)) == found.p
    assert pytest.approx(differences.mean(-1) + stats.t.ppf(0.95, 1) * spread / 2**0.5) == found.high


def test_one_difference_is_refused():
    """A t test needs two differences."""
    with pytest.raises(ValueError, match="1 differences; a t test needs 2"):
        mean_test([0.1], MARGIN)


@pytest.mark.parametrize("sizes", [(3, 3), (3, 5), (8, 4)])
def test_the_test_of_two_samples_is_welchs(drawn, sizes):
    """p, ends and ok are those of Welch's t, with half the margin as it is given."""
    base, head = drawn.normal(0, 0.01, sizes[0]), drawn.normal(-0.05, 0.03, sizes[1])

    found = two_sample_test(base, head, 0.1, 0.04)

    expected = stats.ttest_ind(head, base - 0.04, equal_var=False, alternative="less")
    ends = stats.ttest_ind(head, base, equal_var=False).confidence_interval(0.9)
    assert pytest.approx(expected.pvalue) == float(found.p)
    assert pytest.approx((ends.low, ends.high)) == (float(found.low), float(found.high))
    assert (ends.low > -0.1) == bool(found.ok)


def test_two_samples_without_a_spread_leave_no_doubt():
    """Sessions that are all equal differ by exactly what they show."""
    found = two_sample_test([0.0] * 3, [-0.2] * 3, 0.1, 0.05)

    assert pytest.approx((-0.2, -0.2, -0.2, 0.0)) == tuple(float(number) for number in found[:4])
    assert not found.ok


@pytest.mark.parametrize(("before", "share"), [(0, 0.13), (1, 0.13), (4, 0.5)])
@pytest.mark.parametrize("seeds", [8, 20])
def test_the_chance_of_failures_is_that_of_independent_ones(seeds, before, share):
    """Each seed fails with BASE's share, at least in 13 of 100 cases; a net count's chance is summed over outcomes."""
    share, before = (share, before * seeds // 8)
    alone = share * (1 - share)
    of_outcomes = stats.multinomial(seeds, [alone, alone, 1 - 2 * alone])
    chances = {
        (head, base): of_outcomes.pmf([head, base, seeds - head - base])
        for head in range(seeds + 1)
        for base in range(seeds + 1 - head)
    }

    for net in range(-seeds, seeds + 1):
        expected = sum(chance for (head, base), chance in chances.items() if head - base >= net)
        assert pytest.approx(expected) == failures_p(seeds, net, before)


def test_the_failures_that_tell_are_the_fewest():
    """Two up to 3 seeds, three to 10, four to 20; at smaller parts of 5% more. Two of one seed there are not."""
    at_5 = [failures_to_tell(seeds) for seeds in range(1, 21)]

    assert [2] * 3 + [3] * 7 + [4] * 10 == at_5
    for seeds in range(2, 30):
        for alpha in (0.05, 0.01):
            found = failures_to_tell(seeds, alpha)
            assert failures_p(seeds, found - 1) > alpha
            assert found > seeds or failures_p(seeds, found) <= alpha


@pytest.mark.parametrize("values", [[-1, -1, 1, -2, -0.5], [-1, 0, 0, 2, -3], [-1] * 7, [1, 2, 3]])
def test_the_sign_test_is_the_binomial_one(values):
    """Differences of 0 are dropped; p is that of so many falls or more among fair coins."""
    found = float(sign_test(values))

    falls, rises = sum(value < 0 for value in values), sum(value > 0 for value in values)
    assert pytest.approx(stats.binomtest(falls, falls + rises, alternative="greater").pvalue) == found


def test_the_sign_test_of_nothing_but_ties_rejects_nothing():
    """Where no seed differs p is 1."""
    found = float(sign_test([0.0, 0.0, 0.0]))

    assert 1.0 == found


@pytest.mark.parametrize("n", [3, 4, 5, 8, 10])
def test_most_tolerate_where_the_bound_of_the_share_is_below_a_half(n):
    """The one-sided Clopper-Pearson bound of the share of seeds that lost the margin decides."""
    for lost in range(n + 1):
        differences = [-1.0] * lost + [0.0] * (n - lost)

        found = bool(most_tolerate(differences, 1.0))

        bound = stats.binomtest(lost, n).proportion_ci(0.9, method="exact").high
        assert (bound < 0.5) == found


def test_a_loss_of_just_the_margin_counts_as_lost_despite_rounding():
    """log10(3) - log10(1) is a step of .477 decades, whatever the last bit says."""
    step = math.log10(0.3) - math.log10(0.1)

    found = bool(most_tolerate([-(math.log10(3) - math.log10(1))] * 5, step))

    assert not found


def test_holm_is_its_definition():
    """The i-th smallest of m p-values is multiplied by m - i + 1, never below an earlier one, at most 1."""
    p = [0.04, 0.001, 0.3, 0.01, 0.6]

    found = holm(p)

    ordered = sorted(p)
    stepped = [max(min(1.0, (5 - j) * ordered[j]) for j in range(i + 1)) for i in range(5)]
    assert pytest.approx([stepped[ordered.index(each)] for each in p]) == list(found)
    assert pytest.approx([0.12, 0.005, 0.6, 0.04, 0.6]) == list(found)


@pytest.mark.parametrize("sizes", [(3, 3), (5, 9), (9, 9), (15, 7)])
def test_the_shift_of_rounds_is_tested_by_the_exact_mann_whitney_test(drawn, sizes):
    """Its p is the exact test's of a shift of half the margin down; its centre the median of all differences."""
    base, head = drawn.normal(0, 0.05, sizes[0]), drawn.normal(-0.08, 0.05, sizes[1])

    found = hodges_lehmann(base, head, 0.1, 0.05)

    expected = stats.mannwhitneyu(head + 0.05, base, alternative="less", method="exact")
    assert pytest.approx(expected.pvalue) == float(found.p)
    assert pytest.approx(np.median(np.subtract.outer(head, base))) == float(found.centre)
    assert (found.low > -0.1) == bool(found.ok)


@pytest.mark.parametrize("sizes", [(4, 4), (9, 9), (6, 11)])
def test_the_ends_of_the_shift_are_where_the_exact_test_begins_to_reject(drawn, sizes):
    """A shift just inside an end is not rejected at 5%; one just outside is."""
    base, head = drawn.normal(0, 1, sizes[0]), drawn.normal(0.5, 1, sizes[1])

    found = hodges_lehmann(base, head, 0.1, 0.05)

    def p(shift, alternative):
        return stats.mannwhitneyu(head - shift, base, alternative=alternative, method="exact").pvalue

    tiny = 1e-9
    assert p(found.low - tiny, "greater") <= 0.05 < p(found.low + tiny, "greater")
    assert p(found.high + tiny, "less") <= 0.05 < p(found.high - tiny, "less")


def test_samples_that_lie_apart_by_themselves_are_told_apart_by_as_much_less(drawn):
    """Both ends move outwards, and p is that of a shift so much smaller."""
    base, head = drawn.normal(0, 0.05, 9), drawn.normal(-0.15, 0.05, 9)

    plain, found = hodges_lehmann(base, head, 0.1, 0.05), hodges_lehmann(base, head, 0.1, 0.05, apart=0.02)

    expected = stats.mannwhitneyu(head + 0.05 + 0.02, base, alternative="less", method="exact")
    assert pytest.approx(expected.pvalue) == float(found.p)
    assert pytest.approx((float(plain.low) - 0.02, float(plain.high) + 0.02)) == (float(found.low), float(found.high))
    assert float(plain.centre) == float(found.centre)


def test_two_rounds_bound_no_shift():
    """Two rounds a side can reject nothing at 5%: the ends are infinite, and nothing is ok."""
    found = hodges_lehmann([0.0, 0.1], [0.0, 0.2], 0.1, 0.05)

    assert (-math.inf, math.inf) == (float(found.low), float(found.high))
    assert not found.ok


def test_many_rounds_are_tested_by_the_normal_approximation(drawn):
    """Beyond 1600 pairs p agrees with the exact one to a thousandth."""
    base, head = drawn.normal(0, 1, 45), drawn.normal(-0.3, 1, 45)

    found = hodges_lehmann(base, head, 0.2, 0.1)

    exact = stats.mannwhitneyu(head + 0.1, base, alternative="less", method="exact").pvalue
    assert pytest.approx(exact, abs=1e-3) == float(found.p)


@pytest.mark.parametrize(("seeds", "expected"), [(3, 0.53), (5, 0.86), (10, 1.0)])
def test_power_at_twice_the_margin(seeds, expected):
    """Where the margin is one standard deviation, a loss of two margins is seen so often."""
    found = power(1.0, 1.0, seeds)

    assert expected == round(found, 2)


def test_power_is_what_draws_show(drawn):
    """Of drawn losses of twice the margin the share called regressed is the power."""
    differences = drawn.normal(-2.0, 1.5, size=(20000, 6))

    seen = (mean_test(differences, 1.0).p < 0.05 / 3).mean()

    assert pytest.approx(seen, abs=0.02) == power(1.5, 1.0, 6, rows=3)


def test_seeds_for_power_are_the_fewest():
    """One seed fewer has not the power that is wanted."""
    needed = seeds_for_power(2.0, 1.0, rows=4)

    assert power(2.0, 1.0, needed - 1, 4) < 0.5 <= power(2.0, 1.0, needed, 4)


@pytest.mark.parametrize(("spread", "seeds", "expected"), [(0.0, 2, 1.0), (1.0, 1, 0.0)])
def test_power_without_a_spread_or_without_seeds(spread, seeds, expected):
    """No spread leaves no doubt; one seed sees nothing."""
    assert expected == power(spread, 1.0, seeds)


@pytest.mark.parametrize(("rows", "expected"), [(1, 5), (2, 6), (10, 8)])
def test_seeds_for_a_sign_test(rows, expected):
    """With so many seeds, all fallen, the first of so many rows can be rejected; with one fewer it can't."""
    found = seeds_for_sign_test(rows)

    assert expected == found
    assert rows * float(sign_test([-1] * found)) <= 0.05 < rows * float(sign_test([-1] * (found - 1)))


def test_seeds_that_decide():
    """About (2.5 s / m)^2 + 2 where nothing changed, and (5 s / m)^2 + 2 where the margin was lost."""
    found = seeds_to_decide(2.0, 1.0, loss=False), seeds_to_decide(2.0, 1.0, loss=True)

    assert (27, 102) == found

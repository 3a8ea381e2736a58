"""Intervals over seeds and over rounds, against scipy.stats and against their definitions."""

from __future__ import annotations

import random

import numpy as np
import pytest
from scipy import stats

from normbench.stats.intervals import (
    clopper_pearson,
    flattery,
    mean_over_seeds,
    median_of,
    ratio_over_rounds,
    unseen_failures,
)


@pytest.mark.parametrize("level", [0.9, 0.95])
@pytest.mark.parametrize(
    "scores", [[0.7, 0.9, 0.81], [0.4, 0.41, 0.43, 0.39, 0.6], [-3.0, 2.0, 0.5, 8.0, 1.0, 1.5, -9.0]]
)
def test_mean_has_students_interval(scores: list[float], level: float) -> None:
    """Of three or more seeds, the mean stands with the t interval that any statistics package gives."""
    expected = stats.ttest_1samp(scores, 0.0).confidence_interval(level)

    actual = mean_over_seeds(scores, level=level)

    assert "t" == actual.kind
    assert pytest.approx((np.mean(scores), expected.low, expected.high)) == (actual.centre, actual.low, actual.high)


@pytest.mark.parametrize(("scores", "least"), [([0.8], 3), ([0.8, 0.6], 3), ([0.8, 0.6, 0.7, 0.9], 5), ([0.8], 1)])
def test_mean_of_too_few_seeds_has_the_min_max(scores: list[float], least: int) -> None:
    """Below the least number of seeds the ends are those of the seeds, and are called so."""
    interval = mean_over_seeds(scores, least=least)

    assert (min(scores), max(scores), "min-max") == (interval.low, interval.high, interval.kind)
    assert pytest.approx(np.mean(scores)) == interval.centre


def test_mean_of_equal_scores_is_that_score() -> None:
    """Three seeds at exactly chance have a mean of exactly chance: rounding puts nothing outside the min-max."""
    interval = mean_over_seeds([0.1, 0.1, 0.1], least=4)

    assert (0.1, 0.1, 0.1) == (interval.low, interval.centre, interval.high)


@pytest.mark.parametrize("n", [3, 5, 10])
def test_t_interval_covers_the_mean_19_times_in_20(n: int) -> None:
    """For normal seeds the interval holds the true mean as often as it says, at every n it is printed for."""
    repetitions = 4000
    seeds = np.random.default_rng(n).normal(0.9, 0.02, (repetitions, n)).tolist()
    error = (0.95 * 0.05 / repetitions) ** 0.5

    intervals = [mean_over_seeds(scores) for scores in seeds]
    coverage = sum(interval.low <= 0.9 <= interval.high for interval in intervals) / repetitions

    assert pytest.approx(0.95, abs=4 * error) == coverage


@pytest.mark.parametrize(
    ("values", "expected"), [([3.0], 3.0), ([4.0, 1.0], 1.0), ([9.0, 1.0, 4.0, 2.0], 2.0), ([5.0, 1.0, 3.0], 3.0)]
)
def test_median_on_a_grid_is_the_lower_of_the_middle_two(values: list[float], expected: float) -> None:
    """A median over rates is always one of the rates."""
    median = median_of(values, on_grid=True)

    assert expected == median.centre


@pytest.mark.parametrize("n", range(1, 6))
def test_median_of_too_few_values_has_the_min_max(n: int) -> None:
    """Below 6 values no interval of a median reaches 95%, and the min-max stands in its place."""
    interval = median_of([float(value) for value in range(n)])

    assert (0, n - 1, "min-max") == (interval.low, interval.high, interval.kind)


@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
@pytest.mark.parametrize("n", [6, 7, 8, 9, 10, 15, 20, 25, 40, 64, 100, 1500])
def test_median_has_the_narrowest_interval_that_covers(n: int, level: float) -> None:
    """From k-th least to k-th greatest, more than k - 1 values must fall on each side; k + 1 would cover too seldom."""
    values = [float(rank) for rank in range(1, n + 1)]
    random.Random(n).shuffle(values)

    interval = median_of(values, level=level)
    k = int(interval.low) if interval.kind == "order" else 0

    assert n + 1 == interval.low + interval.high
    assert k == 0 or 1 - 2 * stats.binom.cdf(k - 1, n, 0.5) >= level
    assert 1 - 2 * stats.binom.cdf(k, n, 0.5) < level


@pytest.mark.parametrize(("n", "expected"), [(6, (1, 6)), (9, (2, 8)), (15, (4, 12))])
def test_median_interval_of_a_familiar_number(n: int, expected: tuple[int, int]) -> None:
    """At 95% a median lies between the 2nd and 8th of 9, and between the 4th and 12th of 15."""
    interval = median_of([float(rank) for rank in range(1, n + 1)])

    assert (*expected, "order") == (interval.low, interval.high, interval.kind)


@pytest.mark.parametrize("of", [mean_over_seeds, median_of])
def test_no_values_are_refused(of) -> None:
    """A mean or a median of nothing is a mistake, not a number."""
    with pytest.raises(ValueError, match=r"at least one|no median"):
        of([])


@pytest.mark.parametrize(("n", "percent"), [(3, 63), (5, 45), (10, 26)])
def test_seeds_say_what_they_cannot_see(n: int, percent: int) -> None:
    """A failure that strikes up to this share of seeds spares all n of them at least 1 time in 20."""
    share = unseen_failures(n)

    assert percent == round(100 * share)
    assert pytest.approx(0.05) == (1 - share) ** n


@pytest.mark.parametrize(("choices", "n"), [(2, 3), (5, 3), (9, 5), (18, 2)])
def test_the_best_of_equal_choices_is_flattered(choices: int, n: int) -> None:
    """By the mean of the largest of so many normal means over n seeds: an integral over its distribution."""
    largest = stats.norm(scale=n**-0.5).expect(
        lambda x: choices * x * stats.norm(scale=n**-0.5).cdf(x) ** (choices - 1)
    )

    assert flattery(choices, n) == pytest.approx(largest, abs=0.03)


@pytest.mark.parametrize("n", [1, 2, 5, 9, 10, 40])
def test_median_is_numpys(n: int) -> None:
    """Of what is continuous, the centre is the median as everybody reckons it."""
    values = np.random.default_rng(n).lognormal(size=n).tolist()

    interval = median_of(values)

    assert pytest.approx(np.median(values)) == interval.centre


def test_ratio_is_taken_within_each_round() -> None:
    """A machine that is slow for a while slows both sides of a round: the ratio does not see it."""
    drift = [1.0, 1.0, 5.0, 9.0, 9.0, 2.0, 1.0, 3.0, 1.0]
    baseline, twice_as_fast = [0.1 * slow for slow in drift], [0.05 * slow for slow in drift]

    interval = ratio_over_rounds(baseline, twice_as_fast)

    assert pytest.approx((2.0, 2.0, 2.0)) == (interval.low, interval.centre, interval.high)


def test_ratio_is_the_median_of_the_rounds_ratios() -> None:
    """Half the seconds are twice the speed; the ends are the 2nd and the 8th of nine rounds."""
    ratios = [1.0, 0.5, 0.8, 2.0, 1.1, 0.9, 1.2, 1.3, 3.0]

    interval = ratio_over_rounds([1.0] * 9, [1 / ratio for ratio in ratios])

    assert pytest.approx((0.8, 1.1, 2.0)) == (interval.low, interval.centre, interval.high)


def test_rounds_that_are_no_pairs_are_refused() -> None:
    """A norm and its baseline have the same rounds."""
    with pytest.raises(ValueError, match="zip"):
        ratio_over_rounds([1.0, 1.0], [1.0])


@pytest.mark.parametrize("level", [0.9, 0.95])
@pytest.mark.parametrize(("k", "n"), [(0, 1), (1, 1), (0, 5), (1, 3), (2, 5), (5, 5), (13, 40)])
def test_share_has_the_interval_of_clopper_and_pearson(k: int, n: int, level: float) -> None:
    """The exact interval of a share is that of any statistics package, at its ends too."""
    expected = stats.binomtest(k, n).proportion_ci(level, method="exact")

    interval = clopper_pearson(k, n, level=level)

    assert pytest.approx((expected.low, k / n, expected.high)) == (interval.low, interval.centre, interval.high)
    assert "exact" == interval.kind


@pytest.mark.parametrize(("k", "n"), [(0, 0), (3, 2), (-1, 4)])
def test_what_is_no_share_is_refused(k: int, n: int) -> None:
    """More than all, or of nothing, is a mistake."""
    with pytest.raises(ValueError, match="is no share"):
        clopper_pearson(k, n)

"""Curves by step: means, bands and scales, against numpy and scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from normbench.charts.bands import Band, Scale, Seed
from normbench.charts.looks import LOOKS

LOOK = LOOKS["none"]


def band(*seeds: Seed, interval: bool = False) -> Band:
    """Return the band of seeds."""
    return Band.of("none", LOOK, seeds, interval=interval)


@pytest.mark.parametrize("interval", [True, False])
def test_mean_and_band(interval):
    """At each step the mean over seeds, with its 95% t interval, or else the lowest and highest seed."""
    values = np.random.default_rng(0).normal(size=(6, 4))

    found = band(*(Seed(dict(zip([0, 5, 10, 15], row, strict=True))) for row in values), interval=interval)

    low, high = (
        stats.t.interval(0.95, 5, values.mean(0), stats.sem(values)) if interval else (values.min(0), values.max(0))
    )
    assert [0, 5, 10, 15] == found.xs
    assert found.means == pytest.approx(values.mean(0))
    assert found.low == pytest.approx(low)
    assert found.high == pytest.approx(high)


def test_a_seed_that_diverged_ends():
    """The others go on without it; where it ends between their steps nothing is drawn, and no mean of it alone."""
    whole = {0: 4.0, 10: 2.0, 20: 1.0, 30: 0.5}
    lost = {0: 6.0, 10: 8.0, 13: 90.0, 14: math.inf}

    found = band(Seed(whole), Seed(lost, diverged=True))

    assert [0, 10, 20, 30] == found.xs
    assert [5.0, 5.0, 1.0, 0.5] == found.means
    assert [13] == found.ends


def test_all_seeds_diverge():
    """The line ends with the last of them."""
    found = band(Seed({0: 1.0, 1: 3.0, 2: math.nan}, diverged=True), Seed({0: 3.0, 1: math.nan}, diverged=True))

    assert ([0, 1], [2.0, 3.0], [0, 1]) == (found.xs, found.means, found.ends)


def test_a_value_that_is_missing_in_between():
    """One seed's nan is left out, that of all is a gap; a series may begin later."""
    found = band(Seed({5: 1.0, 10: math.nan, 15: math.nan, 20: 1.0}), Seed({5: 3.0, 10: 4.0, 15: math.nan, 20: 3.0}))

    assert [5, 10, 15, 20] == found.xs
    assert found.means == pytest.approx([2.0, 4.0, math.nan, 2.0], nan_ok=True)


@pytest.mark.parametrize(
    ("values", "log"),
    [([1, 100], False), ([0.1, 11], True), ([0.0, 1000], False), ([-1, 1000], False), ([3, 3], False)],
)
def test_an_axis_is_logarithmic_over_two_decades(values, log):
    """Where every value is above 0; and it reaches beyond them at both ends."""
    seeds = [Seed(dict(enumerate(map(float, values))))]

    scale = Scale.of(seeds, [band(*seeds)])

    assert log == scale.log
    assert scale.low < min(values) <= max(values) < scale.high
    assert not Scale.of(seeds, [band(*seeds)], linear=True).log


def test_what_is_not_below_a_limit_is_cut_off():
    """Whatever reaches it, and however much."""
    seeds = [Seed({step: 10.0**step for step in range(30)})]

    assert 100 < Scale.of(seeds, [band(*seeds)], 1000.0).high < 200


def test_what_a_few_points_reach_is_cut_off():
    """A loss that explodes before a training diverges does not press all others flat."""
    seeds = [Seed({step: 2.0 * 0.99**step for step in range(400)} | {400: 1e30})]

    scale = Scale.of(seeds, [band(*seeds)])

    assert scale.low < 2.0 * 0.99**399
    assert 2.0 < scale.high < 1e6

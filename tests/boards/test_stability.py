"""The stability board: each column on each seed's own curve, against numpy and examples worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from normbench.boards import tables
from normbench.boards.stability import Curve, over_the_grid, trains_up_to, weights, within
from normbench.tables.text import written

RATES = [0.01, 0.1, 1.0, 10.0]


def mean_over_grid(rates: list[float], scores: list[float]) -> float:
    """Return the definition, by numpy."""
    return float(np.trapezoid(scores, np.log10(rates)) / np.log10(rates[-1] / rates[0]))


@pytest.mark.parametrize("rates", [[0.01, 0.1, 1, 3, 10], [0.1, 0.2], [0.003, 0.01, 0.5, 20]])
def test_mean_over_the_grid_is_the_trapezoid_rule_in_decades(rates: list[float]) -> None:
    """Rates that stand close together do not count twice: the curve is integrated in log10 of the rate."""
    scores = np.random.default_rng(0).uniform(0.1, 0.9, len(rates)).tolist()
    expected = mean_over_grid(rates, scores)

    actual = over_the_grid(scores, rates)

    assert pytest.approx(expected) == actual
    assert pytest.approx(1.0) == sum(weights(rates))


@pytest.mark.parametrize(
    ("trained", "chosen", "expected"),
    [
        ("TTTT", 1, 3),
        ("TTFT", 1, 1),
        ("FFTT", 2, 3),
        ("TTTF", 0, 2),
        ("TFTT", 2, 3),
        ("TFTT", 1, None),
        ("TTTT", 3, 3),
        ("TTTF", 3, None),
    ],
)
def test_trains_up_to_the_end_of_the_unbroken_run(trained: str, chosen: int, expected: int | None) -> None:
    """Rates count as far as they train without a gap from the chosen one up; there are none if that did not train."""
    curve = Curve([0.9 if mark == "T" else 0.1 for mark in trained], [mark == "T" for mark in trained])

    actual = trains_up_to(curve, chosen)

    assert expected == actual


@pytest.mark.parametrize(
    ("scores", "trained", "width", "cut"),
    [
        pytest.param([0.6, 0.9, 0.9, 0.6], "TTTT", 1 + 0.3 + 0.3, False, id="interpolated between trained rates"),
        pytest.param([0.2, 0.9, 0.9, 0.2], "FTTF", 1 + 0.5 + 0.5, False, id="geometric mean next to a failed rate"),
        pytest.param([0.9, 0.9, 0.9, 0.9], "TTTT", 3, True, id="both ends of the grid"),
        pytest.param([0.9, 0.9, 0.9, 0.2], "TTTF", 2.5, True, id="lower end of the grid"),
        pytest.param([0.6, 0.9, 0.9, 0.9], "TTTT", 2.3, True, id="upper end of the grid"),
        pytest.param([0.9, 0.9, 0.2, 0.9], "TTFT", 1.5, True, id="not across a failed rate"),
        pytest.param([0.9, 0.9, 0.6, 0.9], "TTTT", 1.3, True, id="not across a poor rate"),
        pytest.param([0.85, 0.9, 0.81, 0.2], "TTTF", 2.5, True, id="the threshold itself is within"),
        pytest.param([0.9, 0.2, 0.9, 0.9], "TFTT", 0, False, id="failed at the chosen rate"),
        pytest.param([0.9, 0.7, 0.9, 0.9], "TTTT", 0, False, id="poor at the chosen rate"),
    ],
)
def test_range_is_unbroken_about_the_chosen_rate(scores: list[float], trained: str, width: float, cut: bool) -> None:
    """Decades about a chosen rate of .1 within which a seed scores .81 or more, and whether the grid cuts them off."""
    curve = Curve(scores, [mark == "T" for mark in trained])

    found = within(curve, RATES, 1, 0.81)

    assert pytest.approx(width) == found.width
    assert cut == found.cut


@pytest.mark.parametrize(
    ("failed", "width"), [(0, 2.5), (1, 0.0)], ids=["beside the chosen rate", "at the chosen rate"]
)
def test_a_failed_rate_is_outside_the_range_whatever_it_scores(failed: int, width: float) -> None:
    """A rate that did not train does not count, though the threshold of a poor norm lies below its score."""
    curve = Curve([0.52] * 4, [rate != failed for rate in range(4)])

    found = within(curve, RATES, 1, 0.45)

    assert pytest.approx(width) == found.width


def test_range_on_an_uneven_grid() -> None:
    """Between 3 and a failed 10 the end is their geometric mean, 5.48."""
    curve = Curve([0.9, 0.9, 0.9, 0.2], [True, True, True, False])

    found = within(curve, [0.1, 1.0, 3.0, 10.0], 1, 0.81)

    assert pytest.approx(math.log10(30**0.5 / 0.1)) == found.width


@pytest.mark.parametrize("name", ["over_the_grid", "sensitivity"])
def test_means_over_seeds_of_each_seeds_own_curve(folder, name: str) -> None:
    """Mean over the grid and sensitivity are computed a seed at a time, with the t interval over seeds."""
    rates = [0.01, 0.1, 1.0, 3.0]
    seeds = [[0.5, 0.9, 0.7, 0.1], [0.6, 0.85, 0.75, 0.3], [0.7, 0.88, 0.4, 0.1]]
    areas = [mean_over_grid(rates, scores) for scores in seeds]
    losses = [scores[1] - area for scores, area in zip(seeds, areas, strict=True)]
    numbers = {"over_the_grid": areas, "sensitivity": losses}[name]
    expected = stats.ttest_1samp(numbers, 0.0).confidence_interval()
    folder.add({"batchnorm": {rate: [scores[i] for scores in seeds] for i, rate in enumerate(rates)}})

    value = folder.rows("stability")["batchnorm"].values[name]

    assert "t" == value.ends
    assert pytest.approx((np.mean(numbers), expected.low, expected.high)) == (value.number, value.low, value.high)


def test_curves_are_of_validation_scores(folder) -> None:
    """The test split is for the chosen rate alone; what diverged counts as chance, and trained is what did on test."""
    good, poor = {"score": 0.5, "validation": 0.9}, {"score": 0.9, "validation": 0.4}
    folder.add({"batchnorm": {0.1: [good] * 3, 1.0: [poor] * 3, 10.0: ["diverged"] * 3}})

    table = folder.table("stability")
    [row] = table.rows

    # Within 10% of .9, counted from chance, is .82 or more: .16 of the way to .4, which trained.
    assert pytest.approx((0.9 / 4 + 0.4 / 2 + 0.1 / 4, 0.16)) == (
        row.values["over_the_grid"].number,
        row.values["range"].number,
    )
    assert ("●●×", 1.0) == (row.values["strip"].text, row.values["trains_up_to"].number)
    assert any("scores here are on validation" in note for note in table.notes)


def test_without_validation_scores_curves_are_of_the_only_ones(folder) -> None:
    """What older trials stored is shown as it was, and the note says on which split."""
    folder.add({"batchnorm": {rate: [{"score": 0.9, "validation": None}] * 3 for rate in (0.1, 1.0)}})

    table = folder.table("stability")

    assert pytest.approx(0.9) == table.rows[0].values["over_the_grid"].number
    assert any("scores here are on test" in note for note in table.notes)


@pytest.mark.parametrize(
    ("reach", "centre", "low", "high", "ends"),
    [
        pytest.param([1, 2, 3], 1.0, 0.1, 10.0, "min-max", id="median of three"),
        pytest.param([1, 2, 3, 3], 1.0, 0.1, 10.0, "min-max", id="lower median of four"),
        pytest.param([2, 3, 3], 10.0, 1.0, 10.0, "min-max", id="a seed below the last rate"),
        pytest.param([0, 1, 1], 0.1, None, 0.1, "min-max", id="a seed below the grid"),
        pytest.param([1, 0, 0], None, None, 0.1, "min-max", id="most seeds below the grid"),
        pytest.param([0, 1, 1, 1, 2, 2, 2, 2, 3], 1.0, 0.1, 1.0, "order", id="2nd to 8th of nine"),
    ],
)
def test_trains_up_to_over_seeds(
    folder, reach: list[int], centre: float | None, low: float | None, high: float, ends: str
) -> None:
    """The median rate stands with the next that was tried, and with the min-max of seeds or, from 6, an interval."""
    rates = [0.1, 1.0, 10.0]
    folder.add(
        {"batchnorm": {rate: [(0.9 - i / 10 if i < n else 0.4 - i / 5) for n in reach] for i, rate in enumerate(rates)}}
    )

    row = folder.rows("stability")["batchnorm"]
    value = row.values["trains_up_to"]

    assert (centre, low, high, ends) == (value.number, value.low, value.high, value.ends)
    assert {None: None, 0.1: 1.0, 1.0: 10.0, 10.0: None}[centre] == value.beyond
    at_last = (centre == rates[-1], low == rates[-1], high == rates[-1])
    assert at_last == (value.at_least, value.low_at_least, value.high_at_least)
    assert ("none" if centre is None else "") == value.text
    assert (centre is None) == ("trains_up_to:below-the-grid" in row.flags)


def test_what_trains_at_the_grids_last_rate_trains_at_least_so_far(folder) -> None:
    """A norm whose seeds train at every rate is flagged: where they would fail, and how wide they reach, is unknown."""
    folder.add({"batchnorm": {0.1: [0.9] * 3, 1.0: [0.9] * 3, 10.0: [0.9] * 3}})

    row = folder.rows("stability")["batchnorm"]

    assert (10.0, True) == (row.values["trains_up_to"].number, row.values["trains_up_to"].at_least)
    assert (pytest.approx(2.0), True) == (row.values["range"].number, row.values["range"].at_least)
    assert {"trains_up_to:at-least", "range:at-least"} <= set(row.flags)


def test_range_is_measured_from_the_mean_at_the_chosen_rate(folder) -> None:
    """One threshold holds for all seeds, 10% of the way from their mean score to chance; the median width is shown."""
    # Mean .85 at the chosen rate, threshold .85 - .1 (.85 - .1) = .775.
    folder.add({"batchnorm": {0.1: [0.6, 0.6, 0.6], 1.0: [0.9, 0.8, 0.85], 10.0: [0.6, 0.6, 0.6]}})

    value = folder.rows("stability")["batchnorm"].values["range"]

    assert pytest.approx((2 * 0.3, 2 * 0.125, 2 * 0.125 / 0.3)) == (value.number, value.low, value.high)
    assert ("min-max", False) == (value.ends, value.at_least)


def test_the_widest_range_may_be_cut_off_alone(folder) -> None:
    """Where the grid's end cuts off the widest seed but not the median one, only the upper of the ends says so."""
    folder.add({"batchnorm": {0.1: [0.6, 0.6, 0.6], 1.0: [0.9, 0.9, 0.9], 10.0: [0.6, 0.6, 0.9]}})

    value = folder.rows("stability")["batchnorm"].values["range"]

    assert (False, True) == (value.at_least, value.high_at_least)


def test_the_range_of_an_even_number_of_seeds_is_the_mean_of_the_middle_two(folder) -> None:
    """Decades are continuous; where the grid cuts off the upper of the two, so it does their mean."""
    folder.add({"batchnorm": {0.1: [0.2] * 4, 1.0: [0.9] * 4, 10.0: [0.2, 0.2, 0.9, 0.9]}})

    value = folder.rows("stability")["batchnorm"].values["range"]

    assert pytest.approx((1.25, 1.0, 1.5)) == (value.number, value.low, value.high)
    assert (True, False, True) == (value.at_least, value.low_at_least, value.high_at_least)


def test_a_norm_that_trains_nowhere_has_no_range(folder) -> None:
    """Where no seed trained at the chosen rate, decades about it mean nothing: a dash."""
    folder.add({"batchnorm": {0.1: [0.3] * 3, 1.0: [0.2] * 3}})

    table = folder.table("stability")
    [column] = [column for column in table.columns if column.name == "range"]

    assert "–" == written(table.rows[0].values["range"], column)


def test_columns_are_in_progress_where_less_is_better(folder, bits) -> None:
    """Of bits, the columns speak of progress from chance (0) to the reference (1), and a huge loss is worth 0."""
    folder.add({"batchnorm": {0.1: [3.0] * 3, 1.0: [2.0] * 3, 10.0: [1e9] * 3}}, measure=bits)

    table = folder.table("stability")
    values = table.rows[0].values
    units = {column.name: column.unit for column in table.columns}

    assert pytest.approx((0.5 / 4 + 1 / 2, 0.375)) == (values["over_the_grid"].number, values["sensitivity"].number)
    # Progress 1 at the chosen rate, threshold .9: a fifth of the way to .5 below, half way to the failed rate above.
    assert (1.0, pytest.approx(0.2 + 0.5)) == (values["trains_up_to"].number, values["range"].number)
    assert ("", "") == (units["over_the_grid"], units["sensitivity"])


@pytest.mark.parametrize(
    ("seeds", "mark", "meaning"),
    [
        ([0.8, 0.7, 0.6], "●", "all"),
        ([0.8, 0.2, "diverged"], "◐", "some"),
        ([0.3, 0.2, 0.2], "○", "none"),
        ([0.3, 0.2, "diverged"], "×", "diverged"),
        ([0.8, 0.7, "oom"], "●", "all"),
    ],
)
def test_strip_has_a_mark_a_rate(folder, seeds: list, mark: str, meaning: str) -> None:
    """One mark says what the scored seeds did at a rate, and the legend below the table explains it."""
    folder.add({"batchnorm": {0.1: [0.9] * 3, 1.0: seeds}})

    table = folder.table("stability")

    assert f"●{mark}" == table.rows[0].values["strip"].text
    assert any(mark in note and meaning in note for note in table.notes)


def test_norms_stand_by_their_mean_over_the_grid(folder) -> None:
    """A norm that trains everywhere stands above one that is better at its own best rate."""
    folder.add({"batchnorm": {0.1: [0.9] * 3, 1.0: [0.2] * 3}, "layer-norm": {0.1: [0.8] * 3, 1.0: [0.7] * 3}})

    table = folder.table("stability")

    assert [("layer-norm", 1), ("batchnorm", 2)] == [(row.norm, row.rank) for row in table.rows]


def test_the_curve_is_that_of_the_chosen_setting(folder) -> None:
    """Where a setting was tuned, the board shows its curve and no other."""
    folder.add(
        {"batchnorm": [{0.1: [0.8] * 3, 1.0: [0.8] * 3}, {0.1: [0.9] * 3, 1.0: [0.2] * 3}]},
        settings=({"weight_decay": 0.0}, {"weight_decay": 0.5}),
    )

    values = folder.rows("stability")["batchnorm"].values

    assert "●○" == values["strip"].text
    assert pytest.approx(0.55) == values["over_the_grid"].number


def test_a_seed_without_a_score_at_some_rate_has_no_curve(folder) -> None:
    """A seed that ran out of time at one rate is left out over the grid, and the row is flagged."""
    folder.add({"batchnorm": {0.1: [0.9, 0.9, 0.7], 1.0: [0.7, 0.7, "timeout"]}})

    row = folder.rows("stability")["batchnorm"]

    assert pytest.approx((0.8, 0.8, 0.8)) == tuple(
        getattr(row.values["over_the_grid"], end) for end in ("number", "low", "high")
    )
    assert "timeout:1" in row.flags


def test_a_norm_without_a_whole_curve_stands_apart(folder) -> None:
    """Where no seed has a score at every rate there is no curve: the norm is listed with the reason, not ranked."""
    folder.add({"batchnorm": {0.1: [0.9], 1.0: [0.7]}, "layer-norm": {0.1: [0.9], 1.0: ["oom"]}})

    table = folder.table("stability")

    assert ["batchnorm"] == [row.norm for row in table.rows]
    assert ["layer-norm"] == [norm for norm, why in table.apart if why]


def test_one_rate_makes_no_stability_board(folder) -> None:
    """Nothing is said of a grid where there is none."""
    store = folder.add({"batchnorm": {0.1: [0.9, 0.8, 0.7]}})

    found = tables(store, ("stability",))

    assert [] == found


def test_the_grid_and_its_weights_are_printed(folder) -> None:
    """A note gives each rate with the share it has in the mean over the grid."""
    folder.add({"batchnorm": {rate: [0.9] for rate in (0.01, 0.1, 1.0, 3.0, 10.0)}})

    table = folder.table("stability")

    assert [0.01, 0.1, 1.0, 3.0, 10.0] == table.rates
    assert any("0.01 (17%), 0.1 (33%), 1 (25%), 3 (17%), 10 (9%)" in note for note in table.notes)

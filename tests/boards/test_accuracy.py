"""The accuracy board, column by column, against numbers computed apart."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from normbench.boards import tables
from normbench.tables.text import terminal, written


def test_rate_is_chosen_on_validation_and_the_score_is_on_test(folder) -> None:
    """The rate that is best on validation is reported, though another is better on test."""
    best_on_test = [{"score": 0.9, "validation": 0.7}] * 3
    best_on_validation = [{"score": 0.8, "validation": 0.75}] * 3
    folder.add({"batchnorm": {0.1: best_on_test, 1.0: best_on_validation}})

    values = folder.rows("accuracy")["batchnorm"].values

    assert 1.0 == values["rate"].number
    assert pytest.approx(0.8) == values["accuracy"].number


@pytest.mark.parametrize(
    ("lower", "higher"),
    [([0.7, 0.7, 0.7], [0.7, 0.7, 0.7]), ([0.3, 0.2, 0.1], [0.1, 0.2, 0.3]), ([0.85, 0.85], [0.9, 0.8])],
)
def test_a_tie_goes_to_the_lower_rate(folder, lower: list[float], higher: list[float]) -> None:
    """Where two rates have the same mean validation score, however its sum was rounded, the lower is chosen."""
    folder.add({"batchnorm": {0.1: [0.0] * len(lower), 1.0: lower, 10.0: higher}})

    values = folder.rows("accuracy")["batchnorm"].values

    assert 1.0 == values["rate"].number


def marked(folder, mark: str) -> bool:
    """Return whether the only norm's rate has a mark: in its cell, for programs, and in a note that names the norm."""
    table = folder.table("accuracy")
    [row] = table.rows
    notes = [note for note in table.notes if note.startswith(f"{mark}: ")]
    places = {mark in row.flags, mark in row.values["rate"].mark.split(), any(repr(row.norm) in note for note in notes)}
    assert 1 == len(places)
    return places.pop()


@pytest.mark.parametrize(
    ("best", "edge"), [(0.01, True), (0.1, False), (1.0, True)], ids=["lowest", "between", "highest"]
)
def test_a_rate_at_an_end_of_the_grid_is_flagged(folder, best: float, edge: bool) -> None:
    """A chosen rate with nothing tried beyond it is marked."""
    folder.add({"batchnorm": {rate: [0.9 if rate == best else 0.8] * 3 for rate in (0.01, 0.1, 1.0)}})

    assert edge == marked(folder, "edge")


@pytest.mark.parametrize(
    ("rates", "coarse"),
    [((0.3, 1, 3), False), ((0.1, 0.3, 1, 3, 10), False), ((0.1, 1, 3), True), ((0.3, 1, 10), True), ((1, 3.5), True)],
)
def test_a_rate_with_a_gap_beside_it_is_flagged(folder, rates: tuple[float, ...], coarse: bool) -> None:
    """A chosen rate, here 1, whose neighbour is more than half a decade away is marked; gaps elsewhere are not."""
    folder.add({"batchnorm": {float(rate): [0.9 if rate == 1 else 0.8] * 3 for rate in rates}})

    assert coarse == marked(folder, "coarse")


@pytest.mark.parametrize(
    ("lower", "higher", "unsettled"),
    [
        ([0.8, 0.8, 0.8], [0.7, 0.7, 0.9], False),
        ([0.8, 0.8, 0.7], [0.7, 0.7, 0.9], True),
        ([0.8, 0.7], [0.7, 0.9], False),
        ([0.8, "oom", "oom"], [0.7, "oom", "oom"], False),
    ],
    ids=["the same without any", "another without the third", "two seeds", "one seed with a score"],
)
def test_a_choice_that_hangs_on_one_seed_is_flagged(folder, lower: list, higher: list, unsettled: bool) -> None:
    """Where leaving one of three seeds or more out changes the choice, it is marked."""
    folder.add({"batchnorm": {0.1: lower, 0.3: higher}})

    assert unsettled == marked(folder, "unsettled")


def test_marks_of_a_rate_fit_beside_one_another(folder) -> None:
    """At 80 columns every mark stands behind its rate, without colour."""
    folder.add({"batchnorm-no-affine": {0.1: [0.8, 0.8, 0.7], 1.0: [0.7, 0.7, 0.9]}})

    lines = terminal([folder.table("accuracy")], 80).splitlines()

    assert any("0.1 edge coarse unsettled" in line for line in lines)
    assert max(map(len, lines)) <= 80


def test_a_grid_of_one_rate_has_no_marks(folder) -> None:
    """A suite that tries one rate chooses nothing, and nothing is at an edge."""
    folder.add({"batchnorm": {0.1: [0.9, 0.8, 0.7]}})

    row = folder.rows("accuracy")["batchnorm"]

    assert [] == row.flags


def test_accuracy_of_seeds_that_trained_has_students_interval(folder) -> None:
    """Of three seeds or more, all trained, the mean test score stands with its t interval."""
    scores = [0.9, 0.8, 0.85]
    expected = stats.ttest_1samp(scores, 0.0).confidence_interval()
    folder.add({"batchnorm": {0.1: scores}})

    value = folder.rows("accuracy")["batchnorm"].values["accuracy"]

    assert "t" == value.ends
    assert pytest.approx((0.85, expected.low, expected.high)) == (value.number, value.low, value.high)


@pytest.mark.parametrize(
    ("scores", "counted"),
    [
        ([0.9, 0.8], [0.9, 0.8]),
        ([0.9, 0.8, 0.3], [0.9, 0.8, 0.3]),
        ([0.9, 0.8, 0.7, "diverged"], [0.9, 0.8, 0.7, 0.1]),
        ([0.9, 0.8, "oom"], [0.9, 0.8]),
    ],
    ids=["two seeds", "one not trained", "one diverged", "one without a score"],
)
def test_accuracy_of_few_or_failed_seeds_has_the_min_max(folder, scores: list, counted: list[float]) -> None:
    """With two seeds, or a failed one, which counts at its score (diverged: chance), the ends are the min-max."""
    folder.add({"batchnorm": {0.1: scores}})

    row = folder.rows("accuracy")["batchnorm"]
    value = row.values["accuracy"]

    assert pytest.approx((np.mean(counted), min(counted), max(counted))) == (value.number, value.low, value.high)
    assert "min-max" == value.ends
    assert "accuracy:min-max" in row.flags


def test_failed_seeds_at_the_chosen_rate_are_counted(folder) -> None:
    """What did not train and what diverged both count as failed, at the chosen rate and of its seeds alone."""
    folder.add({"batchnorm": {0.1: [0.9, 0.3, "diverged", 0.8], 1.0: ["diverged"] * 4}})

    value = folder.rows("accuracy")["batchnorm"].values["failed"]

    assert (2, "2/4") == (value.number, value.text)


@pytest.mark.parametrize("outcome", ["oom", "timeout", "error", "unsupported"])
def test_what_has_no_score_is_left_out_but_named(folder, outcome: str) -> None:
    """A trial that says nothing of the layer's accuracy is in no mean, but the row is flagged and a note counts it."""
    folder.add({"batchnorm": {0.1: [0.9, 0.8, outcome, outcome], 1.0: [0.2, outcome, 0.2, 0.2]}})

    table = folder.table("accuracy")
    [row] = table.rows

    assert pytest.approx(0.85) == row.values["accuracy"].number
    assert "0/2" == row.values["failed"].text
    assert f"{outcome}:3" in row.flags
    assert any("'batchnorm': 3 of 8 trials" in note and f"3 {outcome}" in note for note in table.notes)


def test_difference_to_the_baseline_is_paired_by_seed(folder) -> None:
    """The difference has the paired t interval: what moves both norms of a seed alike is no uncertainty."""
    base, ours = [0.6, 0.7, 0.8, 0.9], [0.62, 0.71, 0.83, 0.91]
    expected = stats.ttest_rel(ours, base).confidence_interval()
    folder.add({"batchnorm": {0.1: base}, "layer-norm": {0.1: ours}})

    value = folder.rows("accuracy")["layer-norm"].values["vs_baseline"]

    assert "t" == value.ends
    assert pytest.approx((0.0175, expected.low, expected.high)) == (value.number, value.low, value.high)


@pytest.mark.parametrize(
    ("base", "ours"),
    [([0.3, 0.7, 0.8], [0.7, 0.7, 0.9]), ([0.8, 0.7, 0.7], [0.9, 0.7, 0.3]), ([0.8, 0.7], [0.9, 0.75])],
    ids=["the baseline failed", "the norm failed", "two seeds"],
)
def test_difference_with_a_failure_on_either_side_has_the_min_max(folder, base: list[float], ours: list[float]) -> None:
    """A seed that failed, of the norm or of the baseline, takes the interval from their difference."""
    differences = [mine - other for mine, other in zip(ours, base, strict=True)]
    folder.add({"batchnorm": {0.1: base}, "layer-norm": {0.1: ours}})

    value = folder.rows("accuracy")["layer-norm"].values["vs_baseline"]

    assert "min-max" == value.ends
    assert pytest.approx((np.mean(differences), min(differences), max(differences))) == (
        value.number,
        value.low,
        value.high,
    )


def test_difference_is_of_the_seeds_that_both_have(folder) -> None:
    """A seed that one side lacks, or has no score of, is in no difference, nor does its failure spoil one."""
    folder.add({"batchnorm": {0.1: [0.3, 0.7, 0.8, 0.75, 0.3]}, "layer-norm": {0.1: [None, 0.72, 0.81, 0.78, "oom"]}})

    value = folder.rows("accuracy")["layer-norm"].values["vs_baseline"]

    assert "t" == value.ends
    assert pytest.approx(0.02) == value.number


def test_each_side_of_a_difference_stands_at_its_own_rate(folder) -> None:
    """A norm at the rate chosen for it is compared with the baseline at the rate chosen for that."""
    folder.add({"batchnorm": {0.1: [0.8] * 3, 1.0: [0.6] * 3}, "layer-norm": {0.1: [0.5] * 3, 1.0: [0.9] * 3}})

    value = folder.rows("accuracy")["layer-norm"].values["vs_baseline"]

    assert pytest.approx(0.1) == value.number


def test_less_is_better_where_the_task_says_so(folder, bits) -> None:
    """Of bits, the lowest are chosen and stand first, and fewer than the baseline's is a difference above 0."""
    folder.add(
        {"batchnorm": {0.1: [2.5] * 3, 1.0: [2.4] * 3}, "layer-norm": {0.1: [2.1] * 3, 1.0: [2.2] * 3}}, measure=bits
    )

    table = folder.table("accuracy")
    first, second = table.rows

    assert (("layer-norm", 1), ("batchnorm", 2)) == ((first.norm, first.rank), (second.norm, second.rank))
    assert (0.1, 1.0) == (first.values["rate"].number, second.values["rate"].number)
    assert pytest.approx((2.1, 0.3)) == (first.values["accuracy"].number, first.values["vs_baseline"].number)
    assert "down" == next(column.better for column in table.columns if column.name == "accuracy")


def test_baseline_is_not_compared_with_itself(folder) -> None:
    """The baseline's own difference is a dash."""
    folder.add({"batchnorm": {0.1: [0.9, 0.8, 0.7]}})

    table = folder.table("accuracy")
    [column] = [column for column in table.columns if column.name == "vs_baseline"]

    assert "–" == written(table.rows[0].values["vs_baseline"], column)


def test_a_baseline_without_results_is_named(folder) -> None:
    """Where there is nothing to compare with, differences are dashes and a note says which norm is missing."""
    folder.add({"layer-norm": {0.1: [0.9, 0.8, 0.7]}}, baseline="group-norm")

    table = folder.table("accuracy")

    assert table.rows[0].values["vs_baseline"].number is None
    assert any("baseline 'group-norm'" in note for note in table.notes)


def test_norms_stand_by_their_mean_score(folder) -> None:
    """The best is first, and equal scores share a rank, after which one is left out."""
    folder.add({"a": {0.1: [0.7, 0.8]}, "b": {0.1: [0.9, 0.8]}, "c": {0.1: [0.8, 0.7]}, "d": {0.1: [0.3, 0.4]}})

    table = folder.table("accuracy")

    assert [("b", 1), ("a", 2), ("c", 2), ("d", 4)] == [(row.norm, row.rank) for row in table.rows]


def test_means_that_differ_by_rounding_alone_share_a_rank(folder) -> None:
    """As decimals both means are 5/6; as sums of floats they are not the same to the last bit."""
    folder.add({"a": {0.1: [0.81, 0.82, 0.87]}, "b": {0.1: [0.82, 0.83, 0.85]}})

    assert [1, 1] == [row.rank for row in folder.table("accuracy").rows]


@pytest.mark.parametrize(
    ("curves", "expected"),
    [
        pytest.param([[0.5, 0.74, 0.9]], 2.5, id="between two epochs"),
        pytest.param([[0.86]], None, id="past it after the first epoch"),
        pytest.param([[0.86, 0.3, 0.86]], None, id="the first time"),
        pytest.param([[0.7, 0.86], [0.6, 0.86]], 1 + 0.2125 / 0.2625, id="the mean of seeds"),
        pytest.param([[0.5, 0.9], [0.5]], None, id="a seed that diverged counts on"),
        pytest.param([[0.86, 0.86], []], None, id="a seed that diverged in its first epoch"),
        pytest.param([[0.02, 0.9]], 1.9, id="progress is not below 0"),
        pytest.param([[0.5, None, 0.9]], 2.9, id="an epoch without a finite score"),
        pytest.param([[0.7, 0.8, 0.81]], None, id="never"),
    ],
)
def test_epochs_to_most_of_the_progress(folder, curves: list[list[float | None]], expected: float | None) -> None:
    """Epochs are counted until the seeds' mean validation progress first reaches .9, interpolated, if it ever does."""
    folder.add({"batchnorm": {0.1: [{"score": 0.9, "series": {"validation": curve}} for curve in curves]}})

    value = folder.rows("accuracy")["batchnorm"].values["epochs_to"]

    assert (expected if expected is None else pytest.approx(expected)) == value.number


def test_epochs_to_where_a_weight_diverged(folder) -> None:
    """A training whose weights are not finite at its end was validated in that epoch too, where its progress is 0."""
    diverged = {"outcome": "diverged", "series": {"loss": [1.0, 0.5], "validation": [0.5, 0.9]}}
    folder.add({"batchnorm": {0.1: [{"score": 0.9, "series": {"validation": [0.5, 0.9]}}, diverged]}})

    assert folder.rows("accuracy")["batchnorm"].values["epochs_to"].number is None


@pytest.mark.parametrize(
    ("curves", "validated", "expected"),
    [
        pytest.param([[0.5, 0.74, 0.9, 0.9]], [4, 8, 12, 16], 1.0, id="between two steps of two epochs"),
        pytest.param([[0.5, 0.74, 0.9]], [4, 8, 9], 8.5 / 10, id="the last steps are fewer"),
        pytest.param([[0.86, 0.86]], [4, 8], None, id="the first time"),
        pytest.param([[0.5, 0.9, 0.9], [0.5]], [4, 8, 12], None, id="a seed whose loss was lost counts on"),
    ],
)
def test_epochs_to_within_an_epoch(folder, curves: list, validated: list[int], expected: float | None) -> None:
    """What is measured after some steps stands at the epochs that these are."""
    steps = {"epoch_steps": 10, "steps": validated[-1]}
    seeds = [
        {"score": 0.9, "series": {"validation": curve}, "validated": validated[: len(curve)], **steps}
        for curve in curves
    ]
    for seed in seeds[1:]:
        seed |= {"outcome": "diverged", "diverged_at": 6}
    folder.add({"batchnorm": {0.1: seeds}})

    value = folder.rows("accuracy")["batchnorm"].values["epochs_to"]

    assert (expected if expected is None else pytest.approx(expected)) == value.number


@pytest.mark.parametrize(
    ("curve", "expected"),
    [([0.5, 0.8, 0.8, 0.8], 0.5 + 0.5 * 0.4 / 0.4375), ([0.5, 0.5, 0.9, 0.9], None)],
    ids=["before its last epoch", "within it"],
)
def test_epochs_to_where_a_weight_diverged_within_an_epoch(folder, curve: list[float], expected: float | None) -> None:
    """It is not known when: its progress is 0 from the beginning of its last epoch on."""
    measured = {"validated": [5, 10, 15, 20], "epoch_steps": 10, "steps": 20}
    trained = {"score": 0.9, "series": {"validation": [0.5, 0.9, 0.9, 0.9]}, **measured}
    diverged = {"outcome": "diverged", "series": {"loss": [1.0, 0.5], "validation": curve}, **measured}
    folder.add({"batchnorm": {0.1: [trained, diverged]}})

    value = folder.rows("accuracy")["batchnorm"].values["epochs_to"]

    assert (expected if expected is None else pytest.approx(expected)) == value.number


def test_epochs_to_where_less_is_better(folder, bits) -> None:
    """Falling bits are progress."""
    folder.add({"batchnorm": {0.1: [{"score": 2.0, "series": {"validation": [3.0, 2.4, 2.0]}}]}}, measure=bits)

    value = folder.rows("accuracy")["batchnorm"].values["epochs_to"]

    assert pytest.approx(2.5) == value.number


@pytest.mark.parametrize(("step", "wide"), [(0.039, False), (0.041, True)])
def test_a_spread_far_above_the_others_is_flagged(folder, step: float, wide: bool) -> None:
    """A norm whose seeds differ over 4 times as much as those of the median norm is flagged, and named in a note."""
    calm = [0.79, 0.8, 0.81]
    folder.add({"batchnorm": {0.1: calm}, "layer-norm": {0.1: calm}, "none": {0.1: [0.8 - step, 0.8, 0.8 + step]}})

    table = folder.table("accuracy")
    flagged = [row.norm for row in table.rows if "spread" in row.flags]

    assert (["none"] if wide else []) == flagged
    assert wide == any(note.startswith("spread") and "none" in note for note in table.notes)


@pytest.mark.parametrize(("seeds", "percent"), [(3, 63), (5, 45)])
def test_a_note_says_what_the_seeds_cannot_see(folder, seeds: int, percent: int) -> None:
    """Beside every interval stands which failures so few seeds leave unseen."""
    folder.add({"batchnorm": {0.1: [0.9] * seeds}, "none": {0.1: [0.8] * seeds}})

    notes = folder.table("accuracy").notes

    assert 1 == sum(f"{seeds} seeds can't see" in note and f"{percent}% of seeds" in note for note in notes)


def test_what_seeds_cannot_see_counts_those_with_a_score(folder) -> None:
    """A seed that timed out has seen nothing."""
    folder.add({"batchnorm": {0.1: [0.9] * 6}, "none": {0.1: [*[0.8] * 5, "timeout"]}})

    notes = folder.table("accuracy").notes

    assert any("5 seeds can't see" in note for note in notes)


def test_a_tuned_setting_is_chosen_jointly_with_the_rate(folder) -> None:
    """Of all settings at all rates the best on validation is chosen, and a note names each norm's setting."""
    folder.add(
        {
            "batchnorm": [{0.1: [0.8] * 3, 1.0: [0.6] * 3}, {0.1: [0.5] * 3, 1.0: [0.9] * 3}],
            "layer-norm": [{0.1: [0.7] * 3, 1.0: [0.6] * 3}, {0.1: [0.5] * 3, 1.0: [0.6] * 3}],
        },
        settings=({"weight_decay": 0.0}, {"weight_decay": 0.5}),
    )

    table = folder.table("accuracy")
    chosen = {row.norm: (row.values["rate"].number, row.values["accuracy"].number) for row in table.rows}

    assert {"batchnorm": (1.0, pytest.approx(0.9)), "layer-norm": (0.1, pytest.approx(0.7))} == chosen
    assert any(note.startswith("'batchnorm'") and "weight_decay=0.5" in note for note in table.notes)
    assert any(note.startswith("'layer-norm'") and "weight_decay=0.0" in note for note in table.notes)


def test_a_tie_between_settings_goes_to_the_lower_rate(folder) -> None:
    """The lower rate is taken though the setting it is best with was tried later."""
    folder.add(
        {"batchnorm": [{0.1: [0.6] * 3, 1.0: [0.9] * 3}, {0.1: [0.9] * 3, 1.0: [0.6] * 3}]},
        settings=({"weight_decay": 0.0}, {"weight_decay": 0.5}),
    )

    values = folder.rows("accuracy")["batchnorm"].values

    assert 0.1 == values["rate"].number


def test_the_published_protocol_chooses_nothing(folder) -> None:
    """A recipe taken as it stands has scores and differences, but no column of a choice, and no stability board."""
    folder.add({"batchnorm": {0.1: [0.9, 0.8, 0.7]}, "layer-norm": {0.1: [0.8, 0.7, 0.6]}}, protocol="published")

    [table] = tables(folder.store)

    assert ("accuracy", "published") == (table.board, table.protocol)
    assert {"accuracy", "vs_baseline", "failed"} == {column.name for column in table.columns}
    assert [("batchnorm", 0.8), ("layer-norm", 0.7)] == [
        (row.norm, pytest.approx(row.values["accuracy"].number)) for row in table.rows
    ]
    assert [["may-be-best"], ["may-be-best"]] == [row.flags for row in table.rows]


def test_differences_are_to_the_baseline_that_is_asked_for(folder) -> None:
    """Asked for another norm, the board compares with it, names it, and ranks as before."""
    folder.add({"batchnorm": {0.1: [0.8, 0.7, 0.9]}, "layer-norm": {0.1: [0.6, 0.6, 0.6]}, "none": {0.1: [0.5] * 3}})

    [table] = tables(folder.store, ("accuracy",), baseline="layer-norm")

    differences = {row.norm: row.values["vs_baseline"].number for row in table.rows}
    assert {"batchnorm": pytest.approx(0.2), "layer-norm": None, "none": pytest.approx(-0.1)} == differences
    assert ("layer-norm", [1, 2, 3]) == (table.baseline, [row.rank for row in table.rows])
    assert any("vs layer-norm" in column.title for column in table.columns)

"""Two results folders made of scores, held against each other: which rows there are, their words and notes."""

import msgspec
import pytest
from comparisons import ACCURACY, RATES, SCORES, moved, row_of

from normbench.compare import text as report
from normbench.compare.folders import compare
from normbench.store.records import EnvironmentRecord


@pytest.mark.parametrize(("by", "word"), [(-0.05, "regressed"), (0.0, "ok"), (0.01, "better"), (-0.005, "ok")])
def test_a_gated_row_is_decided(one_rate, by, word):
    """Within the gate is ok, surely above 0 better, surely beyond half the margin regressed."""
    row = one_rate(SCORES, moved(by), ACCURACY)

    assert (word, 5, 0) == (row.word, row.seeds, row.identical)
    assert pytest.approx(by + 0.0002) == row.difference.centre
    assert pytest.approx((sum(SCORES) / 5, sum(SCORES) / 5 + by + 0.0002)) == (row.base, row.head)


def test_what_the_seeds_leave_open_is_unclear(one_rate):
    """Differences that spread over more than the margin decide nothing."""
    row = one_rate(SCORES, [0.95, 0.85, 0.93, 0.84, 0.94], ACCURACY)

    assert "unclear" == row.word


@pytest.mark.parametrize(("by", "word"), [(-0.05, "worse"), (0.0, "~"), (0.05, "better")])
def test_without_a_gate_the_interval_alone_speaks(one_rate, by, word):
    """A row without a gate can't fail: it is better or worse where its interval is on one side of 0."""
    row = one_rate(SCORES, moved(by))

    assert (word, None, None) == (row.word, row.gate, row.p)


def test_the_same_bits_are_identical(one_rate):
    """Trainings that are the same to the last bit by the same code say nothing of a difference."""
    row = one_rate(SCORES, SCORES, ACCURACY)

    assert ("identical", 0, 5) == (row.word, row.seeds, row.identical)


def test_one_seed_that_differs_is_unclear_and_no_mistake_of_the_gate(one_rate):
    """Where all seeds but one came out the same, the gate stands, and the one can't decide it."""
    row = one_rate(SCORES, [*SCORES[:4], 0.5], ACCURACY)

    assert ("unclear", 1, 4) == (row.word, row.seeds, row.identical)


def test_the_same_scores_by_other_code_are_tested(folder, head, against):
    """Other code that gives the same scores is a finding, not the same training."""
    folder.add({"layer": {0.1: SCORES}}, norm_print="old")
    head.add({"layer": {0.1: SCORES}}, norm_print="new")

    row = row_of(against(ACCURACY))

    assert ("ok", 5, 0) == (row.word, row.seeds, row.identical)


def test_identical_seeds_are_not_fed_to_the_test(one_rate):
    """Of five seeds two are the same to the last bit: three are tested."""
    row = one_rate(SCORES, [*SCORES[:2], *moved(-0.05)[2:]], ACCURACY)

    assert ("regressed", 3, 2) == (row.word, row.seeds, row.identical)


def test_the_rate_that_base_chose_is_kept(folder, head, against):
    """HEAD is held to BASE's rate though it would choose another now; that is a note."""
    folder.add({"layer": {0.1: SCORES, 1.0: moved(-0.1)}})
    head.add({"layer": {0.1: moved(0), 1.0: moved(0.05)}})

    found = against(ACCURACY)

    assert "ok" == row_of(found).word
    assert pytest.approx(0.904 + 0.0002) == row_of(found).head
    assert "'layer' on spirals: HEAD would choose the rate 1; it is compared at 0.1, which BASE chose" in found.notes


def test_where_the_grids_differ_only_the_chosen_rate_is_compared(folder, head, against):
    """A mean over another grid is another number."""
    folder.add({"layer": {0.1: SCORES, 1.0: moved(-0.1)}})
    head.add({"layer": {0.1: moved(-0.05), 3.0: moved(-0.1)}})

    found = against(ACCURACY)

    assert {"accuracy", "failure_rate"} == {row.metric.name for row in found.rows}
    assert "regressed" == row_of(found).word
    assert "'layer' on spirals: the grids differ; only the chosen rate is compared" in found.notes


def test_rows_with_failed_seeds_are_marked(one_rate):
    """A mean over seeds of which one did not train is marked; so is its table."""
    row = one_rate(SCORES, [0.9, 0.91, "diverged", 0.9, 0.92])

    assert ["failed-seeds"] == row.flags


def test_of_a_score_that_is_better_the_lower_the_difference_is_signed(folder, head, against, bits):
    """Bits that rise are a loss: the difference is below 0, as its gate spells it, and its column says so."""
    scores = [2.0, 2.1, 1.9, 2.05, 2.0]
    folder.add({"layer": {0.1: scores}, "other": {0.1: scores}}, measure=bits)
    head.add({"layer": {0.1: moved(0.3, scores)}, "other": {0.1: moved(-0.3, scores)}}, measure=bits)

    found = against({"accuracy": "-0.1"})

    worse, better = row_of(found), row_of(found, norm="other")
    assert ("regressed", "better") == (worse.word, better.word)
    assert pytest.approx((-0.3002, 0.2998)) == (worse.difference.centre, better.difference.centre)
    assert worse.head > worse.base
    assert "(+ is better)" in report.terminal(found, 100)
    assert ["plus-is-better"] == next(report.as_dicts(found))["flags"]


def test_over_the_grid_and_sensitivity_move_in_their_own_directions(folder, head, against):
    """Where one rate gets worse, the mean over the grid falls and the sensitivity rises: both are for the worse."""
    folder.add({"layer": {0.1: SCORES, 0.3: SCORES, 1.0: moved(-0.01)}})
    head.add({"layer": {0.1: moved(0), 0.3: SCORES, 1.0: moved(-0.3)}})

    found = against({"over_the_grid": "-2pt", "sensitivity": "+2pt"})

    over, sensitivity = (row_of(found, metric) for metric in ("over_the_grid", "sensitivity"))
    assert ("regressed", "regressed") == (over.word, sensitivity.word)
    assert over.difference.high < 0 < sensitivity.difference.low
    assert pytest.approx(sensitivity.head - sensitivity.base) == sensitivity.difference.centre


@pytest.mark.parametrize(("gates", "word"), [({"sensitivity": "+20pt"}, "ok"), ({}, "~")])
def test_a_sensitivity_that_fell_with_the_score_is_no_gain(folder, head, against, gates, word):
    """A layer that got worse at the chosen rate depends less on the rate: nobody calls that better."""
    folder.add({"layer": {0.1: SCORES, 1.0: moved(-0.3)}})
    head.add({"layer": {0.1: moved(-0.1), 1.0: moved(-0.3)}})

    row = row_of(against(gates), "sensitivity")

    assert word == row.word
    assert row.difference.high < 0


def test_a_sensitivity_that_fell_since_the_grid_rose_is_a_gain(folder, head, against):
    """Where the score at the chosen rate did not fall, less sensitive is better."""
    folder.add({"layer": {0.1: SCORES, 1.0: moved(-0.3)}})
    head.add({"layer": {0.1: moved(0.001), 1.0: moved(-0.1)}})

    assert "better" == row_of(against(), "sensitivity").word


def test_over_the_grid_is_read_on_validation_and_accuracy_on_test(folder, head, against):
    """As on the boards: what is chosen or averaged over rates is on validation, and the score is on test."""
    given = [{"score": 0.8, "validation": score} for score in SCORES]
    folder.add({"layer": {0.1: given, 1.0: given}})
    head.add({"layer": {0.1: given, 1.0: [{**one, "validation": one["validation"] - 0.1} for one in given]}})

    found = against()

    assert pytest.approx((0.8, 0.8)) == (row_of(found).base, row_of(found).head)
    over, apart = (row_of(found, metric) for metric in ("over_the_grid", "sensitivity"))
    assert pytest.approx((0.904, 0.854)) == (over.base, over.head)
    assert pytest.approx((0.0, 0.05)) == (apart.base, apart.head)


@pytest.mark.parametrize(
    ("gate", "unit", "base", "head_rate", "change"),
    [("-1step", "step", 2, 1, -1), ("-0.477dec", "decades", 0.0, -0.523, -0.523)],
)
def test_max_trainable_lr_in_steps_and_in_decades(folder, head, against, gate, unit, base, head_rate, change):
    """All five seeds train up to a rate lower: regressed, by one step of the grid or by its decades."""
    folder.add({"layer": dict.fromkeys(RATES, SCORES)})
    head.add({"layer": {0.1: moved(0), 0.3: moved(0), 1.0: ["diverged"] * 5}})

    found = against({"max_trainable_lr": gate})

    row = row_of(found, "max_trainable_lr")
    assert ("regressed", unit) == (row.word, row.unit)
    assert pytest.approx((base, head_rate, change), abs=1e-3) == (row.base, row.head, row.difference.centre)
    [line] = [line for line in report.terminal(found, 100).splitlines() if "✗ regressed" in line]
    assert ["layer", "1", "0.3"] == line.split()[:3]


def test_a_rate_below_the_grid_is_none(folder, head, against):
    """A seed that does not train at the chosen rate trains up to none, one step below the grid."""
    folder.add({"layer": {0.1: SCORES, 0.3: [0.2] * 5}})
    head.add({"layer": {0.1: [0.2] * 5, 0.3: [0.2] * 5}})

    found = against({"max_trainable_lr": "-1step"})

    row = row_of(found, "max_trainable_lr")
    assert ("regressed", 0, -1) == (row.word, row.base, row.head)
    [line] = [line for line in report.terminal(found, 100).splitlines() if "✗ regressed" in line]
    assert ["layer", "0.1", "none"] == line.split()[:3]


def test_the_failure_rate_is_the_share_of_rates(folder, head, against):
    """Every seed fails at one rate of three more: regressed by 33 points, + is worse."""
    folder.add({"layer": dict.fromkeys(RATES, SCORES)})
    head.add({"layer": {0.1: moved(0), 0.3: moved(0), 1.0: [0.1] * 5}})

    row = row_of(against({"failure_rate": "+10pt"}), "failure_rate")

    assert ("regressed", 0.0) == (row.word, row.base)
    assert pytest.approx((1 / 3, 1 / 3)) == (row.head, row.difference.centre)


def test_an_error_in_per_cent_is_in_points_but_its_means_over_the_grid_are_in_progress(folder, head, against, bits):
    """A share that is better the lower it is has points, but progress has none."""
    error = msgspec.structs.replace(bits, unit="%", chance=0.9, reference=0.1)
    folder.add({"layer": {0.1: [0.1, 0.12], 1.0: [0.2, 0.3]}}, measure=error)
    head.add({"layer": {0.1: [0.11, 0.12], 1.0: [0.21, 0.3]}}, measure=error)

    found = against({"accuracy": "-2pt", "over_the_grid": "-0.02"})

    units = {row.metric.name: row.unit for row in found.rows}
    assert ("%", "", "") == tuple(units[metric] for metric in ("accuracy", "over_the_grid", "sensitivity"))


def test_what_is_better_by_more_than_its_margin_is_noted(one_rate, against):
    """A gain that large is often a broken measure."""
    one_rate(SCORES, moved(0.05))

    notes = against(ACCURACY).notes

    assert (
        "'layer' on spirals: accuracy is better by more than the margin; a broken measure may look like that" in notes
    )


def test_rows_whose_fingerprints_are_equal_need_no_results(folder, against):
    """An unchanged row is asked for no results of HEAD, and does not fail strictly."""
    folder.add({"layer": {0.1: SCORES}})
    [run] = folder.store.runs()

    found = against(ACCURACY, unchanged=frozenset((cell.table_id, cell.norm_id) for cell in run.cells))

    assert ["unchanged"] == [row.word for row in found.rows]
    assert (1, []) == (found.compared, found.failing(strict=True))


def test_what_the_environments_differ_in_is_noted(folder, head, against):
    """Versions that differ are named; a folder with trials of two environments is as well."""
    for place, version in ((folder, "2.1.0"), (head, "2.1.1")):
        with place.store.writer() as writer:
            writer.environment(EnvironmentRecord.of(platform="here", packages={"torch": version}))
    folder.add({"layer": {0.1: SCORES}})
    head.add({"layer": {0.1: [{"score": score, "environment": f"{i % 2}"} for i, score in enumerate(SCORES)]}})

    notes = against().notes

    assert "environments differ: torch 2.1.0 → 2.1.1" in notes
    assert "HEAD has trials of 2 environments" in notes


def test_accuracy_is_held_though_another_rate_is_not_supported(folder, head, against):
    """A norm that can't stand at some rate, on either side, still has its accuracy at the chosen one."""
    unsupported = ["unsupported"] * 3
    folder.add({"layer": {0.1: [0.9, 0.91, 0.89], 1: unsupported}})
    head.add({"layer": {0.1: [0.6, 0.61, 0.58], 1: unsupported}})

    found = against({"accuracy": "-2pt"})

    assert [("accuracy", "regressed")] == [(row.metric.name, row.word) for row in found.rows]


@pytest.mark.parametrize(
    ("outcomes", "crashed"),
    [
        ({0.1: ["unsupported"] * 2, 1.0: ["error"] * 2}, 2),
        ({0.1: [{"outcome": "unsupported", "reason": "40 ended in error"}] * 2, 1.0: ["unsupported"] * 2}, 0),
        ({0.1: ["oom", "timeout"], 1.0: [{"outcome": "error", "reason": "7 ended in timeout"}, 0.8]}, 3),
    ],
    ids=["beside unsupported", "in words alone", "with a reason"],
)
def test_crashes_are_counted_by_outcomes(folder, head, outcomes, crashed) -> None:
    """What crashed in HEAD is counted from its trials, whatever else became of the norm and whatever a reason says."""
    whole = {0.1: [0.8, 0.8], 1.0: [0.8, 0.8]}
    base, later = folder.add({"batchnorm": whole}), head.add({"batchnorm": whole, "layer": outcomes})

    assert crashed == compare(base, later, {}).crashed


@pytest.mark.parametrize(
    ("command", "how"),
    [
        (["normbench", "run", "quick", "--no-fresh"], "normbench run quick trains them"),
        (["ipykernel_launcher.py"], "normbench.run with fresh=True trains them"),
    ],
)
def test_what_trains_fresh_seeds_is_said_in_the_words_of_who_ran_it(folder, head, against, command, how):
    """Scores of the seeds that chose a rate flatter: a command is repeated, a script calls `run` again."""
    for side in (folder, head):
        side.add({"layer": {0.1: [0.9, 0.91], 1.0: [0.5, 0.6]}}, command=command)

    [note] = [note for note in against().notes if note.startswith("same-seeds: ")]

    assert note.endswith(how)

"""Two results folders under gates: what fails, what is refused, what is warned of, and where looks stop."""

import dataclasses

import pytest
from comparisons import ACCURACY, RATES, SCORES, moved, row_of

from normbench import gates as gating
from normbench.boards.grid import gather
from normbench.compare import text as report
from normbench.compare.folders import against_baseline
from normbench.compare.gates import check
from normbench.compare.pairs import contrasts
from normbench.errors import UsageError


def test_a_row_that_head_lacks_has_vanished(folder, head, against):
    """What BASE has and HEAD has not is said, with why; what HEAD alone has is a note."""
    folder.add({"layer": {0.1: SCORES}, "old": {0.1: SCORES}, "crashing": {0.1: SCORES}})
    head.add({"layer": {0.1: SCORES}, "new": {0.1: SCORES}, "crashing": {0.1: ["error"] * 2}})

    found = against(ACCURACY)

    vanished = {row.norm: row.why for row in found.rows if row.word == "vanished"}
    assert {"old": "HEAD has no results of it", "crashing": "2 ended in error; lacks 3 of 5 trials"} == vanished
    assert "in HEAD alone: 'new' on spirals" in found.notes
    assert (2, 2) == (found.compared, found.crashed)
    assert [] == against().failing()
    for failing in (found.failing(), against().failing(strict=True)):
        assert {"old", "crashing"} == {row.norm for row in failing}


def test_another_version_of_a_task_has_nothing_in_common(folder, head, against):
    """Numbers of two versions of a task are not compared."""
    folder.add({"layer": {0.1: SCORES}}, task_version=1)
    head.add({"layer": {0.1: SCORES}}, task_version=2)

    found = against(ACCURACY)

    assert 0 == found.compared
    assert "HEAD has no results of this task version and condition" == row_of(found).why


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({1.0: SCORES}, "HEAD has no trials at the rate 0.1 that BASE chose"),
        ({0.1: [None] * 5 + [0.9]}, "no seed is complete on both sides"),
    ],
)
def test_a_row_without_a_common_trial_has_vanished(folder, head, against, given, why):
    """A row that can't be paired says why."""
    folder.add({"layer": {0.1: SCORES}})
    head.add({"layer": given})

    row = row_of(against(ACCURACY))

    assert ("vanished", why) == (row.word, row.why)


@pytest.mark.parametrize(
    ("gates", "seeds", "message"),
    [
        ({"accuracy": "-2pt"}, 1, "gate accuracy:-2pt: 1 seed can never fail it; a t test needs 2"),
        (
            {"failure_rate": "+5pt"},
            4,
            "gate failure_rate:+5pt: 4 seeds can never fail it; with 1 gated row a sign test needs 5",
        ),
        (
            {"failure_rate": "+5pt", "accuracy": "-2pt"},
            5,
            "gate failure_rate:+5pt: 5 seeds can never fail it; with 2 gated rows a sign test needs 6",
        ),
    ],
)
def test_a_gate_that_the_seeds_can_not_carry_is_refused(one_rate, gates, seeds, message):
    """A gate that could never fail is refused with the number of seeds that it needs."""
    with pytest.raises(UsageError) as refused:
        one_rate(SCORES[:seeds], moved(0)[:seeds], gates)

    assert message == str(refused.value)


def test_a_gate_that_fresh_seeds_can_not_carry_says_which_they_are(folder):
    """Where a gate reads fresh seeds, it is these of which there are too few."""
    folder.add({"layer": {0.1: [0.9]}}, norm_print=None)
    [grid] = gather(folder.store)
    [accuracy, _] = contrasts(grid.measure, grid.rows[0], grid.rows[0], {})
    fresh = dataclasses.replace(accuracy, fresh=True)

    with pytest.raises(UsageError) as refused:
        check([(fresh, grid)], gating.gates(ACCURACY, "gate"), [])

    assert "gate accuracy:-2pt: 1 fresh seed can never fail it; a t test needs 2" == str(refused.value)


@pytest.fixture
def spread(folder, head):
    """Store a norm of which three seeds spread over 10 points, on both sides, and differ by as much."""
    folder.add({"layer": {0.1: [0.9, 0.85, 0.95]}}, norm_print="old")
    head.add({"layer": {0.1: [0.85, 0.95, 0.9]}}, norm_print="new")


@pytest.mark.parametrize(
    ("margin", "warnings"),
    [
        (
            "-5pt",
            [
                "with 1 gated row, 3 seeds see a loss of twice the margin in 35% of cases; about 5 seeds would see it "
                "in half",
                "1 row is unclear; about 15 seeds would decide if nothing changed, about 55 seeds if the loss is the "
                "margin",
            ],
        ),
        (
            "-0.1pt",
            [
                "with 1 gated row, 3 seeds see a loss of twice the margin in 5% of cases; more than 1,000 seeds (the "
                "margin is too small for this spread) would see it in half",
                "1 row is unclear; more than 1,000 seeds (the margin is too small for this spread) would decide",
            ],
        ),
    ],
)
def test_of_unclear_rows_it_is_said_how_many_seeds_would_tell(spread, against, margin, warnings):
    """At BASE's spread, in numbers that a person can use; beyond a thousand it is the margin that is wrong."""
    found = against({"accuracy": margin})

    assert "unclear" == row_of(found).word
    assert [f"gate accuracy:{margin}: {warning}" for warning in warnings] == found.warnings


@pytest.mark.parametrize(("by", "word"), [(-0.5, "regressed"), (0.0, "ok"), (0.3, "better")])
def test_of_sure_rows_no_warning_is_made(folder, head, against, by, word):
    """However weak a gate is at BASE's spread, what it decided is decided."""
    wide = [0.6, 0.65, 0.55, 0.62, 0.58]
    folder.add({"layer": {0.1: wide}}, norm_print="old")
    head.add({"layer": {0.1: moved(by, wide)}}, norm_print="new")

    found = against({"accuracy": "-0.5pt"})

    assert (word, []) == (row_of(found).word, found.warnings)


def test_whether_a_row_could_be_ok_is_worked_out_from_the_spread_of_base(folder, head, against):
    """Damage that widens the differences is no excuse: at BASE's spread the seeds could have shown the row ok."""
    folder.add({"layer": {0.1: SCORES}})
    head.add({"layer": {0.1: [0.9, 0.6, 0.88, 0.91, 0.9]}})

    [row] = against(ACCURACY).failing(strict=True)

    assert "unclear" == row.word


@pytest.mark.parametrize(
    ("after", "word", "why"),
    [
        ([0.9, "diverged", 0.2], "regressed", "2 of 3 seeds that trained in BASE fail in HEAD at the rate 0.1"),
        ([0.9, "diverged", 0.91], "unclear", "1 of 3 seeds that trained in BASE fails in HEAD at the rate 0.1"),
    ],
)
def test_failures_come_first(folder, head, against, after, word, why):
    """Of three seeds two that fail regress every gate on a score, in these words; one is not ok, and fails strictly."""
    folder.add({"layer": {0.1: [0.9, 0.91, 0.9], 0.3: [0.5] * 3}})
    head.add({"layer": {0.1: after, 0.3: [0.51] * 3}})

    found = against({"accuracy": "-50pt", "over_the_grid": "-50pt", "sensitivity": "+50pt"})

    rows = [row_of(found, metric) for metric in ("accuracy", "over_the_grid", "sensitivity")]
    assert [(word, why)] * 3 == [(row.word, row.why) for row in rows]
    assert rows == found.failing(strict=True)
    assert (rows if word == "regressed" else []) == found.failing()
    assert f"{word}: accuracy of 'layer' on spirals: {why}; -" in "\n".join(report.summary(found))


def test_seeds_that_train_again_are_held_against_those_that_fail(folder, head, against):
    """Three fail and one trains that failed before: two net are no regression; the sentence has both counts."""
    folder.add({"layer": {0.1: [0.9, 0.91, 0.9, 0.92, 0.9, 0.91, 0.9, "diverged"]}})
    head.add({"layer": {0.1: ["diverged", 0.3, "diverged", 0.9, 0.9, 0.9, 0.9, 0.9]}})

    row = row_of(against({"accuracy": "-80pt"}))

    assert "unclear" == row.word
    assert "3 of 7 seeds that trained in BASE fail in HEAD at the rate 0.1, 1 the other way" == row.why


def test_a_norm_that_fails_where_its_baseline_trains_is_regressed_too(folder):
    """Against the baseline the chance is the same: a norm that fails more often than the baseline is worse."""
    store = folder.add({"batchnorm": {0.1: SCORES}, "layer": {0.1: [0.9, "diverged", "diverged", "diverged", 0.9]}})

    [run] = store.runs()
    tables = frozenset(cell.table_id for cell in run.cells)
    found = against_baseline(store, gating.gates({"accuracy": "-50pt"}, "gate"), [5], only=tables)

    row = row_of(found)
    assert ("regressed", "3 of 5 seeds that trained in BASE fail in HEAD at the rate 0.1") == (row.word, row.why)


def test_equal_differences_of_rounded_scores_are_not_certain(folder, head, against):
    """Two seeds that both lost one test sample of 360 decide nothing; the samples are counted from the scores."""
    shares = [[351 / 360, 347 / 360], [350 / 360, 346 / 360]]
    folder.add({"layer": {0.1: shares[0]}})
    head.add({"layer": {0.1: shares[1]}})

    assert "unclear" == row_of(against({"accuracy": "-0.5pt"})).word
    assert "ok" == row_of(against({"accuracy": "-2pt"})).word


def test_a_gated_metric_that_head_lost_has_vanished(folder, head, against):
    """Where HEAD ran another grid, a gate over the grid fails: it does not pass for having nothing to compare."""
    folder.add({"layer": {0.1: SCORES, 1.0: moved(-0.1)}})
    head.add({"layer": {0.1: moved(0), 3.0: moved(-0.1)}})

    found = against({"accuracy": "-2pt", "over_the_grid": "-2pt"})

    [row] = found.failing()
    assert ("vanished", "over_the_grid") == (row.word, row.metric.name)
    assert "over the grid can't be compared: the grids of BASE and HEAD differ" == row.why


OWN = "HEAD ran BASE's own code of 'layer', on the same data in the same environment: nothing changed"


def test_heads_own_code_is_warned_of(folder, head, against):
    """Where HEAD ran what BASE ran, no gate can find anything; without a gate nobody asked."""
    folder.add({"layer": {0.1: SCORES}})
    head.add({"layer": {0.1: moved(0)}})

    assert [True] == [warning.startswith(OWN) for warning in against(ACCURACY).warnings]
    assert [] == against().warnings


@pytest.mark.parametrize(
    "changed",
    [{"norm_print": "new"}, {"task_print": "new"}, {"norm_print": None}, "environment"],
    ids=["norm", "task", "unknown", "environment"],
)
def test_what_may_have_changed_is_not_warned_of(folder, head, against, changed):
    """Other code, code that can't be told, and another environment each may be what is asked about."""
    folder.add({"layer": {0.1: SCORES}})
    scores = moved(0)
    if changed == "environment":
        head.add({"layer": {0.1: [{"score": score, "environment": "2"} for score in scores]}})
    else:
        head.add({"layer": {0.1: scores}}, **changed)

    assert [] == against(ACCURACY).warnings


def test_a_control_beside_a_norm_that_changed_is_a_note(folder, head, against):
    """That one of several norms did not change is usual."""
    folder.add({"layer": {0.1: SCORES}})
    folder.add({"other": {0.1: SCORES}}, norm_print="old")
    head.add({"layer": {0.1: SCORES}})
    head.add({"other": {0.1: moved(0)}}, norm_print="new")

    found = against(ACCURACY)

    assert [] == found.warnings
    assert f"{OWN} there" in found.notes


@pytest.mark.parametrize(
    ("gates", "message"),
    [
        ({"accuracy": "-0.02"}, "gate accuracy:-0.02: the margin on spirals is in percentage points, like 0.5pt"),
        ({"sensitivity": "+0.02"}, "gate sensitivity:+0.02: the margin on spirals is in percentage points, like 0.5pt"),
        (
            {"max_trainable_lr": "-1dec"},
            "gate max_trainable_lr:-1dec: the smallest step of the grid of spirals is 0.477 decades; a margin in "
            "decades is no larger. Write it in steps, like -1step",
        ),
    ],
)
def test_a_margin_in_another_unit_than_the_task_is_refused(folder, head, against, gates, message):
    """A margin must be in the unit of the task's score, and in decades no wider than the grid tells."""
    folder.add({"layer": dict.fromkeys(RATES, SCORES)})
    head.add({"layer": dict.fromkeys(RATES, moved(0))})

    with pytest.raises(UsageError) as refused:
        against(gates)

    assert message == str(refused.value)


@pytest.mark.parametrize(("metric", "own"), [("accuracy", "bits"), ("over_the_grid", "progress")])
def test_points_of_a_score_without_per_cents_are_refused(folder, head, against, bits, metric, own):
    """Bits have no points; what is over the grid of them is in progress."""
    folder.add({"layer": {0.1: [2.0, 2.1], 1.0: [2.2, 2.3]}}, measure=bits)
    head.add({"layer": {0.1: [2.1, 2.1], 1.0: [2.2, 2.3]}}, measure=bits)

    with pytest.raises(UsageError) as refused:
        against({metric: "-1pt"})

    assert f"gate {metric}:-1pt: the margin on spirals is a number, in {own}" == str(refused.value)


def test_looks_stop_at_the_one_that_decided(folder, head, against):
    """A row that three seeds decided is shown with these three, whatever came later."""
    folder.add({"layer": {0.1: SCORES}})
    head.add({"layer": {0.1: [*moved(-0.1)[:3], 0.5, 0.99]}})

    row = row_of(against(ACCURACY, looks=[3, 5]))

    assert ("regressed", 3) == (row.word, row.seeds)
    assert pytest.approx(0.9) == row.base
    assert "stopped at 3 seeds; allowed -2pt" in report.sentence(row)


def test_a_look_counts_identical_seeds_and_does_not_test_them(folder, head, against):
    """Of the first three seeds one is the same to the last bit: the first look has two to test, and they decide."""
    folder.add({"layer": {0.1: SCORES}})
    head.add({"layer": {0.1: [SCORES[0], *moved(-0.1)[1:]]}})

    row = row_of(against(ACCURACY, looks=[3, 5]))

    assert ("regressed", 2, 1) == (row.word, row.seeds, row.identical)


def test_a_gate_that_a_later_look_can_fail_is_not_refused(folder, head, against):
    """Three seeds are too few for a sign test; of the eight that are looked at in the end they are the first."""
    folder.add({"layer": {0.1: SCORES[:3]}})
    head.add({"layer": {0.1: moved(0.0)[:3]}})

    row = row_of(against({"failure_rate": "+5pt"}, looks=[3, 8]), "failure_rate")

    assert "unclear" == row.word


@pytest.mark.parametrize("gate", [{"max_trainable_lr": "-5step"}, {"failure_rate": "+101pt"}])
def test_a_margin_that_nothing_can_lose_is_refused(folder, head, against, gate):
    """A gate that no change could fail is a mistake."""
    folder.add({"layer": {0.1: [0.9] * 5, 1: [0.8] * 5}})
    head.add({"layer": {0.1: [0.2] * 5, 1: [0.1] * 5}})

    with pytest.raises(UsageError, match="nothing on spirals can lose so much; its grid has 2 rates"):
        against(gate)

"""Two results folders under gates: what fails, what is refused, what is warned of, and where looks stop."""

import pytest
from comparisons import ACCURACY, RATES, SCORES, moved, row_of

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
    assert [] == found.failing()
    assert {"old", "crashing"} == {row.norm for row in found.failing(strict=True)}


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


def test_a_weak_gate_is_warned_of(one_rate, against):
    """At BASE's spread a loss of twice the margin is mostly missed: the warning says how many seeds see it in half."""
    one_rate([0.9, 0.85, 0.95], moved(0, [0.9, 0.85, 0.95]))

    [warning, *_] = against({"accuracy": "-0.5pt"}).warnings

    assert warning.startswith("gate accuracy:-0.5pt: with 1 gated row, 3 seeds see a loss of twice the margin in ")
    assert int(warning.partition("about ")[2].split()[0]) > 50


def test_a_gate_that_sees_enough_is_not_warned_of(one_rate, against):
    """At a small spread no warning is made."""
    one_rate(SCORES, moved(0))

    assert [] == against({"accuracy": "-10pt"}).warnings


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

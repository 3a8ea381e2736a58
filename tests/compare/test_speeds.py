"""Throughput of two results folders: within a session, over several, and on other hardware."""

import pytest
from comparisons import row_of, session

from normbench import gates as gating
from normbench.compare.folders import compare
from normbench.errors import UsageError
from normbench.store.records import EnvironmentRecord


def test_throughput_within_a_session(folder, head, against):
    """One session a side: the shift of the rounds' logs, labelled as within a session."""
    session(folder, layer=1.0)
    session(head, layer=0.7)

    row = row_of(against({"throughput": "-10%"}), "throughput")

    assert ("regressed", 1, ["within-session"]) == (row.word, row.seeds, row.flags)
    assert pytest.approx((1.0, 0.7, -0.3)) == (row.base, row.head, row.difference.centre)


def test_a_gate_below_ten_per_cent_needs_three_sessions(folder, head, against):
    """Between sessions 1-2% moves by itself: one session carries no finer gate."""
    session(folder, layer=1.0)
    session(head, layer=1.0)

    with pytest.raises(UsageError) as refused:
        against({"throughput": "-5%"})

    assert str(refused.value).startswith("gate throughput:-5%: with one session per side a margin is 10% or more; ")
    assert "needs 3 sessions per side" in str(refused.value)


def test_three_sessions_a_side_carry_a_finer_gate(folder, head, against):
    """Three sessions a side are compared by their medians."""
    for number, speed in enumerate([1.0, 1.01, 0.99]):
        session(folder, number, layer=speed, other=speed)
        session(head, number, layer=0.9 * speed, other=1.001 * speed)

    found = against({"throughput": "-5%"})

    rows = {row.norm: row for row in found.rows}
    assert ("regressed", 3, []) == (rows["layer"].word, rows["layer"].seeds, rows["layer"].flags)
    assert "ok" == rows["other"].word
    assert pytest.approx(-0.1) == rows["layer"].difference.centre


def test_the_same_sessions_are_identical(folder, against):
    """A folder held against itself asks nothing of its sessions, whatever the gate."""
    session(folder, layer=0.8)

    found = compare(folder.store, folder.store, gating.gates({"throughput": "-5%"}, "gate"))

    assert ["identical"] == [row.word for row in found.rows]


def test_throughput_of_other_hardware_is_not_compared(folder, head, against):
    """A hard difference of the environments leaves no timing to compare; it is named."""
    with folder.store.writer() as writer:
        first = writer.environment(EnvironmentRecord.of(processor="one", packages={"torch": "2.1.0"}))
    with head.store.writer() as writer:
        second = writer.environment(EnvironmentRecord.of(processor="two", packages={"torch": "2.2.0"}))
    session(folder, environment=first, layer=1.0)
    session(head, environment=second, layer=0.5)

    found = against({"throughput": "-10%"})

    assert [] == found.rows
    assert "throughput of spirals can't be compared: processor one → two, torch 2.1 → 2.2" in found.notes


def test_a_speed_that_head_lost_has_vanished(folder, head, against):
    """Where HEAD was timed without a norm that BASE timed, the row is not left out in silence."""
    session(folder, layer=1.0, other=1.0)
    session(head, other=1.0)

    found = against({"throughput": "-10%"})

    assert {"layer": "vanished", "other": "ok"} == {row.norm: row.word for row in found.rows}
    assert ["layer"] == [row.norm for row in found.failing(strict=True)]


def test_gates_on_throughput_count_among_the_rows(folder, head, against):
    """Five seeds carry one row of failures; with a row of throughput beside it, it takes six, as Holm does."""
    folder.add({"layer": {0.1: [0.9] * 5, 1: [0.8] * 5}})
    head.add({"layer": {0.1: [0.85] * 5, 1: [0.1] * 5}})
    session(folder, layer=1.0)
    session(head, layer=0.99)

    alone = against({"failure_rate": "+10pt"})
    with pytest.raises(UsageError) as refused:
        against({"failure_rate": "+10pt", "throughput": "-10%"})

    assert "regressed" == row_of(alone, "failure_rate").word
    assert "with 2 gated rows a sign test needs 6" in str(refused.value)

"""The throughput board of several sessions: how they are joined, and what stands apart."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from timings import TRAINED, note, rows, session, timing

from normbench.boards import tables
from normbench.store import Store
from normbench.store.records import SessionRecord


def failed(reason: str = "boom", **fields: Any) -> SessionRecord:
    """Return a session whose baseline raised: without figures."""
    base = timing("batchnorm", outcome="error", reason=reason)
    return session(timing("fast", []), baseline=base, again=[], **{"rounds": 3, "stopped": "failed", **fields})


def test_without_a_baseline_there_are_no_figures(board) -> None:
    """A failed session ranks nothing, and says of each norm why."""
    table = board(failed())

    assert ([], []) == (table.rows, table.notes)
    assert [
        ("batchnorm", "error: boom"),
        ("fast", "the baseline 'batchnorm' could not be measured"),
    ] == table.apart


def test_a_failed_session_takes_no_figures_away(board) -> None:
    """What was measured stays on the board where a later session of the same code failed."""
    table = board(session(timing("fast", 2.0)), failed(session="session 2"))

    assert ["fast", "batchnorm"] == [row.norm for row in table.rows]
    assert [] == table.apart


@pytest.mark.parametrize(("norm_print", "ranked"), [("fast print", True), ("edited", False)])
def test_an_error_counts_where_the_code_is_other(board, norm_print: str, ranked: bool) -> None:
    """A norm that raised in its latest session keeps the figures of the same code, and loses those of older code."""
    broken = timing("fast", outcome="error", reason="boom", norm_print=norm_print)

    table = board(session(timing("fast", 2.0)), session(broken, session="session 2"))

    assert ranked == ("fast" in rows(table))
    assert ([] if ranked else [("fast", "error: boom")]) == table.apart


def test_a_session_on_another_device_takes_no_figures_away(board) -> None:
    """What other code of a norm gave on a GPU says nothing of what the sessions on the CPU measured."""
    elsewhere = session(timing("fast", 3.0, norm_print="other print"), device="cuda")

    table = board(session(timing("fast", 2.0)), elsewhere, session(timing("slow", 0.5)))

    assert {"fast", "slow"} <= set(rows(table))
    assert pytest.approx(2.0) == rows(table)["fast"].values["ratio"].number


def test_sessions_are_joined(board) -> None:
    """A norm that was added later stands beside the others by its ratio in its own session, and a note says so."""
    table = board(session(timing("fast", 2.0)), session(timing("added", 0.5), baseline=0.25, session="session 2"))

    found = rows(table)
    assert ["fast", "added", "batchnorm"] == [row.norm for row in table.rows]
    assert pytest.approx(2.0) == found["added"].values["ratio"].number == found["fast"].values["ratio"].number
    assert pytest.approx(TRAINED * 0.25) == found["batchnorm"].values["train_samples_per_s"].number
    assert "2 sessions, each beside 'batchnorm'; compare their ratios" in note(table, "joined")
    assert 2 == sum(note.startswith("session ") for note in table.notes)


def test_a_norm_that_was_measured_again_is_shown_anew(board) -> None:
    """Of two sessions that measured everything, the later is shown alone."""
    table = board(session(timing("fast", 2.0)), session(timing("fast", 3.0), session="session 2"))

    assert pytest.approx(3.0) == rows(table)["fast"].values["ratio"].number
    assert note(table, "session").startswith("session session 2")
    assert not any(note.startswith("joined") for note in table.notes)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"device": "cuda"}, "measured on cuda alone; the others on cpu"),
        ({"baseline": timing("layer-norm")}, "measured beside 'layer-norm', not beside 'batchnorm'"),
        ({"baseline": timing("batchnorm", norm_print="old")}, "measured with other code of 'batchnorm'"),
        ({"task_print": "old"}, "measured with other code of the task"),
    ],
    ids=["device", "baseline", "baseline's code", "task's code"],
)
def test_ratios_to_something_else_stand_apart(board, fields: dict[str, Any], why: str) -> None:
    """Only ratios to the same code of the same baseline on the same kind of device stand in one column."""
    table = board(session(timing("old", 9.0), timing("fast", 9.0), **fields), session(timing("fast", 2.0)))

    assert ["fast", "batchnorm"] == [row.norm for row in table.rows]
    assert pytest.approx(2.0) == rows(table)["fast"].values["ratio"].number
    assert ("old", why) in table.apart


def test_sessions_of_two_environments_are_named(board) -> None:
    """Other versions or hardware in one table are said to be mixed."""
    same = board(session(timing("fast", 2.0)), session(timing("added"), session="session 2"))
    mixed = board(session(timing("more"), session="session 3", environment="another"))

    assert not any(note.startswith("mixed") for note in same.notes)
    assert "more than one environment" in note(mixed, "mixed")


@pytest.mark.parametrize(("norm_print", "edited"), [("norm print", True), ("fast print", False), (None, False)])
def test_a_norm_that_was_edited_since_is_named(board, folder, norm_print: str | None, edited: bool) -> None:
    """Where the latest run trained other code than the session measured, a note says so."""
    folder.add({"fast": {0.1: [0.9]}}, norm_print=norm_print)

    earlier = board(session(timing("fast", 2.0), started="2023-01-01T00:00:00+00:00"))

    assert edited == any(
        note == "edited since its session: 'fast'; the throughput here is that of the older code"
        for note in earlier.notes
    )


def test_a_norm_that_was_edited_before_its_session_is_named(board, folder) -> None:
    """Where a session measured newer code than the latest run trained, a note says that the trials are older."""
    folder.add({"fast": {0.1: [0.9]}}, norm_print="norm print")

    later = board(session(timing("fast", 2.0), started="2025-01-01T00:00:00+00:00"))

    says = [note for note in later.notes if note.startswith("edited")]
    assert ["edited before its session: 'fast'; the trials ran the older code: run the suite again"] == says


@pytest.mark.parametrize(
    "changes",
    [
        {"rounds": 8},
        {"rounds": 0},
        {"norms": [timing("fast", [1.0] * 8)]},
        {"norms": [timing("fast", evaluation=[])]},
        {"without": timing("none", [])},
        {"again": timing("batchnorm", train=[0.0] * 9)},
    ],
    ids=["rounds", "no rounds", "a norm's", "its evaluation", "none's", "no time"],
)
def test_a_line_whose_rounds_do_not_agree_is_left_out(folder, changes: dict[str, Any]) -> None:
    """A record that no board could place is named like any line that can't be read."""
    whole = msgspec.to_builtins(session(timing("fast", 2.0)))
    line = msgspec.json.encode({**whole, **msgspec.to_builtins(changes)})
    folder.store.folder.mkdir()
    (folder.store.folder / "sessions.jsonl").write_bytes(line + b"\n")

    store = Store(folder.store.folder)

    assert [] == tables(store)
    assert ["lacks the seconds of"] == [bad.reason[bad.reason.index("lacks") :][:20] for bad in store.unreadable]


def test_ratios_to_another_baseline_are_of_the_same_rounds(measured) -> None:
    """Asked for another norm, each ratio is to that norm's speed in the round, and it stands at 1 itself."""
    speeds = [1.0, 4.0, 2.0, 0.1, 1.0, 0.5, 1.0, 1.0, 1.0]
    twice = [2 * speed for speed in speeds]
    store = measured(session(timing("slow", speeds), timing("fast", twice)))

    [table] = tables(store, ("throughput",), baseline="slow")

    found = rows(table)
    assert ("slow", "ratio to\nslow [95%]") == (table.baseline, table.columns[2].title)
    assert (1.0, pytest.approx(2.0)) == (found["slow"].values["ratio"].number, found["fast"].values["ratio"].number)
    assert pytest.approx(1.0) == found["batchnorm"].values["ratio"].number
    assert "fast" == table.rows[0].norm
    assert note(table, "ratio: training speed over that of 'slow'")


def test_what_shares_no_rounds_with_another_baseline_stands_apart(measured) -> None:
    """A norm of a session without that norm, or with other code of it, has no ratio to it."""
    first = session(timing("slow", 0.5), timing("old", 1.5))
    edited = session(timing("slow", 0.6, norm_print="edited"), timing("fast", 2.0), session="session 2")
    last = session(timing("new", 3.0), session="session 3")

    [table] = tables(measured(first, edited, last), ("throughput",), baseline="slow")

    assert ["fast", "slow"] == [row.norm for row in table.rows]
    assert {
        "batchnorm": "not measured in the same rounds as 'slow'",
        "new": "not measured in the same rounds as 'slow'",
        "old": "measured with other code of 'slow'",
    } == dict(table.apart)


def test_a_baseline_that_no_session_has_leaves_no_ratio(measured) -> None:
    """Nothing is shown beside a norm that was never timed; every norm says so."""
    [table] = tables(measured(session(timing("fast", 2.0))), ("throughput",), baseline="absent")

    assert [] == table.rows
    assert {"not measured in the same rounds as 'absent'"} == {why for _, why in table.apart}

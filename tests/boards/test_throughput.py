"""The throughput board, from made-up sessions: its figures against numbers computed apart, and what it says beside."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest

from normbench.boards import tables
from normbench.contract import Recipe
from normbench.store import Store
from normbench.store.records import SCHEMA, EnvironmentRecord, SessionRecord, Timing
from normbench.tables import Table
from normbench.tables.table import TableRow
from normbench.tables.text import as_csv, as_json, terminal

#: Ratios of nine rounds whose median is 1.1 and whose 2nd and 8th are .8 and 2.
NINE = [1.0, 0.5, 0.8, 2.0, 1.1, 0.9, 1.2, 1.3, 3.0]
#: A block of the sessions here: 20 steps of 8 samples, 10 batches of 100.
TRAINED, EVALUATED = 160, 1000


def timing(norm: str, speeds: Any = 1.0, **fields: Any) -> Timing:
    """Return a norm's rounds: how fast it trained in each, as blocks a second; it evaluates twice as fast."""
    speeds = [speeds] * 9 if isinstance(speeds, float) else list(speeds)
    given = {"norm": norm, "label": norm, "norm_print": f"{norm} print", **fields}
    if given.get("outcome", "measured") == "measured":
        given = {"train": [1 / speed for speed in speeds], "evaluation": [0.5 / speed for speed in speeds], **given}
    return Timing(**given)


def session(*norms: Timing, baseline: Any = 1.0, again: Any = None, **fields: Any) -> SessionRecord:
    """Return a session of these norms; the baseline and `again` are given by their speeds in each round."""
    base = baseline if isinstance(baseline, Timing) else timing("batchnorm", baseline)
    given = {
        "schema": SCHEMA,
        "session": "session 1",
        "started": "2024-01-01T00:00:00+00:00",
        "finished": "2024-01-01T00:01:00+00:00",
        "command": ["normbench"],
        "version": "0",
        "task": "spirals",
        "task_version": 1,
        "task_print": "task print",
        "recipe": Recipe(rate=0.1, batch_size=8, epochs=3),
        "device": "cpu",
        "environment": "environment 1",
        "rounds": len(base.train),
        "steps": 20,
        "batches": 10,
        "batch": 100,
        "stopped": "precise",
        "baseline": base,
        "again": base if again is None else timing("batchnorm", again),
        "norms": list(norms),
    }
    return SessionRecord(**{**given, **fields})


@pytest.fixture
def measured(folder) -> Callable[..., Store]:
    """Return a function that stores sessions, and gives the store."""

    def put(*records: SessionRecord) -> Store:
        with folder.store.writer() as writer:
            writer._append("environments.jsonl", {"schema": 1, "environment": "environment 1", "processor": "a CPU"})
            for record in records:
                writer.append(record)
        return folder.store

    return put


@pytest.fixture
def board(measured) -> Callable[..., Table]:
    """Return a function that stores sessions of one table, and gives its throughput board."""

    def made(*records: SessionRecord) -> Table:
        [table] = tables(measured(*records), ("throughput",))
        return table

    return made


def rows(table: Table) -> dict[str, TableRow]:
    return {row.norm: row for row in table.rows}


def note(table: Table, begins: str) -> str:
    """Return the only note that begins so."""
    [found] = [note for note in table.notes if note.startswith(begins)]
    return found


def test_samples_a_second_are_medians_over_the_rounds(board) -> None:
    """What a block holds, over the seconds that it took in the median round, in training and in evaluation."""
    values = rows(board(session(timing("fast", NINE))))["fast"].values

    assert pytest.approx(TRAINED * statistics.median(NINE)) == values["train_samples_per_s"].number
    assert pytest.approx(2 * EVALUATED * statistics.median(NINE)) == values["eval_samples_per_s"].number
    assert None is values["train_samples_per_s"].low


def test_ratio_is_within_the_round_with_the_interval_of_nine(board) -> None:
    """A norm's speed over the baseline's, round by round: the median, and from the 2nd to the 8th of nine."""
    drift = [1.0, 1.0, 4.0, 2.0, 0.1, 1.0, 0.5, 1.0, 1.0]
    speeds = [slow * ratio for slow, ratio in zip(drift, NINE, strict=True)]

    value = rows(board(session(timing("fast", speeds), baseline=drift)))["fast"].values["ratio"]

    assert pytest.approx((0.8, 1.1, 2.0)) == (value.low, value.number, value.high)
    assert "order" == value.ends


def test_ratio_of_fifteen_rounds_ends_at_the_4th_and_12th(board) -> None:
    """More rounds have the interval that belongs to their number."""
    ratios = np.random.default_rng(0).permutation(np.linspace(1, 1.14, 15)).tolist()

    value = rows(board(session(timing("fast", ratios), baseline=[1.0] * 15)))["fast"].values["ratio"]

    assert pytest.approx((1.03, 1.07, 1.11)) == (value.low, value.number, value.high)


def test_the_baseline_is_its_own_measure(board) -> None:
    """The baseline stands among the norms with ratio 1, without an interval."""
    value = rows(board(session(timing("fast", 2.0))))["batchnorm"].values["ratio"]

    assert (1.0, None, None) == (value.number, value.low, value.high)


def test_norms_are_ranked_by_their_ratio(board) -> None:
    """The fastest in training comes first; equal ratios share a rank."""
    table = board(session(timing("slow", 0.5), timing("fast", 2.0), timing("same", 1.0)))

    assert [("fast", 1), ("batchnorm", 2), ("same", 2), ("slow", 4)] == [(row.norm, row.rank) for row in table.rows]


def test_share_is_what_a_norm_adds_to_the_step_without_one(board) -> None:
    """The share of a step is reckoned against `none` of the same round, which itself has none."""
    without = timing("none", [slow * 2.0 for slow in NINE])

    found = rows(board(session(timing("half", NINE), without, baseline=[slow * 1.6 for slow in NINE], without=without)))

    shares = {norm: row.values["share"].number for norm, row in found.items()}
    assert {"half": pytest.approx(0.5), "batchnorm": pytest.approx(0.2), "none": None} == shares


@pytest.mark.parametrize("without", [None, timing("none", outcome="error", reason="boom")])
def test_without_none_there_is_no_share(board, without: Timing | None) -> None:
    """Where `none` was not measured nobody can say what a norm takes of the step, and no note explains it."""
    table = board(session(timing("fast", 2.0), without=without))

    assert None is rows(table)["fast"].values["share"].number
    assert not any(note.startswith("share") for note in table.notes)


@pytest.mark.parametrize(
    ("again", "drifts"),
    [([1.0] * 9, False), ([0.9] * 4 + [1.1] * 5, False), ([1.02] * 8 + [0.9], True), ([0.98] * 8 + [1.2], True)],
    ids=["same", "about the same", "slower", "faster"],
)
def test_a_baseline_that_does_not_equal_itself_is_marked(board, again: list[float], drifts: bool) -> None:
    """Where the interval of the baseline's ratio to itself excludes 1, every row has a flag, and a note says it."""
    table = board(session(timing("fast", 2.0), again=again))

    assert [["a-a"] if drifts else []] * 2 == [row.flags for row in table.rows]
    assert drifts == ("the machine was not steady; measure again" in note(table, "session"))


def test_a_session_is_described(board) -> None:
    """A note names hardware, threads, how many rounds of what, and the baseline's ratio to itself with its interval."""
    said = note(board(session(timing("fast", 2.0), again=[1 / ratio for ratio in NINE])), "session")

    assert said == (
        "session session 1: a CPU, 1 thread; 9 rounds of 20 steps of 8 samples, all ratios known to ±3%; "
        "A/A ('batchnorm' to itself) 0.909 [0.500…1.250]"
    )


@pytest.mark.parametrize(
    ("stopped", "says"),
    [
        ("precise", "all ratios known to ±3%"),
        ("time", "stopped by its time limit before all ratios were known to ±3%"),
        ("rounds", "not all ratios known to ±3%"),
    ],
)
def test_a_session_says_why_it_ended(board, stopped: str, says: str) -> None:
    """Precise, out of time, or out of rounds: the note says which."""
    assert f", {says}; A/A" in note(board(session(stopped=stopped)), "session")


@pytest.mark.parametrize(
    ("device", "environment", "says"),
    [
        ("cuda", {"accelerator": "a GPU", "processor": "a CPU"}, "session session 1: a GPU; 9 rounds"),
        ("cpu", {"processor": ""}, "session session 1: unknown hardware, 4 threads; 9 rounds"),
    ],
)
def test_hardware_is_what_computed(folder, device: str, environment: dict[str, str], says: str) -> None:
    """A GPU is named instead of its CPU, and threads are a CPU's."""
    recipe = Recipe(rate=0.1, batch_size=8, epochs=3, threads=4)
    with folder.store.writer() as writer:
        name = writer.environment(EnvironmentRecord.of(**environment))
        writer.append(session(device=device, environment=name, recipe=recipe))

    table = folder.table("throughput")

    assert note(table, "session").startswith(says)


@pytest.mark.parametrize(("device", "there"), [("cuda", True), ("cpu", False)])
def test_memory_is_cudas_alone(board, device: str, there: bool) -> None:
    """The peak of a step's memory has a column, in MiB, where the session ran on CUDA."""
    peak = 3 * 2**19 if there else None

    table = board(session(timing("fast", 2.0, peak_memory=peak), device=device))

    assert there == ("peak_memory" in [column.name for column in table.columns])
    assert (1.5 if there else None) == rows(table)["fast"].values["peak_memory"].number


def test_a_norm_that_could_not_be_measured_stands_apart(board) -> None:
    """What was unsupported, or raised, is listed with the reason in one line, not ranked."""
    table = board(
        session(
            timing("flat", outcome="unsupported", reason="no form\nfor NCHW"),
            timing("large", outcome="oom"),
            timing("broken", outcome="error", reason="RuntimeError: no luck"),
        )
    )

    assert ["batchnorm"] == [row.norm for row in table.rows]
    assert [
        ("flat", "unsupported: no form for NCHW"),
        ("large", "oom: no reason given"),
        ("broken", "error: RuntimeError: no luck"),
    ] == table.apart


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


def test_a_board_of_throughput_comes_after_those_of_its_trials(measured, folder) -> None:
    """Tables of one task and condition stand together, also where there are only sessions of another."""
    folder.add({"batchnorm": {0.1: [0.9], 1.0: [0.8]}})
    measured(session(), session(condition={"threads": 2}, recipe=Recipe(rate=0.1, batch_size=8, epochs=3, threads=2)))

    found = [(table.board, table.condition) for table in tables(folder.store)]

    assert [
        ("accuracy", {}),
        ("stability", {}),
        ("throughput", {}),
        ("throughput", {"threads": 2}),
    ] == found


def test_only_some_tables_are_wanted(measured) -> None:
    """A run shows the throughput of its own tasks and conditions alone."""
    record = session()
    store = measured(record, session(task="rings"))

    found = tables(store, only=frozenset([record.table_id]))

    assert ["spirals"] == [table.task for table in found]
    assert [] == tables(store, ("accuracy", "stability"))


def test_json_has_every_column(board) -> None:
    """A program reads samples a second, the ratio with its ends, the share in per cent, memory, and flags."""
    without = timing("none", [2 * slow for slow in NINE])
    fast = timing("fast", NINE, peak_memory=2**20)

    table = board(session(fast, without=without, device="cuda", again=[1.1] * 9))
    [row, _] = json.loads(as_json([table]))["boards"][0]["rows"]

    assert {
        "norm": "fast",
        "rank": 1,
        "rank_low": None,
        "rank_high": None,
        "group": None,
        "seeds": 1,
        "train_samples_per_s": pytest.approx(TRAINED * 1.1),
        "eval_samples_per_s": pytest.approx(EVALUATED * 2.2),
        "ratio": pytest.approx(1.1),
        "ratio_low": pytest.approx(0.8),
        "ratio_high": pytest.approx(2.0),
        "share": pytest.approx(50.0),
        "peak_memory": 1.0,
        "flags": ["a-a"],
    } == row


def test_csv_has_a_header_and_a_row_a_norm(board) -> None:
    """The board is written as the others are."""
    header, *lines = as_csv([board(session(timing("fast", 2.0)))]).splitlines()

    assert "rank,rank_low,rank_high,group,norm,seeds,train_samples_per_s,eval_samples_per_s,ratio," in header
    assert header.endswith("ratio,ratio_low,ratio_high,share,flags")
    assert 2 == len(lines)


def test_the_board_fits_a_terminal(board) -> None:
    """With a norm's name of usual length nothing is folded at 80 columns, and no line is longer."""
    without = timing("none", 1.5)
    table = board(session(timing("batchnorm-no-affine", NINE), without, without=without))

    text = terminal([table], 80)

    assert max(len(line) for line in text.splitlines()) <= 80
    assert 1 == text.count("\n#  norm ")
    assert "1.100 [0.800…2.000]" in text


def test_the_protocol_stands_in_the_title(board) -> None:
    """A session under the published protocol has a table of its own, which says so."""
    table = board(session(recipe=Recipe(rate=0.1, batch_size=8, epochs=3, hold_out=False)))

    assert terminal([table], 80).startswith("throughput · spirals v1 · protocol published\n")


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

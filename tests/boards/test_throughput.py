"""The throughput board of one session: its figures against numbers computed apart, and what it says beside."""

from __future__ import annotations

import json
import statistics

import numpy as np
import pytest
from timings import EVALUATED, NINE, TRAINED, note, rows, session, timing

from normbench.boards import tables
from normbench.contract import Recipe
from normbench.store.records import EnvironmentRecord, Timing
from normbench.tables.text import as_csv, as_json, terminal


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
    assert drifts == any(warning.startswith("not steady: ") for warning in table.warnings)


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

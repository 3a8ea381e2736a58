"""Merging: one folder with all that several hold, in the order of time; and what is refused, leaving nothing behind."""

import errno
import os
from pathlib import Path

import msgspec
import pytest

from normbench.contract import Recipe
from normbench.errors import UsageError
from normbench.store import Store, Writer
from normbench.store.held import LOCK
from normbench.store.kinds import ENVIRONMENTS, FINGERPRINTS, RUNS, SESSIONS, SOURCES, TRACES, TRIALS
from normbench.store.merge import merge
from normbench.store.records import (
    SCHEMA,
    FingerprintRecord,
    RunRecord,
    SessionRecord,
    SourcesRecord,
    Timing,
    TraceRecord,
    TrialRecord,
)
from normbench.trials import Cell, Measure, Source

RECIPE = Recipe(rate=0.1, batch_size=8, epochs=1)
TASK = {"schema": SCHEMA, "task": "toy", "task_version": 1, "device": "cpu"}
CALL = {"command": [], "version": "1"}


def run(name="run", started="10:00", **changed):
    cell = Cell(task="toy", task_version=1, norm="none", label="none", recipe=RECIPE, rates=[0.1], seeds=[0])
    given = {"run": name, "started": started, "suite": {}, "baseline": "none", "cells": [cell]}
    return RunRecord(**{"schema": SCHEMA, "device": "cpu", **CALL, **given, **changed})


def trial(key="a", finished="10:00", score=0.9, **changed):
    measure = Measure(name="accuracy", unit="%", direction="up", chance=0.1, reference=0.9)
    given = {"run": "run", "norm": "none", "recipe": {"rate": 0.1}, "seed": 0, "environment": "env"}
    given |= {"norm_print": "n", "task_print": "t", "outcome": "trained", "measure": measure}
    return TrialRecord(**{**TASK, "key": key, "finished": finished, "score": score, **given, **changed})


def trace(key="a", finished="10:00", **changed):
    given = {"run": "run", "norm": "none", "recipe": {"rate": 0.1}, "seed": 0, "environment": "env", "probe": "seeing"}
    return TraceRecord(**{**TASK, "key": key, "finished": finished, **given, **changed})


def session(name="s", finished="10:00", **changed):
    timing = Timing(norm="none", label="none", train=[0.1], evaluation=[0.5])
    given = {"started": "09:00", "environment": "env", "recipe": RECIPE, "baseline": timing, "again": timing}
    block = {"rounds": 1, "steps": 3, "batches": 4, "batch": 5, "stopped": "time", "norms": []}
    return SessionRecord(**{**TASK, **CALL, "session": name, "finished": finished, **given, **block, **changed})


def fingerprint(started="10:00", **changed):
    given = {"method": 1, "norm": "none", "label": "none", "recipe": RECIPE, "environment": "env", "outcome": "taken"}
    return FingerprintRecord(**{**TASK, **CALL, "started": started, **given, **changed})


def sources(name="list", sha256="1"):
    files = [Source(at="plugin mine", path="mine.py", sha256=sha256)]
    return SourcesRecord(schema=SCHEMA, sources=name, files=files)


@pytest.fixture
def folder(tmp_path):
    """Return a function that stores records in a folder; a dict is an environment's line."""

    def make(name, *records):
        store = Store(tmp_path / name)
        with store.writer() as writer:
            for record in records:
                if isinstance(record, dict):
                    writer.copy(ENVIRONMENTS, [{"schema": SCHEMA, **record}])
                else:
                    writer.append(record)
        return Store(tmp_path / name)

    return make


@pytest.fixture
def merged(tmp_path):
    """Return a function that merges stores, and gives the store that came of it."""

    def call(*stores, out="merged"):
        merge(stores, tmp_path / out)
        return Store(tmp_path / out)

    return call


def content(store):
    """Return what a folder's files hold, without its lock."""
    return {path.name: path.read_bytes() for path in store.folder.iterdir() if path.name != LOCK}


def test_all_that_the_folders_hold_is_merged(folder, tmp_path):
    """Every kind of record of every folder is there, and they are counted."""
    env = {"environment": "env", "cores": 2}
    other = {**env, "environment": "o"}
    a = folder("a", run("r1"), trial("a"), trace("a"), session("s1"), fingerprint(norm="x"), sources(), env)
    b = folder("b", run("r2"), trial("b"), trace("b"), session("s2"), fingerprint(norm="y"), sources("other"), other)

    counts = merge([a, b], tmp_path / "merged")

    found = Store(tmp_path / "merged")
    assert {RUNS: 2, TRIALS: 2, TRACES: 2, SESSIONS: 2, FINGERPRINTS: 2, SOURCES: 2, ENVIRONMENTS: 2} == counts
    for read in (Store.runs, Store.trials, Store.traces, Store.sessions, Store.fingerprints, Store.source_records):
        assert [*read(a), *read(b)] == list(read(found))
    assert a.environments() | b.environments() == found.environments()
    assert [] == found.unreadable


def test_the_latest_counts(folder, merged):
    """Runs are in the order in which they began, the others in that in which they ended, whichever folder is named."""
    a = folder("a", run("r1", "10:00"), run("r4", "13:00"), trial("x", "10:30"), trial("y", "13:30"), session("s", "9"))
    b = folder("b", run("r2", "11:00"), trial("x", "11:30", 0.8, device="cuda"), session("q", "8"), fingerprint("7"))
    c = folder("c", run("r3", "12:00"), trial("z", "12:30"), fingerprint("6"))

    found = merged(c, a, b)

    assert ["r1", "r2", "r3", "r4"] == [record.run for record in found.runs()]
    assert ["10:30", "11:30", "12:30", "13:30"] == [record.finished for record in found.trials()]
    assert ["q", "s"] == [record.session for record in found.sessions()]
    assert ["6", "7"] == [record.started for record in found.fingerprints()]


def test_records_of_one_time_stay_in_their_order(folder, merged):
    """Where the time says nothing, the order is that of the folders, and of their lines."""
    a, b = folder("a", run(), trial("b"), trial("a")), folder("b", run(), trial("d"), trial("c"))

    assert ["b", "a", "d", "c"] == [record.key for record in merged(a, b).trials()]


def test_a_clock_that_was_set_back_changes_no_latest(folder, merged):
    """Of one folder the later line stays the later one, whatever its time says."""
    a = folder("a", run(), trial(finished="11:00", score=0.5), trial(finished="10:00", score=0.9))
    b = folder("b", run(), trial("b", "10:30"))

    assert [("b", 0.9), ("a", 0.5), ("a", 0.9)] == [(one.key, one.score) for one in merged(a, b).trials()]


def test_what_several_folders_hold_is_there_once(folder, merged):
    """Copies of a line are one line: merging a folder with itself, or with what came of it, changes nothing."""
    a = folder("a", run("r1"), trial("a"), session(), fingerprint(), {"environment": "env"})
    b = folder("b", run("r1"), run("r2"), trial("a"), trial("b", "11:00"), {"environment": "env"})

    once = merged(a, b)
    again, with_a, itself = merged(a, b, out="again"), merged(once, a, out="with a"), merged(once, once, out="itself")

    assert content(once) == content(again) == content(with_a) == content(itself)
    assert ["a", "b"] == [record.key for record in once.trials()]


def test_one_folder_merged_alone_is_the_same(folder, merged):
    """A trial that gave two things in one folder is that folder's own: its latest counts there, and here."""
    a = folder("a", {"environment": "env"}, run(), trial(score=0.5), trial(score=0.9), session(), fingerprint())

    assert content(a) == content(merged(a))


def test_a_file_and_a_folder_are_merged(folder, merged, tmp_path):
    """An export counts as its folder."""
    a = folder("a", run("r1"), trial("a"), session(), fingerprint(), {"environment": "env"})
    b = folder("b", run("r2"), trial("b"))
    (tmp_path / "a.json").write_bytes(a.export(list(a.trials())))

    assert content(merged(a, b)) == content(merged(Store(tmp_path / "a.json"), b, out="of the file"))


CONTRADICTIONS = {
    "a score": ([trial()], [trial(score=0.8)], "trial a (none, rate 0.1, seed 0): score 0.9 and 0.8"),
    "the last digit": ([trial()], [trial(score=0.9000000000000001)], "score 0.9 and 0.9000000000000001"),
    "an outcome": ([trial()], [trial(outcome="diverged")], "outcome trained and diverged"),
    "an infinite score": (
        [trial(score=None, nonfinite={"score": "inf"})],
        [trial(score=None, nonfinite={"score": "nan"})],
        "score inf and nan",
    ),
    "the latest of a folder": ([trial()], [trial(), trial(score=0.7)], "score 0.9 and 0.7"),
    "a run": ([run()], [run(baseline="batchnorm")], "run run: baseline none and batchnorm"),
    "a run's cells": ([run()], [run(cells=[])], "run run: other cells"),
    "a session": ([session()], [session(steps=4)], "session s: steps 3 and 4"),
    "an environment": (
        [{"environment": "env", "cores": 2}],
        [{"environment": "env", "cores": 4, "packages": {"torch": "2"}}],
        "environment env: cores 2 and 4, other packages",
    ),
}


@pytest.mark.parametrize(("ours", "theirs", "says"), CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_a_contradiction_is_refused(folder, merged, tmp_path, ours, theirs, says):
    """What two folders say differently is named with both, and nothing is written."""
    a, b = folder("a", run("first"), *ours), folder("b", run("second"), *theirs)

    with pytest.raises(UsageError) as refused:
        merged(a, b)

    assert str(refused.value).startswith(f"{a.folder} and {b.folder} contradict: ")
    assert str(refused.value).endswith(f"{says}; nothing is merged")
    assert ["a", "b"] == sorted(path.name for path in tmp_path.iterdir())


def test_contradictions_are_counted(folder, merged):
    """The first is named, and how many there are besides."""
    a, b = (
        folder(name, run(name), *(trial(key, score=score) for key in "xyz")) for name, score in (("a", 1), ("b", 2))
    )

    with pytest.raises(UsageError, match=r"trial x .* score 1\.0 and 2\.0 \(and 2 more contradictions\); nothing is"):
        merged(a, b)


NONE = {
    "on a GPU": {"device": "cuda"},
    "without a print of the norm": {"norm_print": None},
    "without a print of the task": {"task_print": None},
    "in another environment": {"environment": "other"},
    "of other code": {"norm_print": "edited"},
    "with other threads": {"threads": 2},
    "of which one failed": {"outcome": "timeout", "score": None},
}


@pytest.mark.parametrize("theirs", NONE.values(), ids=NONE)
def test_what_need_not_be_the_same_stays_side_by_side(folder, merged, theirs):
    """Trials that may give different numbers both stay, and the later one counts."""
    ours = {name: value for name, value in theirs.items() if name in ("device", "norm_print") and value != "edited"}
    a, b = folder("a", run(), trial(score=0.5, **ours)), folder("b", run(), trial(**{"score": 0.9, **theirs}))

    assert [0.5, theirs.get("score", 0.9)] == [record.score for record in merged(a, b).trials()]


def test_a_line_that_cannot_be_read_is_refused(folder, merged, tmp_path):
    """Merging would lose it: it is named, until the next run has set it aside."""
    a, b = folder("a", run("r1"), trial()), folder("b", run("r2"))
    with (a.folder / TRIALS).open("ab") as file:
        file.write(b'foreign\n{"schema":1')

    with pytest.raises(UsageError, match=r"a/trials\.jsonl line 2: .* \(and 1 more lines?\); .* next run .* aside$"):
        merged(a, b)
    with Store(a.folder).writer():
        pass
    found = merged(Store(a.folder), b)

    assert ["a"] == [record.key for record in found.trials()]
    assert [] == found.unreadable


def test_a_record_of_a_file_that_cannot_be_read_is_refused(folder, merged, tmp_path):
    """No run sets aside what is in a file, so that no run is recommended."""
    a = folder("a", run(), trial())
    document = msgspec.json.decode(a.export(list(a.trials())))
    document["trials"][0]["schema"] = SCHEMA + 1
    (tmp_path / "a.json").write_bytes(msgspec.json.encode(document))

    with pytest.raises(UsageError, match=r"line 1: written by a newer normbench; nothing is merged$"):
        merged(Store(tmp_path / "a.json"))


def test_what_is_there_is_kept(folder, merged):
    """The folder to make is new or empty: one with anything in it, or a file, is refused and stays as it was."""
    a, there = folder("a", run()), folder("there", run("other"))
    before = content(there)

    for out in ("there", "there/runs.jsonl"):
        with pytest.raises(UsageError, match=rf"^-o .*{out}: there is something already; name a new folder"):
            merged(a, out=out)

    assert before == content(there)


def test_an_empty_folder_and_a_deep_one_will_do(folder, merged, tmp_path):
    """What is missing above the folder is made, and an empty folder is filled."""
    a = folder("a", run())
    (tmp_path / "empty").mkdir()

    found = [merged(a, out=out) for out in ("empty", "deep/down")]

    assert [content(a)] * 2 == [content(store) for store in found]


@pytest.mark.parametrize("failing", [ENVIRONMENTS, TRIALS, RUNS])
def test_a_full_disk_leaves_nothing(folder, merged, tmp_path, monkeypatch, failing):
    """Where there is no room, it is said, and neither the folder nor a part of it is left."""
    a = folder("a", run(), trial(), {"environment": "env"})
    copy = Writer.copy

    def full(self, name, records):
        if name == failing:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        copy(self, name, records)

    monkeypatch.setattr(Writer, "copy", full)

    with pytest.raises(UsageError, match=r"^-o .*merged: can't be written \(No space left on device\)$"):
        merged(a)

    assert ["a"] == [path.name for path in tmp_path.iterdir()]


def test_a_merge_that_is_killed_leaves_no_folder(folder, tmp_path):
    """At any moment before the end, the folder is not there, and what is written beside it has no runs yet."""
    a = folder("a", run(), trial(), session(), fingerprint(), {"environment": "env"})
    copy, seen = Writer.copy, []

    def look(self, name, records):
        copy(self, name, records)
        [part] = [path for path in tmp_path.iterdir() if path.name.endswith(".part")]
        seen.append((name, (tmp_path / "merged").exists(), (part / RUNS).exists()))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Writer, "copy", look)
        merge([a], tmp_path / "merged")

    before = [FINGERPRINTS, TRACES, SOURCES, ENVIRONMENTS, SESSIONS, TRIALS]
    assert [*((name, False, False) for name in before), (RUNS, False, True)] == seen
    assert ["a", "merged"] == sorted(path.name for path in tmp_path.iterdir())


def test_thousands_of_trials_are_all_there(folder, merged):
    """What is written in several writes is as whole as what fits in one."""
    a = folder("a", run())
    with a.writer() as writer:
        writer.copy(TRIALS, [trial(f"{i:04}") for i in range(2001)])

    found = merged(Store(a.folder))

    assert [f"{i:04}" for i in range(2001)] == [record.key for record in found.trials()]
    assert content(a) == content(found)


def test_the_folder_is_one_that_a_run_goes_on_in(folder, merged):
    """It is a folder like any other: it can be written to, with the rights that folders get here."""
    a = folder("a", run(), trial())

    found = merged(a)
    with found.writer() as writer:
        writer.append(trial("later"))

    assert ["a", "later"] == [record.key for record in found.trials()]
    assert Path(a.folder).stat().st_mode == found.folder.stat().st_mode


def test_what_a_later_version_said_of_an_environment_stays(folder, merged, tmp_path):
    """Merging and exporting lose nothing of it, although this version reads only what it knows."""
    line = {"environment": "env", "cores": 2, "interconnect": "fast"}
    a = folder("a", run(), trial(), line)

    (tmp_path / "b.json").write_bytes(a.export(list(a.trials())))
    found = merged(a, Store(tmp_path / "b.json"))

    assert [{"schema": SCHEMA, **line}] == [
        msgspec.json.decode(each) for each in (found.folder / ENVIRONMENTS).read_bytes().splitlines()
    ]
    assert 2 == found.environments()["env"].cores

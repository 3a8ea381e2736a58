"""The store, sessions and exports: a file reads as the folder it was made of, and is never written to."""

import msgspec
import pytest

from normbench.contract import Recipe
from normbench.errors import UsageError
from normbench.records import SCHEMA, Cell, Measure, RunRecord, SessionRecord, Timing, TrialRecord
from normbench.store import QUARANTINE, SESSIONS, Store

RECIPE = Recipe(rate=1, batch_size=8, epochs=1)
TASK = {"schema": SCHEMA, "task": "toy", "task_version": 1, "device": "cpu"}


@pytest.fixture
def run():
    """Return a run's record."""
    cell = Cell(task="toy", task_version=1, norm="é", label="é", recipe=RECIPE, rates=[1.0], seeds=[0])
    given = {"run": "run", "started": "now", "command": [], "version": "1", "suite": {"seeds": 1}, "baseline": "none"}
    return RunRecord(schema=SCHEMA, device="cpu", cells=[cell], **given)


@pytest.fixture
def trials():
    """Return two trials' records."""
    measure = Measure(name="accuracy", unit="%", direction="up", chance=0.1, reference=0.9)
    given = {"run": "run", "finished": "now", "norm": "é", "recipe": {"rate": 1.0}, "environment": "env"}
    return [
        TrialRecord(key=key, seed=seed, outcome="trained", score=0.9, measure=measure, **TASK, **given)
        for seed, key in enumerate("ab")
    ]


@pytest.fixture
def session():
    """Return a session's record."""
    timing = Timing(norm="none", label="none", train=[0.1, 0.25], evaluation=[0.5, 1e-6])
    given = {"session": "s", "started": "now", "finished": "later", "command": [], "version": "1", "environment": "env"}
    block = {"rounds": 2, "steps": 3, "batches": 4, "batch": 5, "stopped": "time"}
    return SessionRecord(recipe=RECIPE, baseline=timing, again=timing, norms=[], **TASK, **given, **block)


@pytest.fixture
def folder(tmp_path, run, trials, session):
    """Return a folder's store with a run, two trials, a session and an environment."""
    store = Store(tmp_path / "results")
    with store.writer() as writer:
        for record in (run, *trials, session):
            writer.append(record)
        writer.environment({"cores": 2, "packages": {"torch": "2"}})
    return store


@pytest.fixture
def exported(folder, trials, tmp_path):
    """Return the file that has all of the folder."""
    file = tmp_path / "all.json"
    file.write_bytes(folder.export(trials))
    return file


def test_a_session_is_read_back(folder, session):
    """A session reads as it was written, and alone makes a folder one of results."""
    for path in folder.folder.iterdir():
        if path.name != SESSIONS:
            path.unlink()

    again = Store(folder.folder)

    assert again.exists()
    assert [session] == again.sessions()
    assert ([], [], []) == (again.runs(), list(again.trials()), again.unreadable)


@pytest.mark.parametrize("line", [b"<<<<<<< HEAD", b'{"schema":1}', b'{"schema":2,"all":"new"}', b'{"schema":1,"sess'])
def test_a_session_that_cannot_be_read(folder, session, line):
    """A line that is no session is named once, set aside by the next run, and left where it is."""
    with (folder.folder / SESSIONS).open("ab") as file:
        file.write(line)
    before = Store(folder.folder)
    found = before.sessions()

    with before.writer() as writer:
        writer.append(session)
    after = Store(folder.folder)

    assert [session] == found
    assert [(SESSIONS, 2)] == [(bad.file, bad.line) for bad in before.unreadable]
    assert [session, session] == after.sessions()
    assert [] == after.unreadable
    assert 1 == len((folder.folder / QUARANTINE).read_bytes().splitlines())


def test_a_file_reads_as_the_folder(folder, exported):
    """Runs, trials, results, sessions and environments are those of the folder."""
    file = Store(exported)

    for read in (Store.runs, Store.trials, Store.results, Store.sessions):
        assert list(read(folder)) == list(read(file))
    assert folder.environments() == file.environments()
    assert file.exists()
    assert ([], set()) == (file.unreadable, file.known_unreadable())


def test_only_the_trials_that_are_given_are_exported(folder, trials, tmp_path):
    """What to keep of the trials is the boards' to say."""
    (tmp_path / "one.json").write_bytes(folder.export(trials[1:]))

    assert ["b"] == [result.key for result in Store(tmp_path / "one.json").results()]


def test_an_empty_folder_is_exported(tmp_path):
    """A file of nothing is a file all the same."""
    (tmp_path / "empty.json").write_bytes(Store(tmp_path / "absent").export([]))

    file = Store(tmp_path / "empty.json")

    assert ([], [], [], {}) == (file.runs(), list(file.trials()), file.sessions(), file.environments())


def test_a_record_in_a_file_that_cannot_be_read(exported):
    """A record of a newer version is named by its place among its like, and left out."""
    document = msgspec.json.decode(exported.read_bytes())
    document["trials"][1]["schema"] = SCHEMA + 1
    exported.write_bytes(msgspec.json.encode(document))

    file = Store(exported)

    assert ["a"] == [result.key for result in file.results()]
    assert [("trials.jsonl", 2, "written by a newer normbench")] == [
        (bad.file, bad.line, bad.reason) for bad in file.unreadable
    ]


def test_every_cut_of_a_file_is_refused(exported):
    """However much of a file is missing, it is named, and nothing of it is shown as the whole."""
    whole = exported.read_bytes().rstrip()

    for cut in range(0, len(whole), 7):
        exported.write_bytes(whole[:cut])
        with pytest.raises(UsageError, match=r"all\.json: not a file that normbench export wrote"):
            Store(exported).runs()


def test_a_file_is_not_written_to(exported):
    """Results go into a folder."""
    before = exported.read_bytes()

    with (
        pytest.raises(UsageError, match=r"all\.json: a file, which is not written to; name a folder"),
        Store(exported).writer(),
    ):
        pass

    assert before == exported.read_bytes()
    assert ["all.json", "results"] == sorted(path.name for path in exported.parent.iterdir())

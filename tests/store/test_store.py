"""The store: what was measured stays, whatever happens to the process, the disk or the file."""

import errno
import os
import signal
import tracemalloc

import msgspec
import pytest

from normbench.errors import UsageError
from normbench.store import DiskFullError
from normbench.store.kinds import ENVIRONMENTS, QUARANTINE, RUNS, TRIALS
from normbench.store.lines import Unreadable
from normbench.store.records import SCHEMA, EnvironmentRecord


@pytest.fixture
def disk(monkeypatch):
    """Return a function that leaves so many bytes on the disk; None makes it as large as it is."""
    real = os.write

    def leave(room):
        left = [room]

        def write(descriptor, data):
            if not left[0]:
                raise OSError(errno.ENOSPC, "No space left on device")
            written = real(descriptor, data[: left[0]])
            left[0] -= written
            return written

        monkeypatch.setattr(os, "write", real if room is None else write)

    return leave


def _keys(store):
    return [result.key for result in store.results()]


def _snapshot(folder):
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}


def test_append_and_read_back(store, record, run):
    """Runs and trials read as they were written, oldest first, also over several runs."""
    with store().writer() as writer:
        writer.append(run)
        writer.append(record("a"))
    with store().writer() as writer:
        writer.append(record("b"))

    found = store()

    assert found.exists()
    assert [run] == found.runs()
    assert [record("a"), record("b")] == list(found.trials())
    assert ["a", "b"] == _keys(found)
    assert [] == found.unreadable


def test_lines_can_be_grepped(store, filled):
    """A record is one line of JSON, with its schema."""
    filled("a", "b")

    lines = (store().folder / TRIALS).read_text(encoding="utf-8").splitlines()

    assert [("a", SCHEMA), ("b", SCHEMA)] == [
        (line["key"], line["schema"]) for line in (msgspec.json.decode(line) for line in lines)
    ]


def test_empty_store(store):
    """Reading where nothing was stored finds nothing, and makes no folder."""
    empty = store()

    found = (empty.exists(), empty.runs(), list(empty.trials()), empty.environments(), empty.unreadable)

    assert (False, [], [], {}, []) == found
    assert not empty.folder.exists()


def test_stored_line_is_durable_when_append_returns(store, record):
    """Another process sees a record as soon as it is appended, while the run goes on."""
    with store().writer() as writer:
        writer.append(record("a"))
        during = _keys(store())

    assert ["a"] == during


def test_torn_at_every_byte(store, filled, monkeypatch):
    """Wherever a kill cuts the last line, all before it is read, it is named once, and the next run goes on."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    filled("a", "b")
    trials, quarantine = store().folder / TRIALS, store().folder / QUARANTINE
    whole = trials.read_bytes()
    start = whole.index(b"\n") + 1

    for cut in range(start, len(whole)):
        # All but the line's end is the whole record.
        kept, torn = (["a", "b"], []) if cut == len(whole) - 1 else (["a"], [whole[start:cut]] if cut > start else [])
        trials.write_bytes(whole[:cut])
        quarantine.unlink(missing_ok=True)

        reader = store()
        assert (cut, kept) == (cut, _keys(reader))
        assert kept == [trial.key for trial in reader.trials()]
        assert [(TRIALS, 2, "its end is missing")] * len(torn) == [
            (bad.file, bad.line, bad.reason) for bad in reader.unreadable
        ]

        filled("c")
        filled("d")
        after = store()
        assert (cut, [*kept, "c", "d"]) == (cut, _keys(after))
        assert [] == after.unreadable
        assert trials.read_bytes().startswith(whole[:cut])
        lines = quarantine.read_bytes().splitlines() if quarantine.exists() else []
        aside = [msgspec.json.decode(line, type=Unreadable).text for line in lines]
        assert [text.decode(errors="backslashreplace") for text in torn] == aside


@pytest.mark.parametrize("name", [RUNS, ENVIRONMENTS])
def test_torn_line_of_another_file(store, run, name):
    """A torn line of the runs or of the environments costs only itself, too."""
    with store().writer() as writer:
        writer.append(run)
        first = writer.environment(EnvironmentRecord.of(cores=1))
    with (store().folder / name).open("ab") as file:
        file.write(b'{"schema":1,"ru')

    with store().writer() as writer:
        named = [(bad.file, bad.line) for bad in writer._store.unreadable]
        writer.append(run)
        second = writer.environment(EnvironmentRecord.of(cores=2))

    assert [(name, 2)] == named
    after = store()
    assert [run, run] == after.runs()
    assert [first, second] == list(after.environments())
    assert [] == after.unreadable


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"<<<<<<< HEAD", "malformed"),
        (b'{"schema":1}', "missing required field"),
        (b'{"schema":1,"key":"x","run":"y"}', "missing required field"),
        (b"[1, 2]", "Expected `object`, got `array`"),
        (b"\xff\xfe", ""),
        (b"\x00\x00\x00", "malformed"),
        (b'{"schema":2,"all":"new"}', "written by a newer normbench"),
        (b'{"schema":"one"}', "Expected `int`, got `str`"),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", [RUNS, TRIALS, ENVIRONMENTS])
def test_line_that_is_foreign(store, record, run, line, reason, name):
    """A line that is not normbench's is named with file, line and reason, set aside by the next run, and left there."""
    with store().writer() as writer:
        writer.append(run)
        writer.append(record("a"))
        writer.environment(EnvironmentRecord.of(cores=1))
    with (store().folder / name).open("ab") as file:
        file.write(line + b"\n")

    before = store()
    for read in (before.runs, before.results, before.trials, before.environments, before.environments):
        list(read())
    with store().writer() as writer:
        writer.append(record("b"))
    after = store()

    assert [(name, 2)] == [(bad.file, bad.line) for bad in before.unreadable]
    assert reason in before.unreadable[0].reason
    assert (["a", "b"], [run], 1) == (_keys(after), after.runs(), len(after.environments()))
    assert [] == after.unreadable
    assert line + b"\n" in (store().folder / name).read_bytes()
    assert 1 == len((store().folder / QUARANTINE).read_bytes().splitlines())


def test_record_of_a_newer_normbench(store, filled, record):
    """A record of a newer version is left out and named as such, even where it looks familiar."""
    filled("a")
    newer = msgspec.structs.replace(record("b"), schema=SCHEMA + 1)
    with (store().folder / TRIALS).open("ab") as file:
        file.write(msgspec.json.encode(newer) + b"\n")

    found = store()

    assert ["a"] == _keys(found)
    assert ["written by a newer normbench"] == [bad.reason for bad in found.unreadable]


def test_set_aside_once(store, filled):
    """A line is set aside once, however often one store is written to, or a reader met it first."""
    filled("a")
    with (store().folder / TRIALS).open("ab") as file:
        file.write(b"foreign\n")
    same = store()
    _keys(same)

    for _ in range(2):
        with same.writer():
            pass

    assert 1 == len((same.folder / QUARANTINE).read_bytes().splitlines())


def test_torn_quarantine(store, filled):
    """A quarantine that is torn itself stops nothing: the line is set aside again, on a line of its own."""
    filled("a")
    with (store().folder / TRIALS).open("ab") as file:
        file.write(b"foreign\n")
    (store().folder / QUARANTINE).write_bytes(b'{"schema":1,"fi')

    filled("b")

    after = store()
    assert ["a", "b"] == _keys(after)
    assert [] == after.unreadable


def test_second_writer_is_refused(store, held):
    """Of two runs in one folder the second is refused, naming the process of the first; then the folder is free."""
    with pytest.raises(UsageError) as refused, store().writer():
        pass
    held.stdin.close()
    held.wait()
    with store().writer():
        free = True

    assert f"another run holds this folder (process {held.pid} on " in str(refused.value)
    assert str(store().folder) in str(refused.value)
    assert free


def test_killed_writer_leaves_the_folder_free(store, held, record):
    """A run that was killed does not keep the next one out."""
    held.send_signal(signal.SIGKILL)
    held.wait()

    with store().writer() as writer:
        writer.append(record("a"))

    assert ["a"] == _keys(store())


def test_second_writer_in_one_process(store):
    """In one process, too, a second run in the folder is refused; what fails inside a run frees it."""
    with store().writer(), pytest.raises(UsageError, match=f"process {os.getpid()} on"), store().writer():
        pass
    with pytest.raises(KeyboardInterrupt), store().writer():
        raise KeyboardInterrupt

    with store().writer():
        names = {path.name for path in store().folder.iterdir()}

    assert ".lock-owner" in names
    assert ".lock-owner" not in {path.name for path in store().folder.iterdir()}


def test_folder_that_is_a_file(store):
    """Where the folder's name is a file's, the run is refused by that name."""
    store().folder.write_text("", encoding="utf-8")

    with pytest.raises(UsageError, match="results: a file, which is not written to"), store().writer():
        pass


@pytest.mark.parametrize("room", [0, 1, 100])
def test_full_disk(store, filled, record, disk, room):
    """A full disk ends the run as such; what was stored stays, and the store can be read and written again."""
    filled("a")

    with store().writer() as writer:
        disk(room)
        with pytest.raises(DiskFullError, match="the disk is full"):
            writer.append(record("b"))
        disk(None)
    reader = store()
    before = _keys(reader)
    filled("c")

    assert ["a"] == before
    assert int(room > 0) == len(reader.unreadable)
    after = store()
    assert ["a", "c"] == _keys(after)
    assert [] == after.unreadable


def test_full_disk_that_gets_room_again(store, filled, record, disk):
    """A record appended after one that did not fit stands on a line of its own, whenever there is room again."""
    filled("a")

    with store().writer() as writer:
        disk(10)
        for key in ("b", "c"):
            with pytest.raises(DiskFullError):
                writer.append(record(key))
        disk(None)
        writer.append(record("d"))

    assert ["a", "d"] == _keys(store())


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_disk_that_is_full_at_the_sync(store, record, monkeypatch, code):
    """Where room runs out only as a line is synced, or a quota or limit is met, the disk counts as full."""

    def fsync(descriptor):
        raise OSError(code, os.strerror(code))

    with store().writer() as writer:
        monkeypatch.setattr(os, "fsync", fsync)
        with pytest.raises(DiskFullError) as raised:
            writer.append(record("a"))

    assert code == raised.value.errno


def test_a_folder_of_many_trials_is_opened_without_keeping_them(store, filled, record):
    """Memory does not grow with what is stored: a million trials are opened for writing in as much as ten."""
    filled("a")
    with (store().folder / TRIALS).open("ab") as file:
        file.write((msgspec.json.encode(record("b")) + b"\n") * 5000)

    tracemalloc.start()
    with store().writer():
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 1e6


def test_readers_never_write(store, record, run):
    """Reading changes no byte and no time of a file, torn lines and all."""
    with store().writer() as writer:
        writer.append(run)
        writer.append(record("a"))
        writer.environment(EnvironmentRecord.of(cores=1))
    for name in (RUNS, TRIALS, ENVIRONMENTS):
        with (store().folder / name).open("ab") as file:
            file.write(b'{"torn')
    before = _snapshot(store().folder)

    reader = store()
    for read in (reader.runs, reader.results, reader.trials, reader.environments, reader.known_unreadable):
        list(read())

    assert 3 == len(reader.unreadable)
    assert before == _snapshot(store().folder)


def test_environment_is_stored_once(store):
    """What trials ran on is stored once over all runs, and again where anything of it differs."""
    described = EnvironmentRecord.of(cores=2, packages={"torch": "2.6", "numpy": "2"})
    turned = EnvironmentRecord.of(packages={"numpy": "2", "torch": "2.6"}, cores=2)
    more = EnvironmentRecord.of(cores=4, packages={"torch": "2.6", "numpy": "2"})

    with store().writer() as writer:
        first, again = writer.environment(described), writer.environment(turned)
    with store().writer() as writer:
        later, other = writer.environment(described), writer.environment(more)

    assert first == again == later
    assert {first: 2, other: 4} == {name: one.cores for name, one in store().environments().items()}
    assert 2 == len((store().folder / ENVIRONMENTS).read_bytes().splitlines())

"""What others do to a folder while a run writes to it: nothing is lost in silence, and no second run comes in."""

import errno
import os
import shutil
from pathlib import Path

import msgspec
import pytest

from normbench.errors import UsageError
from normbench.store import Store, StoreLostError
from normbench.store.kinds import RUNS, TRIALS


def _wrote(store, *steps):
    """Store records in one run; what is no record is called, between them."""
    with store.writer() as writer:
        for step in steps:
            if isinstance(step, msgspec.Struct):
                writer.append(step)
            else:
                step()


def _keys(folder):
    return [result.key for result in Store(folder).results()]


def test_another_error_of_the_disk(store, filled, record, monkeypatch):
    """Where a disk fails otherwise, the run ends, and says where what it stored is saved."""
    filled("a")

    def fsync(descriptor):
        raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(StoreLostError, match=r"trials\.jsonl could not be written \(Input/output"):
        _wrote(store(), lambda: monkeypatch.setattr(os, "fsync", fsync), record("b"))

    assert {"a", "b"} == set(_keys(_saved(store().folder)))


def _saved(folder):
    """Return the one folder in which a run saved what it had open, or lines that it did not write."""
    [place] = folder.parent.glob(f"{folder.name}.saved-*")
    return place


def _replace(path):
    """Put a copy in the place of a file, as editors, sed and git do."""
    path.with_name("new").write_bytes(path.read_bytes())
    path.with_name("new").replace(path)


def _recreate(folder):
    shutil.rmtree(folder)
    folder.mkdir()


#: What others do to the folder of a run, and what is said of it.
HAPPENINGS = {
    "the folder is deleted": (shutil.rmtree, "results was deleted or moved"),
    "the folder is deleted, and made anew": (_recreate, "results was replaced by another"),
    "the folder is moved": (
        lambda folder: folder.rename(folder.with_name("elsewhere")),
        "results was deleted or moved",
    ),
    "the file is deleted": (lambda folder: (folder / TRIALS).unlink(), "trials.jsonl was deleted or moved"),
    "the file is moved": (lambda folder: (folder / TRIALS).rename(folder / "t"), "trials.jsonl was deleted or moved"),
    "the file is replaced": (lambda folder: _replace(folder / TRIALS), "trials.jsonl was replaced by another"),
    "another writes to the file": (
        lambda folder: (folder / TRIALS).open("ab").write(b"foreign\n"),
        "trials.jsonl was changed by another",
    ),
    "the runs are replaced": (lambda folder: _replace(folder / RUNS), "runs.jsonl was replaced by another"),
}


@pytest.mark.parametrize(("happens", "says"), HAPPENINGS.values(), ids=HAPPENINGS)
@pytest.mark.parametrize("last", [False, True], ids=["before a trial", "after the last"])
def test_what_others_do_to_the_folder_is_not_a_loss_in_silence(store, filled, run, record, happens, says, last):
    """The run ends there, says what happened, and all it stored is in a folder that can be read and merged."""
    filled("before")

    with pytest.raises(StoreLostError) as lost:
        _wrote(store(), run, record("a"), lambda: happens(store().folder), *([] if last else [record("b")]))

    saved = _saved(store().folder)
    assert says in str(lost.value)
    assert str(saved) in str(lost.value)
    assert ["before", "a", *["b"] * (not last)] == _keys(saved)
    assert [run] == Store(saved).runs()


def test_a_file_that_is_cut_ends_the_run(store, filled, record):
    """What was cut off is gone; the record to come is not."""
    filled("before")

    with pytest.raises(StoreLostError, match=r"trials\.jsonl was changed by another: it has 0 bytes"):
        _wrote(store(), record("a"), lambda: os.truncate(store().folder / TRIALS, 0), record("b"))

    assert ["b"] == _keys(_saved(store().folder))


def test_what_cannot_be_saved_either_is_said(store, record, monkeypatch):
    """Where the disk takes no other folder, the message does not claim one."""

    def goes():
        shutil.rmtree(store().folder)
        monkeypatch.setattr(Path, "mkdir", read_only)

    def read_only(*args, **options):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with pytest.raises(StoreLostError, match=r"can't be saved in .* \(Read-only file system\)"):
        _wrote(store(), record("a"), goes, record("b"))


def test_an_interrupted_run_says_what_happened_too(store, record):
    """Ctrl-C does not promise that all is stored where it is not."""

    def interrupt():
        shutil.rmtree(store().folder)
        raise KeyboardInterrupt

    with pytest.raises(StoreLostError) as lost:
        _wrote(store(), record("a"), interrupt)

    assert isinstance(lost.value.__context__, KeyboardInterrupt)


def test_an_interruption_in_the_middle_of_a_write_is_no_change(store, record, monkeypatch):
    """What the run itself wrote, but could not count any more, is not taken for another's."""
    real = os.write

    def interrupted(descriptor, data):
        real(descriptor, data)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _wrote(store(), record("a"), lambda: monkeypatch.setattr(os, "write", interrupted), record("b"))

    assert ["a", "b"] == _keys(store().folder)


def test_the_working_directory_may_change(store, record, tmp_path, monkeypatch):
    """A folder that is named from the current one stays the same folder where a layer goes elsewhere."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other").mkdir()

    _wrote(Store(Path("results")), record("a"), lambda: monkeypatch.chdir(tmp_path / "other"), record("b"))

    assert ["a", "b"] == _keys(store().folder)


def test_a_lock_that_is_deleted_lets_no_second_run_in(store, held):
    """The file looks left behind; whoever deletes it, meanwhile or afterwards, changes nothing."""
    (store().folder / ".lock").unlink()

    with pytest.raises(UsageError, match=f"another run holds this folder .process {held.pid} on "), store().writer():
        pass
    held.stdin.close()
    held.wait()
    with store().writer():
        free = True

    assert free
    assert 0 == held.returncode


def test_a_run_on_another_machine_is_noticed(store, record):
    """Where the lock of the folder does not reach, a lock that another made anew ends this run before it writes."""

    def begins():
        (store().folder / ".lock").rename(store().folder / "was")
        (store().folder / ".lock").touch()

    with pytest.raises(StoreLostError, match="results was taken by another run"):
        _wrote(store(), record("a"), begins, record("b"))

    assert ["a"] == _keys(store().folder)

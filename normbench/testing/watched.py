"""What a block of code does to its process, and what it leaves behind: processes, threads, files."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import util
from pathlib import Path

from normbench import surroundings
from normbench.testing.comparing import generators
from normbench.testing.misbehaving import PROCESSES

#: Seconds that what was started is usually given to be gone.
GONE = 10.0


class Interruption(KeyboardInterrupt):
    """An interruption that a check makes, not the user."""


@dataclass
class Watched:
    """What a block raised, what it `changed` that the process shares, and what it `left` behind, in words."""

    raised: BaseException | None = None
    changed: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


@contextmanager
def watching(seen: Watched, patience: float) -> Iterator[Path]:
    """Give the block a folder for what its workers write, keep what it raises, and say what came of it in `seen`.

    What it started has `patience` seconds to be gone.
    """
    util.get_temp_dir()  # multiprocessing makes it when it first needs it, and keeps it as long as the process lives
    before = _alive()
    with tempfile.TemporaryDirectory(prefix="normbench-") as name, _temporary_files_in(Path(name) / "files") as files:
        folder = Path(name)
        with surroundings.kept() as changed:
            drawn = generators()
            try:
                yield folder
            except (Exception, Interruption) as error:
                seen.raised = error
            if drawn != generators():
                seen.changed.append("the random generators")
        seen.changed += changed
        deadline = time.monotonic() + patience
        while (left := _left(before, folder, files)) and time.monotonic() < deadline:
            time.sleep(0.01)
        seen.left += left


@contextmanager
def _temporary_files_in(folder: Path) -> Iterator[Path]:
    """Have temporary files made in a folder."""
    folder.mkdir()
    old, variable = tempfile.tempdir, os.environ.get("TMPDIR")
    tempfile.tempdir = os.environ["TMPDIR"] = str(folder)
    try:
        yield folder
    finally:
        tempfile.tempdir = old
        if variable is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = variable


def _alive() -> set[str]:
    """Return this process's children and threads, in words."""
    children = {child.pid for child in multiprocessing.active_children()}
    for file in Path("/proc/self/task").glob("*/children"):  # nothing where there is no such folder
        with suppress(OSError):  # that thread has ended
            children |= {int(child) for child in file.read_text().split()}
    threads = {f"the thread {thread.name} ({thread.ident})" for thread in threading.enumerate()}
    return threads | {f"the process {child}" for child in children}


def _left(before: set[str], folder: Path, files: Path) -> list[str]:
    """Return what is there that was not there before, in words."""
    workers = {f"the worker {file.name}" for file in folder.glob(f"{PROCESSES}/*") if _locked(file)}
    temporary = {f"the temporary file {file.name}" for file in files.iterdir()}
    return sorted((_alive() - before) | workers | temporary)


def _locked(file: Path) -> bool:
    """Whether a process lives that holds a lock on a file; this one's own does not count."""
    if file.name == str(os.getpid()):
        return False
    with file.open() as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False

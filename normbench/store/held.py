"""What a run holds of a folder on disk: locks, and files that it alone appends to. It knows no records.

A run may take days, in which others delete, move and restore files. What is written to a file that lost its name is
lost without any error, so before every write the names are compared with what is open.
"""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import suppress
from pathlib import Path

import filelock

LOCK = ".lock"


class Held:
    """A file or folder that is open, and has to stay what its path names."""

    def __init__(self, path: Path, flags: int) -> None:
        self.path = path
        self._descriptor = os.open(path, flags, 0o644)

    def changed(self) -> str:
        """Return what became of it since it was opened; "" where it is as it was."""
        try:
            there = os.stat(self.path)
        except (FileNotFoundError, NotADirectoryError):
            return "was deleted or moved"
        return "" if os.path.samestat(there, os.fstat(self._descriptor)) else "was replaced by another"

    def close(self) -> None:
        """Close it."""
        os.close(self._descriptor)


class Appended(Held):
    """A file that nobody else writes to while it is open; made where there is none. A new line follows a torn one."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        self._size = os.fstat(self._descriptor).st_size
        self._torn = self._size > 0 and os.pread(self._descriptor, 1, self._size - 1) != b"\n"

    def append(self, lines: bytes) -> None:
        """Write lines at the end, and return once they are on the disk. Raises OSError where they don't fit."""
        lines = b"\n" * self._torn + lines
        written = os.write(self._descriptor, lines)
        self._size, self._torn = self._size + written, False
        if written < len(lines):
            raise OSError(errno.ENOSPC, "the disk is full")
        os.fsync(self._descriptor)

    def changed(self) -> str:
        """Return what became of it since the last write; "" where it is as it was."""
        size = os.fstat(self._descriptor).st_size
        other = "" if size == self._size else f"was changed by another: it has {size} bytes, not {self._size}"
        return super().changed() or other

    def copy(self, path: Path) -> None:
        """Write what it holds, whatever became of its name, to a new file."""
        with path.open("xb") as file, os.fdopen(os.dup(self._descriptor), "rb") as mine:
            mine.seek(0)
            while piece := mine.read(1 << 20):
                file.write(piece)


class Folder(Held):
    """A folder that is locked, by itself and by a file in it; both locks are gone when the process is.

    The folder's own lock stays whatever is deleted in it, but holds on this machine alone. The file's holds for other
    machines that share the disk, too. Raises BlockingIOError where another holds one, OSError where the folder
    can't be written to.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, os.O_RDONLY)
        self._lock = filelock.FileLock(path / LOCK, timeout=0)
        try:
            self._lock_folder()
            self._lock.acquire()
        except filelock.Timeout:
            self.close()
            raise BlockingIOError(errno.EWOULDBLOCK, "held by another", str(path)) from None
        except BaseException:
            self.close()
            raise
        self._locked = os.stat(path / LOCK)

    def changed(self) -> str:
        """Return what became of the folder, or that another run took it; "" where it is as it was."""
        with suppress(FileNotFoundError):  # a lock that was deleted lets nobody in on this machine
            if not os.path.samestat(os.stat(self.path / LOCK), self._locked):
                return super().changed() or "was taken by another run"
        return super().changed()

    def close(self) -> None:
        """Let others in."""
        self._lock.release()
        # A copy of this process that a layer forked would go on holding it.
        with suppress(OSError):
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        super().close()

    def _lock_folder(self) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:
            pass  # some disks can't lock a folder

"""Where the files of a data set lie, and how they get there: the user's data folder, else the user's cache folder.

What is unpacked or downloaded is made in a temporary folder beside its place, and renamed into it when it is whole:
neither a run that was killed nor another one at the same time leaves half a file under the right name.
"""

from __future__ import annotations

import hashlib
import http.client
import socket
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import platformdirs

from normbench.errors import UsageError

#: Seconds without an answer after which a download is given up. Without a limit, a machine that drops packets instead
#: of refusing them would wait for minutes at each mirror.
PATIENCE = 30

#: The mode of what anybody may write to.
WRITABLE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH


def roots(folder: Path) -> tuple[Path, ...]:
    """Return where data is looked for, in this order: the user's data folder, and the user's cache folder."""
    return tuple(dict.fromkeys((folder, platformdirs.user_cache_path("normbench") / "data")))


@contextmanager
def workshop(folders: tuple[Path, ...]) -> Iterator[tuple[Path, Path]]:
    """Give the first folder that can be written to, made where it is missing, and a temporary folder inside it.

    Raises UsageError where none can be written to.
    """
    for folder in folders:
        try:
            temporary = _temporary(folder)
        except OSError:
            continue
        with temporary as name:
            yield folder, Path(name)
        return
    refused = " nor ".join(str(folder) for folder in folders)
    raise UsageError(f"data has to be stored, and neither {refused} can be written to: name another with --data-dir")


def _temporary(folder: Path) -> tempfile.TemporaryDirectory[str]:
    """Make a temporary folder; raises OSError where the folder can't be written to, or is marked as read-only.

    The mark alone tells nothing of a read-only file system, and to root it is no obstacle: so both are looked at.
    """
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not there.stat().st_mode & WRITABLE:
        raise PermissionError(f"{there} is read-only")
    folder.mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryDirectory(dir=folder, prefix=".normbench-")


def move(file: Path, folder: Path) -> Path:
    """Move a whole file into a folder on the same file system, in one step, and return its new path."""
    folder.mkdir(parents=True, exist_ok=True)
    return file.replace(folder / file.name)


def checked(file: Path, md5: str) -> bytes:
    """Return what a file holds; raises UsageError, naming the file, where its md5 is another."""
    content = file.read_bytes()
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != md5:
        raise damaged(file, f"its md5 is {found}, the official one {md5}")
    return content


def damaged(file: Path, reason: str) -> UsageError:
    """Return the mistake that a file is not what its name says, with what to do about it."""
    return UsageError(f"{file} is damaged: {reason}; delete it, or put the official file in its place")


@contextmanager
def downloading(missing: str, wanted: str) -> Iterator[None]:
    """Let torchvision download, its chatter on stderr; raises UsageError, in one line, where it can't.

    `missing` says what was not found and where, `wanted` which files would do.
    """
    patience = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE)
    try:
        with redirect_stdout(sys.stderr):
            yield
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        reason = " ".join(str(error).split())
        raise UsageError(
            f"{missing}, and downloading it failed ({reason}); name a folder with {wanted} by --data-dir DIR or "
            f"NORMBENCH_DATA"
        ) from error
    finally:
        socket.setdefaulttimeout(patience)

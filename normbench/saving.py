"""Files that a user names: written beside their place and renamed, so that one is there whole or as it was."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Sequence
from pathlib import Path

from normbench.errors import UsageError


def check(files: Iterable[Path], inputs: Sequence[Path] = ()) -> None:
    """Raise UsageError where a file can't be made in its folder, or is one of the command's inputs; before any work."""
    for file in files:
        place = _place(file)
        if not os.path.isdir(place.parent):
            raise UsageError(f"-o {file}: there is no folder {file.parent}")
        for other in inputs:
            if _place(other) == place or (os.path.exists(other) and os.path.exists(place) and other.samefile(place)):
                raise UsageError(f"-o {file}: it is read by this command; name another file")


def save(file: Path, content: bytes, where: str = "-o") -> None:
    """Write a file. Raises UsageError, which begins with `where`, if it can't be; what was there before stays then."""
    place = _place(file)
    # A name that nobody can have put a link at, and that is as long as any disk allows.
    part = place.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with part.open("xb") as written:
            try:
                written.write(content)
                written.flush()
                os.fsync(written.fileno())
                os.replace(part, place)
            except BaseException:
                part.unlink()
                raise
    except OSError as error:
        raise UsageError(f"{where} {file}: can't be written ({error.strerror})") from None


def _place(file: Path) -> Path:
    """Return where a file is, through links: what a link names is replaced, and the link stays."""
    return Path(os.path.realpath(file))

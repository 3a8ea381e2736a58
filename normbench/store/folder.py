"""The folder that holds what was measured: append-only lines, synced, one writer at a time; readers never write.

An export is the same lines in one file, which can only be read.

A line that can't be read is named once and left out; the next writer copies it to quarantine.jsonl. Nothing is ever
rewritten in place.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from normbench.errors import UsageError
from normbench.store import export
from normbench.store.held import Appended, Folder
from normbench.store.kinds import FILES, KINDS, QUARANTINE, RUNS, SESSIONS, TRIALS, RecordKind
from normbench.store.lines import Line, Unreadable, decoded, unreadable
from normbench.store.records import (
    SCHEMA,
    EnvironmentRecord,
    FingerprintRecord,
    Result,
    RunRecord,
    SessionRecord,
    SourcesRecord,
    TraceRecord,
    TrialRecord,
)
from normbench.trials import Source

#: Where results go where nobody says: a folder for each suite, by its name.
RESULTS = Path("results")
OWNER = ".lock-owner"


class DiskFullError(OSError):
    """The disk that holds the store is full: what was stored before stays."""


class StoreLostError(Exception):
    """A folder can't be written to any more: its files were moved, replaced or changed by others, or the disk fails.

    The message says which file, what became of it, and where what the run had stored is saved.
    """


def beside(folder: Path, ending: str) -> Path:
    """Return the path of a file beside results that is named after them: results/quickENDING for results/quick."""
    if folder.name in ("", ".."):
        folder = Path(os.path.abspath(folder))
    return folder.with_name(f"{folder.stem if folder.is_file() else folder.name}{ending}")


class Store:
    """Reads a results folder, or a file that was exported from one.

    `unreadable` collects the lines left out by what was read so far.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.unreadable: list[Unreadable] = []
        self._named: set[tuple[str, str]] = set()

    def is_file(self) -> bool:
        """Whether this is an exported file, which is only read."""
        with _reading(self.folder):
            return self.folder.is_file()

    def exists(self) -> bool:
        """Whether there is any run or session, or an exported file."""
        with _reading(self.folder):
            return self.is_file() or any((self.folder / name).exists() for name in (RUNS, SESSIONS))

    def size(self) -> int:
        """Return how many bytes of trials and sessions a folder holds: it grows with each that is stored."""
        files = [self.folder / name for name in (TRIALS, SESSIONS)]
        return sum(file.stat().st_size for file in files if file.exists())

    def changed(self) -> float:
        """Return when a trial or session was last stored, or an export was made, in seconds since the epoch."""
        files = [self.folder] if self.is_file() else [self.folder / name for name in (TRIALS, SESSIONS)]
        return max((file.stat().st_mtime for file in files if file.exists()), default=0.0)

    def runs(self) -> list[RunRecord]:
        """Return the runs, oldest first."""
        return list(self.read(RunRecord))

    def results(self) -> Iterator[Result]:
        """Yield what boards and plans need of every trial's record, oldest first."""
        return self.read(Result)

    def trials(self) -> Iterator[TrialRecord]:
        """Yield every trial's whole record, oldest first."""
        return self.read(TrialRecord)

    def sessions(self) -> list[SessionRecord]:
        """Return the sessions, oldest first."""
        return list(self.read(SessionRecord))

    def fingerprints(self) -> list[FingerprintRecord]:
        """Return the fingerprints, oldest first."""
        return list(self.read(FingerprintRecord))

    def traces(self) -> Iterator[TraceRecord]:
        """Yield what probes saw of trials, oldest first."""
        return self.read(TraceRecord)

    def environments(self) -> dict[str, EnvironmentRecord]:
        """Return the environments by their id."""
        return {record.environment: record for record in self.read(EnvironmentRecord)}

    def sources(self) -> dict[str, dict[tuple[str, str], str]]:
        """Return the lists of files that trials were made from, by their key; each gives every file's hash."""
        return {
            record.sources: {source.file: source.sha256 for source in record.files} for record in self.source_records()
        }

    def source_records(self) -> list[SourcesRecord]:
        """Return the lists of files that trials were made from."""
        return list(self.read(SourcesRecord))

    def known_unreadable(self) -> set[str]:
        """Return the hashes of lines that a writer has set aside already."""
        known = set()
        for _, line in self._lines(QUARANTINE):
            with suppress(msgspec.MsgspecError, UnicodeDecodeError):
                known.add(decoded(msgspec.json.Decoder(Unreadable), line).sha256)
        return known

    def whole(self, kind: RecordKind) -> Iterator[Any]:
        """Yield the records of a kind with all that is to be copied, oldest first."""
        return self._read(kind.file, kind.copied or kind.record)

    def read(self, of: type[Line]) -> Iterator[Line]:
        """Yield the records of a kind, by its struct, oldest first. Raises UsageError where they can't be opened."""
        return self._read(FILES[of], of)

    def _read(self, name: str, of: type[Line]) -> Iterator[Line]:
        decoder = msgspec.json.Decoder(of)
        known: set[str] | None = None
        for number, line in self._lines(name):
            try:
                record = decoded(decoder, line)
                typed: Any = msgspec.convert(record, KINDS[name].record) if isinstance(record, dict) else record
                if typed.schema > SCHEMA:
                    raise msgspec.ValidationError(f"schema {typed.schema} is newer than {SCHEMA}")
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                known = self.known_unreadable() if known is None else known
                bad = unreadable(name, number, line, error)
                # A line may be read as several structs, each with its own reason; it is named once.
                if bad.sha256 not in known and (name, bad.sha256) not in self._named:
                    self._named.add((name, bad.sha256))
                    self.unreadable.append(bad)
                continue
            yield record

    def _lines(self, name: str) -> Iterator[tuple[int, bytes]]:
        """Yield the lines of one of a folder's files, or what an exported file has of it, with their numbers."""
        if self.is_file():
            exported = self._exported.get(name.removesuffix(".jsonl"), [])
            yield from ((number, bytes(line)) for number, line in enumerate(exported, start=1))
            return
        path = self.folder / name
        with _reading(path), suppress(FileNotFoundError), path.open("rb") as file:
            yield from ((number, line) for number, line in enumerate(file, start=1) if not line.isspace())

    @cached_property
    def _exported(self) -> dict[str, list[msgspec.Raw]]:
        return export.read(self.folder)

    def export(self, trials: Sequence[TrialRecord], form: str = ".json") -> bytes:
        """Return a file with these trials, and what an export holds of all else; `form` is one of `export.FORMS`."""
        parts = {
            kind.part: trials if kind.file == TRIALS else kind.exported(self.whole(kind)) for kind in KINDS.values()
        }
        return export.FORMS[form](parts)

    @contextmanager
    def writer(self) -> Iterator[Writer]:
        """Hold the folder for writing, and make it where it is not there.

        Raises UsageError where another run holds it, naming that run, or where the folder can't be written.
        """
        if self.is_file():
            raise UsageError(f"{self.folder}: a file, which is not written to; name a folder")
        path = self.folder.absolute()
        mine = f"process {os.getpid()} on {socket.gethostname()}"
        try:
            with _disk(self.folder):
                path.mkdir(parents=True, exist_ok=True)
                folder = Folder(path)
        except BlockingIOError:
            raise UsageError(f"{self.folder}: another run holds this folder ({self._owner()})") from None
        except OSError as error:
            raise _unwritable(self.folder, error) from None
        writer = Writer(self, folder)
        try:
            writer.begin(mine)
            yield writer
        finally:
            try:
                writer.require_unchanged()
            finally:
                writer.close()
                if self._owner() == mine:
                    (path / OWNER).unlink(missing_ok=True)
                folder.close()

    def _owner(self) -> str:
        try:
            return (self.folder / OWNER).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return "unnamed"


class Writer:
    """Appends records, one line each, written at once and synced.

    Before each write and at the end, the folder and its open files must be what they were when this run left them.
    Where one is not, nothing more is written: StoreLostError.
    """

    def __init__(self, store: Store, folder: Folder) -> None:
        self._store = store
        self._folder = folder
        self._files: dict[str, Appended] = {}
        self._sources: set[str] = set()
        self._lost: StoreLostError | None = None

    def begin(self, owner: str) -> None:
        """Name the run that holds the folder, and set aside what can't be read of it."""
        try:
            with _disk(self._store.folder):
                (self._folder.path / OWNER).write_text(owner, encoding="utf-8")
        except OSError as error:
            raise _unwritable(self._store.folder / OWNER, error) from None
        self.set_aside()

    def append(self, record: msgspec.Struct) -> None:
        """Append a record, whose kind is one of `KINDS`.

        Raises DiskFullError where there is no room; a torn line it leaves is set aside by the next run.
        """
        self._append(FILES[type(record)], record)

    def copy(self, name: str, records: Sequence[object]) -> None:
        """Append to one of the folder's files what other folders hold, a thousand records per write."""
        for begin in range(0, len(records), 1000):
            self._append(name, *records[begin : begin + 1000])

    def environment(self, record: EnvironmentRecord) -> str:
        """Append an environment unless it is stored, and return its id."""
        if record.environment not in self._store.environments():
            self.append(record)
        return record.environment

    def sources(self, files: Sequence[Source]) -> str:
        """Append a list of files unless it is stored, and return its key; "" for an empty list."""
        key = sources_key(files)
        if key and key not in self._sources:
            self._sources.update(record.sources for record in self._store.source_records())
            if key not in self._sources:
                self.append(SourcesRecord(schema=SCHEMA, sources=key, files=list(files)))
                self._sources.add(key)
        return key

    def set_aside(self) -> None:
        """Copy lines that can't be read into quarantine.jsonl; they stay where they are, and are not named again."""
        for kind in KINDS.values():
            for _ in self._store.whole(kind):
                pass
        known = self._store.known_unreadable()
        if bad := [bad for bad in self._store.unreadable if bad.sha256 not in known]:
            self.copy(QUARANTINE, bad)

    def require_unchanged(self, name: str = "", lines: bytes = b"") -> None:
        """Raise StoreLostError where the folder or a file is not what this run left, with the lines to come saved."""
        if self._lost is not None:
            raise self._lost
        for held in (self._folder, *self._files.values()):
            try:
                why = held.changed()
            except OSError as error:
                why = f"can't be looked at ({error.strerror})"
            if why:
                raise self._losing(held.path, why, name, lines)

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()
        self._files.clear()

    def _append(self, name: str, *records: object) -> None:
        lines = b"".join(msgspec.json.encode(record) + b"\n" for record in records)
        self.require_unchanged(name, lines)
        try:
            with _disk(self._store.folder):
                if name not in self._files:
                    self._files[name] = Appended(self._folder.path / name)
                self._files[name].append(lines)
        except BaseException as error:
            if isinstance(error, OSError) and not isinstance(error, DiskFullError):
                why = f"could not be written ({error.strerror})"
                raise self._losing(self._folder.path / name, why, name, lines) from None
            # A torn line must not swallow the next one: a file opened anew begins a line.
            if name in self._files:
                self._files.pop(name).close()
            raise

    def _losing(self, path: Path, why: str, name: str, lines: bytes) -> StoreLostError:
        """Save beside the folder all that this run has open, and the lines to come; return the error that says so.

        A deleted file can still be read while it is open.
        """
        place = self._folder.path.with_name(f"{self._folder.path.name}.saved-{secrets.token_hex(3)}")
        try:
            place.mkdir(parents=True)
            for other, file in self._files.items():
                file.copy(place / other)
            if lines:
                with (place / name).open("ab") as saved:
                    saved.write(lines)
            where = f"what it wrote is saved in {place}, which normbench merge can put together with what is left"
        except OSError as error:
            where = f"what it wrote can't be saved in {place} ({error.strerror})"
        self._lost = StoreLostError(f"{path} {why} while a run wrote to it; the run stopped, and {where}")
        return self._lost


def sources_key(files: Sequence[Source]) -> str:
    """Return what a list of files is stored by: a hash of it, "" for an empty one."""
    return hashlib.sha256(msgspec.json.encode(files)).hexdigest()[:16] if files else ""


@contextmanager
def _disk(folder: Path) -> Iterator[None]:
    """Turn a lack of room, or a limit on a file's size, into DiskFullError."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise DiskFullError(error.errno, "the disk is full", str(folder)) from error
        raise


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn what keeps a file or folder from being looked at into UsageError, which names it."""
    try:
        yield
    except OSError as error:
        raise UsageError(f"{path}: can't be read ({error.strerror})") from None


def _unwritable(path: Path, error: OSError) -> Exception:
    """Return the error for a folder that can't be written from the start."""
    return error if isinstance(error, DiskFullError) else UsageError(f"{path}: can't be written ({error.strerror})")

"""The folder that holds what was measured: append-only lines, synced, one writer at a time; readers never write.

An export is the same lines in one file, which can only be read.

A line that can't be read is named once and left out; the next writer copies it to quarantine.jsonl. Nothing is ever
rewritten in place.
"""

from __future__ import annotations

import errno
import hashlib
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import filelock
import msgspec

from normbench import exports
from normbench.errors import UsageError
from normbench.records import (
    SCHEMA,
    FingerprintRecord,
    Result,
    RunRecord,
    SessionRecord,
    Source,
    SourcesRecord,
    TrialRecord,
)

RUNS, TRIALS, SESSIONS, FINGERPRINTS = "runs.jsonl", "trials.jsonl", "sessions.jsonl", "fingerprints.jsonl"
ENVIRONMENTS, SOURCES, QUARANTINE = "environments.jsonl", "sources.jsonl", "quarantine.jsonl"
LOCK, OWNER = ".lock", ".lock-owner"

#: Which file has the lines of a kind of record.
_FILES = {
    RunRecord: RUNS,
    TrialRecord: TRIALS,
    SessionRecord: SESSIONS,
    FingerprintRecord: FINGERPRINTS,
    SourcesRecord: SOURCES,
}

Line = TypeVar("Line")


class DiskFullError(OSError):
    """The disk that holds the store is full: what was stored before stays."""


class Unreadable(msgspec.Struct, frozen=True, kw_only=True):
    """A line that could not be read: where it is, why, and a hash of its bytes."""

    schema: int = msgspec.field(default=SCHEMA)
    file: str
    line: int
    reason: str
    sha256: str
    text: str


class _Head(msgspec.Struct):
    schema: int


class _EnvironmentHead(_Head):
    environment: str


class Store:
    """Reads a results folder, or a file that was exported from one.

    `unreadable` collects the lines left out by what was read so far.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.unreadable: list[Unreadable] = []
        self._export: dict[str, list[msgspec.Raw]] | None = None

    def exists(self) -> bool:
        """Whether there is any run or session, or an exported file."""
        return self.folder.is_file() or any((self.folder / name).exists() for name in (RUNS, SESSIONS))

    def runs(self) -> list[RunRecord]:
        """Return the runs, oldest first."""
        return list(self._read(RUNS, RunRecord))

    def results(self) -> Iterator[Result]:
        """Yield of every trial's record what boards and plans need, oldest first."""
        return self._read(TRIALS, Result)

    def trials(self) -> Iterator[TrialRecord]:
        """Yield every trial's whole record, oldest first."""
        return self._read(TRIALS, TrialRecord)

    def sessions(self) -> list[SessionRecord]:
        """Return the sessions, oldest first."""
        return list(self._read(SESSIONS, SessionRecord))

    def fingerprints(self) -> list[FingerprintRecord]:
        """Return the fingerprints, oldest first."""
        return list(self._read(FINGERPRINTS, FingerprintRecord))

    def environments(self) -> dict[str, dict[str, Any]]:
        """Return the environments by their id."""
        return {line["environment"]: line for line in self._read(ENVIRONMENTS, dict[str, Any])}

    def sources(self) -> dict[str, dict[tuple[str, str], str]]:
        """Return the lists of files that trials were made from, by their key: of each file the hash."""
        return {
            record.sources: {source.file: source.sha256 for source in record.files} for record in self.source_records()
        }

    def source_records(self) -> list[SourcesRecord]:
        """Return the lists of files that trials were made from."""
        return list(self._read(SOURCES, SourcesRecord))

    def known_unreadable(self) -> set[str]:
        """Return the hashes of lines that a writer has set aside already."""
        path = self.folder / QUARANTINE
        if not path.exists():
            return set()
        known = set()
        for line in path.read_bytes().splitlines():
            try:
                known.add(msgspec.json.decode(line, type=Unreadable).sha256)
            except msgspec.MsgspecError:
                continue
        return known

    def _read(self, name: str, kind: type[Line]) -> Iterator[Line]:
        decode = msgspec.json.Decoder(kind).decode
        known: set[str] | None = None
        for number, line in self._lines(name):
            try:
                record = decode(line)
                head: Any = msgspec.convert(record, _EnvironmentHead) if isinstance(record, dict) else record
                if head.schema > SCHEMA:
                    raise msgspec.ValidationError(f"schema {head.schema} is newer than {SCHEMA}")
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                known = self.known_unreadable() if known is None else known
                bad = _unreadable(name, number, line, error)
                # Its reason is another for every kind of reading, and its line is named once.
                named = {(other.file, other.sha256) for other in self.unreadable}
                if bad.sha256 not in known and (name, bad.sha256) not in named:
                    self.unreadable.append(bad)
                continue
            yield record

    def _lines(self, name: str) -> Iterator[tuple[int, bytes]]:
        """Yield the lines of one of a folder's files, or what an exported file has of it, with their numbers."""
        if self.folder.is_file():
            exported = self._exported().get(name.removesuffix(".jsonl"), [])
            yield from ((number, bytes(line)) for number, line in enumerate(exported, start=1))
        elif (self.folder / name).exists():
            with (self.folder / name).open("rb") as file:
                yield from ((number, line) for number, line in enumerate(file, start=1) if not line.isspace())

    def _exported(self) -> dict[str, list[msgspec.Raw]]:
        if self._export is None:
            self._export = exports.read(self.folder)
        return self._export

    def export(self, trials: Sequence[TrialRecord], form: str = ".json") -> bytes:
        """Return a file with these trials and all else that is stored; `form` is one of `exports.FORMS`.

        Of fingerprints that can be compared it has the latest.
        """
        kept: dict[str, Sequence[object]] = {
            "runs": self.runs(),
            "trials": trials,
            "sessions": self.sessions(),
            "environments": list(self.environments().values()),
            "sources": self.source_records(),
            "fingerprints": list({record.key: record for record in self.fingerprints()}.values()),
        }
        return exports.FORMS[form](kept)

    @contextmanager
    def writer(self) -> Iterator[Writer]:
        """Hold the folder for writing; made where it is not there.

        Raises UsageError where another run holds it, naming that run, or where the folder can't be written.
        """
        if self.folder.is_file():
            raise UsageError(f"{self.folder}: a file, which is not written to; name a folder")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = filelock.FileLock(self.folder / LOCK, timeout=0)
            lock.acquire()
        except filelock.Timeout:
            raise UsageError(f"{self.folder}: another run holds this folder ({self._owner()})") from None
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise DiskFullError(error.errno, "the disk is full", str(self.folder)) from None
            raise UsageError(f"{self.folder}: can't write results there ({error.strerror})") from None
        owner = self.folder / OWNER
        writer = Writer(self)
        try:
            with _disk(self.folder):
                owner.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
            writer.set_aside()
            yield writer
        finally:
            writer.close()
            owner.unlink(missing_ok=True)
            lock.release()

    def _owner(self) -> str:
        try:
            return (self.folder / OWNER).read_text(encoding="utf-8")
        except OSError:
            return "unnamed"


class Writer:
    """Appends records, each a line, written at once and synced."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._open: dict[str, int] = {}
        self._sources: set[str] = set()

    def append(self, record: RunRecord | TrialRecord | SessionRecord | FingerprintRecord | SourcesRecord) -> None:
        """Append a run, a trial, a session, a fingerprint or a list of sources.

        Raises DiskFullError where there is no room; a torn line it leaves is set aside by the next run.
        """
        self._append(_FILES[type(record)], record)

    def copy(self, name: str, records: Sequence[object]) -> None:
        """Append to one of the folder's files what others hold, a thousand records a write."""
        for begin in range(0, len(records), 1000):
            self._append(name, *records[begin : begin + 1000])

    def environment(self, described: dict[str, Any]) -> str:
        """Append an environment unless it is stored, and return its id."""
        name = environment_id(described)
        if name not in self._store.environments():
            self._append(ENVIRONMENTS, {"schema": SCHEMA, "environment": name, **described})
        return name

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
        readers: list[Callable[[], object]] = [self._store.runs, lambda: list(self._store.trials())]
        for read in [
            *readers,
            self._store.sessions,
            self._store.fingerprints,
            self._store.environments,
            self._store.sources,
        ]:
            read()
        known = self._store.known_unreadable()
        for bad in self._store.unreadable:
            if bad.sha256 not in known:
                self._append(QUARANTINE, bad)

    def close(self) -> None:
        """Close the files."""
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open.clear()

    def _append(self, name: str, *records: object) -> None:
        lines = b"".join(msgspec.json.encode(record) + b"\n" for record in records)
        with _disk(self._store.folder):
            try:
                descriptor = self._descriptor(name)
                written = os.write(descriptor, lines)
                if written < len(lines):
                    raise OSError(errno.ENOSPC, "the disk is full")
                os.fsync(descriptor)
            except OSError:
                # What is torn now must not swallow the next line: open anew, which begins one.
                if name in self._open:
                    os.close(self._open.pop(name))
                raise

    def _descriptor(self, name: str) -> int:
        if name not in self._open:
            path = self._store.folder / name
            torn = _ends_torn(path)
            self._open[name] = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            if torn:
                os.write(self._open[name], b"\n")
        return self._open[name]


def environment_id(described: dict[str, Any]) -> str:
    """Return the id that an environment is stored with: a hash of what it says."""
    return hashlib.sha256(msgspec.json.encode(described, order="sorted")).hexdigest()[:12]


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


def _ends_torn(path: Path) -> bool:
    if not path.exists() or path.stat().st_size == 0:
        return False
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read() != b"\n"


def _unreadable(name: str, number: int, line: bytes, error: Exception) -> Unreadable:
    reason = str(error)
    try:
        if msgspec.json.decode(line, type=_Head).schema > SCHEMA:
            reason = "written by a newer normbench"
    except (msgspec.MsgspecError, UnicodeDecodeError):
        if not line.endswith(b"\n"):
            reason = "its end is missing"
    text = line.decode("utf-8", errors="backslashreplace").rstrip("\n")
    return Unreadable(
        file=name, line=number, reason=reason, sha256=hashlib.sha256(line.rstrip(b"\n")).hexdigest(), text=text
    )

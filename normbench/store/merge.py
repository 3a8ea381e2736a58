"""Several results folders as one: what all of them hold, each line once, or a refusal where they contradict."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from normbench.errors import UsageError
from normbench.store import Store
from normbench.store.kinds import ENVIRONMENTS, FINGERPRINTS, RUNS, SESSIONS, SOURCES, TRIALS
from normbench.store.records import RunRecord, SessionRecord, SourcesRecord, TrialRecord
from normbench.trials import FINAL


class _Claim(NamedTuple):
    """What a record says of something, which no other may say otherwise; and what a message calls it."""

    of: Hashable
    called: str
    says: dict[str, Any]


@dataclass(frozen=True)
class _Kind:
    """One of a folder's files: its records, the field that says when each was made, and what each claims."""

    file: str
    read: Callable[[Store], Iterable[Any]]
    when: str = ""
    claim: Callable[[Any], _Claim | None] | None = None


def _environment(record: dict[str, Any]) -> _Claim:
    return _Claim(record["environment"], f"environment {record['environment']}", record)


def _run(record: RunRecord) -> _Claim:
    return _Claim(record.run, f"run {record.run}", msgspec.to_builtins(record))


def _sources(record: SourcesRecord) -> _Claim:
    return _Claim(record.sources, f"list of files {record.sources}", msgspec.to_builtins(record))


def _session(record: SessionRecord) -> _Claim:
    return _Claim(record.session, f"session {record.session}", msgspec.to_builtins(record))


def _trial(record: TrialRecord) -> _Claim | None:
    """Return what every repetition of a trial has to give, bit for bit: on a GPU nothing, nor without code prints.

    A failure of the run says nothing of the trial.
    """
    code = (record.norm_print, record.task_print, record.sources)
    if None in code or record.device != "cpu" or record.outcome not in FINAL:
        return None
    of = (record.key, code, record.environment, record.threads, record.lanes, record.ranks)
    called = f"trial {record.key} ({record.norm}, rate {record.recipe.get('rate')}, seed {record.seed})"
    score = record.nonfinite.get("score", record.score)
    return _Claim(of, called, {"outcome": record.outcome, "score": score})


#: In the order in which they are written: a folder counts as one of results by its runs.
_KINDS = (
    _Kind(ENVIRONMENTS, lambda store: store.environments().values(), claim=_environment),
    _Kind(SOURCES, Store.source_records, claim=_sources),
    _Kind(FINGERPRINTS, Store.fingerprints, "started"),
    _Kind(TRIALS, Store.trials, "finished", _trial),
    _Kind(SESSIONS, Store.sessions, "finished", _session),
    _Kind(RUNS, Store.runs, "started", _run),
)


def merge(stores: Sequence[Store], out: Path) -> dict[str, int]:
    """Make a folder of what all stores hold, and return how many records each of its files has.

    A line that several hold is there once. The order is that of time, and of each store's own lines: the latest counts
    in the folder as in each store. Raises UsageError, and writes nothing, where `out` is not new or empty, a line can't
    be read, or two stores contradict: in a run, a session or an environment, or in what a trial gave that any machine
    of its environment has to repeat. A process that is killed leaves no folder `out`.
    """
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise UsageError(f"-o {out}: there is something already; name a new folder, or an empty one")
    parts: dict[str, list[msgspec.Raw]] = {}
    contradictions: list[str] = []
    for kind in _KINDS:
        parts[kind.file], found = _joined(kind, stores)
        contradictions += found
    _require_readable(stores)
    if contradictions:
        more = f" (and {len(contradictions) - 1} more contradictions)" if len(contradictions) > 1 else ""
        raise UsageError(f"{contradictions[0]}{more}; nothing is merged")
    _write(parts, out)
    return {name: len(lines) for name, lines in parts.items()}


def _joined(kind: _Kind, stores: Sequence[Store]) -> tuple[list[msgspec.Raw], list[str]]:
    """Return the lines of all stores in order, and what their latest records contradict."""
    timed: list[tuple[str, bytes]] = []
    first: dict[Hashable, tuple[Store, _Claim]] = {}
    contradictions: list[str] = []
    for store in stores:
        since = ""
        latest: dict[Hashable, _Claim] = {}
        for record in kind.read(store):
            # A clock that was set back must not change which of a store's records is the latest.
            since = max(since, getattr(record, kind.when)) if kind.when else since
            timed.append((since, msgspec.json.encode(record)))
            claim = kind.claim(record) if kind.claim else None
            if claim is not None:
                latest[claim.of] = claim
        for claim in latest.values():
            other, said = first.setdefault(claim.of, (store, claim))
            if said.says != claim.says:
                differs = ", ".join(_differences(said.says, claim.says))
                contradictions.append(f"{other.folder} and {store.folder} contradict: {claim.called}: {differs}")
    timed.sort(key=lambda line: line[0])
    return [msgspec.Raw(line) for line in dict.fromkeys(line for _, line in timed)], contradictions


def _differences(one: dict[str, Any], other: dict[str, Any]) -> Iterator[str]:
    for name in {**one, **other}:
        mine, theirs = one.get(name), other.get(name)
        if mine != theirs:
            yield f"other {name}" if isinstance(mine or theirs, dict | list) else f"{name} {mine} and {theirs}"


def _require_readable(stores: Sequence[Store]) -> None:
    """Raise UsageError where a line can't be read that is not set aside: merging would drop it for good."""
    bad = [(store, line) for store in stores for line in store.unreadable]
    if bad:
        store, line = bad[0]
        more = f" (and {len(bad) - 1} more lines)" if len(bad) > 1 else ""
        aside = "" if store.is_file() else "; the next run into this folder sets it aside"
        raise UsageError(f"{store.folder / line.file} line {line.line}: {line.reason}{more}; nothing is merged{aside}")


def _write(parts: dict[str, list[msgspec.Raw]], out: Path) -> None:
    """Write a folder beside its place, and put it there once it is whole."""
    place = out.resolve()
    part = place.with_name(f".{place.name}.{secrets.token_hex(3)}.part")
    try:
        part.mkdir(parents=True)
        with Store(part).writer() as writer:
            for name, lines in parts.items():
                writer.copy(name, lines)
        os.replace(part, place)
    except OSError as error:
        raise UsageError(f"-o {out}: can't be written ({error.strerror})") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)

"""Several results folders as one: all that they hold, each line once; refused where they contradict each other."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from normbench.errors import UsageError
from normbench.store import Store
from normbench.store.kinds import KINDS, Claim, RecordKind


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
    for kind in reversed(KINDS.values()):
        parts[kind.file], between = _joined(kind, stores)
        contradictions += between
    _require_readable(stores)
    if contradictions:
        more = f" (and {len(contradictions) - 1} more contradictions)" if len(contradictions) > 1 else ""
        raise UsageError(f"{contradictions[0]}{more}; nothing is merged")
    _write(parts, out)
    return {name: len(lines) for name, lines in parts.items()}


def _joined(kind: RecordKind, stores: Sequence[Store]) -> tuple[list[msgspec.Raw], list[str]]:
    """Return the lines of all stores in order, and what their latest records contradict."""
    timed: list[tuple[str, bytes]] = []
    first: dict[Hashable, tuple[Store, Claim]] = {}
    contradictions: list[str] = []
    for store in stores:
        since = ""
        latest: dict[Hashable, Claim] = {}
        for record in store.whole(kind):
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

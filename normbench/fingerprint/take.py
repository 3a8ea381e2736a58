"""Fingerprints: a few training steps of every cell, taken in a worker, stored, and compared with earlier ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, TypeAlias

from normbench import environment
from normbench.calls import Workplace
from normbench.fingerprint.numbers import METHOD, Difference, Taken, digest, largest_difference, tolerated
from normbench.store import Writer
from normbench.store.folder import sources_key
from normbench.store.records import SCHEMA, FingerprintRecord
from normbench.trials import Cell, Made, Source, shared

#: How a fingerprint compares with an earlier one: unknown where there is none, or either has no numbers.
Verdict: TypeAlias = Literal["same", "changed", "unknown"]

#: Called with a fingerprint, and the files that it was made from.
OnTaken: TypeAlias = Callable[[FingerprintRecord, Sequence[Source]], object]
#: The seed of the trial whose steps are taken.
SEED = 0


@dataclass(frozen=True)
class Beside:
    """A fingerprint compared with the one of `before`; `difference` is the number that differs most, if one does."""

    verdict: Verdict
    before: FingerprintRecord | None = None
    difference: Difference | None = None


def take(cells: Sequence[Cell], at: Workplace, on_taken: OnTaken | None = None) -> list[FingerprintRecord]:
    """Return a fingerprint of each cell: of its recipe, at the recipe's own rate, seed 0. Nothing is stored.

    `on_taken` is called with each as it comes, and with the files that it was made from; `storing` makes one that
    stores it. A layer or a task that raises, or does not let its worker live, costs its own fingerprint, whose outcome
    then is "error"; where a norm can't stand, or trials take several devices, it is "unsupported". Raises UsageError
    where the data folder lacks the data.
    """
    records = []
    env = environment.describe(at.device).environment
    started = datetime.now(UTC)
    trials = [cell.trial(cell.recipe.rate, {}, SEED) for cell in cells]
    each = at.each("normbench.fingerprint.steps:fingerprints", trials, lost=lambda lost: Taken("error", lost.reason))
    with closing(each) as all_taken:
        for cell, taken in zip(cells, all_taken, strict=True):
            record = _record(cell, taken, at.device, env, started)
            started = datetime.now(UTC)
            records.append(record)
            if on_taken is not None:
                on_taken(record, taken.made.files if taken.made else ())
    return records


def storing(writer: Writer, device: str) -> OnTaken:
    """Return what stores a fingerprint taken on a device, an `on_taken` of `take`, and store the environment."""
    writer.environment(environment.describe(device))

    def store(record: FingerprintRecord, files: Sequence[Source]) -> None:
        writer.sources(files)
        writer.append(record)

    return store


def compared(stored: Iterable[FingerprintRecord], taken: Sequence[FingerprintRecord]) -> list[Beside]:
    """Compare each fingerprint with the latest that is stored of the same cell, recipe and kind of device."""
    latest = {record.key: record for record in stored}
    return [_beside(latest.get(record.key), record) for record in taken]


def _beside(before: FingerprintRecord | None, now: FingerprintRecord) -> Beside:
    if before is None or not before.outcome == now.outcome == "taken":
        return Beside("unknown")
    difference = largest_difference(before.numbers, now.numbers)
    return Beside("same" if tolerated(difference) else "changed", before, difference)


def _record(cell: Cell, taken: Taken, device: str, env: str, started: datetime) -> FingerprintRecord:
    made = taken.made or Made(norm_print=cell.norm_print, task_print=cell.task_print)
    return FingerprintRecord(
        schema=SCHEMA,
        **environment.origin(started),
        method=METHOD,
        **shared(FingerprintRecord, cell, made),
        sources=sources_key(made.files),
        device=environment.kind(device),
        environment=env,
        outcome=taken.outcome,
        reason=taken.reason,
        digest=digest(taken.numbers) if taken.outcome == "taken" else "",
        numbers=taken.numbers,
    )

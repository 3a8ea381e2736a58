"""Fingerprints: a few training steps of every cell, taken in this process, stored, and held against those of before."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias

from normbench.contract import Unsupported
from normbench.errors import UsageError
from normbench.execute import environment
from normbench.plugins import Registry
from normbench.records import SCHEMA, Cell, FingerprintRecord
from normbench.stats.fingerprints import Difference, digest, largest_difference
from normbench.store import Writer, environment_id

#: What a fingerprint says beside one of before: nothing where there is none of before, or one of them is none.
Verdict: TypeAlias = Literal["same", "changed", "unknown"]

#: The seed of the trial whose steps are taken.
SEED = 0
#: Characters of an error that are kept.
LONGEST_REASON = 300


@dataclass(frozen=True)
class Held:
    """A fingerprint beside the one of `before`: whether it is the same, and the number that differs most, if one does.

    `before` and `difference` are None where nothing can be said.
    """

    verdict: Verdict
    before: FingerprintRecord | None = None
    difference: Difference | None = None


def take(
    cells: Sequence[Cell],
    registry: Registry,
    device: str,
    data_dir: Path,
    on_taken: Callable[[FingerprintRecord], object] | None = None,
) -> list[FingerprintRecord]:
    """Return a fingerprint of each cell: of its recipe, at the recipe's own rate, seed 0. Nothing is stored.

    `on_taken` is called with each as it comes; `storing` makes one that stores it. A layer or a task that raises costs
    its own fingerprint, whose outcome then is "error"; where a norm can't stand, or trials take several devices, it is
    "unsupported". Raises UsageError where the data folder lacks the data.
    """
    taken = []
    env = environment_id(environment.describe(device))
    for cell in cells:
        record = _taken(cell, registry, device, env, data_dir)
        taken.append(record)
        if on_taken is not None:
            on_taken(record)
    return taken


def storing(writer: Writer, device: str) -> Callable[[FingerprintRecord], None]:
    """Return what stores a fingerprint taken on a device, an `on_taken` of `take`, and store the environment."""
    writer.environment(environment.describe(device))
    return writer.append


def held_against(
    stored: Iterable[FingerprintRecord], taken: Sequence[FingerprintRecord]
) -> dict[tuple[str, str], Verdict]:
    """Return for each fingerprint's (table, row) whether it is that of before; `held` has the difference, too."""
    found = zip(taken, held(stored, taken), strict=True)
    return {(record.table, record.row): beside.verdict for record, beside in found}


def held(stored: Iterable[FingerprintRecord], taken: Sequence[FingerprintRecord]) -> list[Held]:
    """Return each fingerprint beside the latest that is stored of the same cell, recipe and kind of device."""
    latest = {record.key: record for record in stored}
    return [_held(latest.get(record.key), record) for record in taken]


def _held(before: FingerprintRecord | None, now: FingerprintRecord) -> Held:
    if before is None or not before.outcome == now.outcome == "taken":
        return Held("unknown")
    difference = largest_difference(before.numbers, now.numbers)
    same = difference is None or difference.times <= 1
    return Held("same" if same else "changed", before, difference)


def _taken(cell: Cell, registry: Registry, device: str, env: str, data_dir: Path) -> FingerprintRecord:
    import torch

    from normbench.train.fingerprint import METHOD, fingerprint

    found: dict[str, Any]
    started, process = datetime.now(UTC), os.getpid()
    trial = cell.trial(cell.recipe.rate, {}, SEED)
    try:
        if cell.recipe.ranks > 1:
            raise Unsupported("a fingerprint is taken on one device, and a trial of this takes several")
        numbers = fingerprint(trial, registry, data_dir, torch.device(device))
        found = {"outcome": "taken", "digest": digest(numbers), "numbers": numbers}
    except (UsageError, KeyboardInterrupt):
        raise
    except Unsupported as error:
        found = {"outcome": "unsupported", "reason": _in_a_line(str(error))}
    except (Exception, SystemExit) as error:
        found = {"outcome": "error", "reason": _in_a_line(f"{type(error).__name__}: {error}")}
    finally:
        if os.getpid() != process:
            os._exit(0)  # a layer forked, and this is the copy
    return FingerprintRecord(
        schema=SCHEMA,
        **environment.origin(started),
        method=METHOD,
        task=cell.task,
        task_version=cell.task_version,
        task_params=cell.task_params,
        task_print=cell.task_print,
        condition=cell.condition,
        norm=cell.norm,
        params=cell.params,
        label=cell.label,
        norm_print=cell.norm_print,
        recipe=cell.recipe,
        device=environment.kind(device),
        environment=env,
        **found,
    )


def _in_a_line(text: str) -> str:
    return textwrap.shorten(text, LONGEST_REASON, placeholder=" …")

"""Training more seeds until a comparison is decided, for the rows that are unclear; training only what changed.

The looks are fixed, and stored with the first run, before anything is looked at: docs/metrics.md says what each spends.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from normbench.errors import UsageError
from normbench.execute.prepare import Prepared, on_device, prepare
from normbench.execute.request import Request
from normbench.fingerprint import take
from normbench.gates import THROUGHPUT, Gate, gates
from normbench.store import Store
from normbench.store.records import RunRecord
from normbench.suites import Suite
from normbench.trials import Cell

if TYPE_CHECKING:
    from normbench.compare.comparison import Comparison

#: Runs what is prepared; the command line shows its progress.
Runs: TypeAlias = Callable[[Prepared], object]
#: A row of a comparison: `Cell.table_id` and `Cell.norm_id`.
Key: TypeAlias = tuple[str, str]


def decided_run(request: Request, looks: Sequence[int], run: Runs) -> Comparison:
    """Run a suite with more and more seeds, until every norm is decided against the baseline; return the verdicts.

    Raises UsageError without a gate, and where the folder's looks were fixed otherwise.
    """
    from normbench.compare.folders import against_baseline

    request = dataclasses.replace(request, looks=looks, throughput=False)
    whole = prepare(dataclasses.replace(request, seeds=looks[0]))
    _check_looks(whole.store, looks, frozenset(whole.tables))
    held = gates(whole.suite.gate, f"suite {whole.suite.name}")
    if not set(held) - {THROUGHPUT.name}:
        raise UsageError("--until decided needs a gate: --fail 'accuracy:-0.5pt', or [gate] in the suite")
    if not any(cell.label == whole.baseline for cell in whole.cells):
        raise UsageError(f"--until decided: the baseline {whole.baseline!r} is not among the norms")
    baseline = {(cell.table_id, cell.norm_id) for cell in whole.cells if cell.label == whole.baseline}
    run(on_device(whole))
    for look in looks[1:]:
        unclear = _unclear(against_baseline(whole.store, held, looks, only=whole.tables))
        if not unclear:
            break
        tables = {table for table, _ in unclear}
        wanted = unclear | {key for key in baseline if key[0] in tables}
        run(on_device(prepare(dataclasses.replace(request, seeds=look), narrowed=partial(_among, wanted))))
    return against_baseline(whole.store, held, looks, only=whole.tables)


def decided_compare(
    base: Store,
    head: Store,
    held: dict[str, Gate],
    looks: Sequence[int],
    request: Request,
    run: Runs,
    unchanged: frozenset[Key] = frozenset(),
) -> Comparison:
    """Train in HEAD's folder the seeds that BASE has, for the rows that are unclear, one look after the other.

    `unchanged` are rows that need no training.
    """
    if head.is_file():
        raise UsageError(f"{head.folder}: a file, which is not written to; --until decided buys seeds for a folder")
    from normbench.compare.folders import compare

    if not head.runs():
        raise UsageError(f"{head.folder}: no run there; normbench run SUITE --out {head.folder} makes one")
    latest = head.runs()[-1]
    _check_looks(head, looks, frozenset(cell.table_id for cell in latest.cells))
    seeds = _seeds(base)
    suite = _suite(latest, head)
    request = dataclasses.replace(request, suite=suite.name, out=head.folder, looks=looks, throughput=False)
    wanted = {(cell.table_id, cell.norm_id) for cell in latest.cells} & set(seeds) - unchanged
    for look in looks:
        if not wanted:
            break

        def narrowed(cell: Cell, look: int = look, wanted: set[Key] = wanted) -> Cell | None:
            chosen = _among(wanted, cell)
            return chosen and msgspec.structs.replace(chosen, seeds=seeds[cell.table_id, cell.norm_id][:look])

        run(on_device(prepare(request, suite=suite, narrowed=narrowed)))
        wanted &= _unclear(compare(base, head, held, looks=looks, unchanged=unchanged))
    comparison = compare(base, head, held, looks=looks, unchanged=unchanged)
    short = {len(of_row) for of_row in seeds.values() if len(of_row) < looks[-1]}
    if short and _unclear(comparison):
        note = f"BASE has {min(short)} seeds; train more of them there to decide the rest"
        return dataclasses.replace(comparison, notes=[*comparison.notes, note])
    return comparison


def fingerprinted(base: Store, head: Store, request: Request, run: Runs, looks: Sequence[int] = ()) -> frozenset[Key]:
    """Take fingerprints of the suite that BASE ran last, train in HEAD what changed, and return what did not.

    With looks, the seeds of the first are trained. Rows whose fingerprint BASE lacks count as changed. Raises
    UsageError where BASE has none at all.
    """
    stored = base.fingerprints()
    latest = base.runs()[-1] if base.runs() else None
    if latest is None or not stored:
        name = latest.suite.get("name", "SUITE") if latest else "SUITE"
        plugins = "".join(f" --plugin {file}" for file in request.plugin_files)
        raise UsageError(
            f"{base.folder}: no fingerprints there; in BASE's checkout, normbench fingerprint {name}{plugins} --out "
            f"{base.folder} stores them"
        )
    suite = _suite(latest, base)
    seeds = _seeds(base)
    request = dataclasses.replace(request, suite=suite.name, out=head.folder, looks=looks, throughput=False)
    prepared = on_device(prepare(request, suite=suite))
    taken = take.take(prepared.cells, prepared.workplace)
    pairs = zip(taken, take.compared(stored, taken), strict=True)
    same = {(record.table_id, record.norm_id) for record, beside in pairs if beside.verdict == "same"}
    first = looks[0] if looks else None

    def narrowed(cell: Cell) -> Cell | None:
        key = cell.table_id, cell.norm_id
        return None if key in same else msgspec.structs.replace(cell, seeds=seeds.get(key, cell.seeds)[:first])

    changed = prepare(request, suite=suite, narrowed=narrowed)
    if changed.cells:
        run(on_device(changed))
    return frozenset(same)


def _seeds(base: Store) -> dict[Key, list[int]]:
    """Return the seeds that BASE was asked for, by row, ascending."""
    of_rows: dict[Key, set[int]] = {}
    for run in base.runs():
        for cell in run.cells:
            of_rows.setdefault((cell.table_id, cell.norm_id), set()).update(cell.seeds)
    return {key: sorted(seeds) for key, seeds in of_rows.items()}


def _suite(run: RunRecord, store: Store) -> Suite:
    try:
        return msgspec.convert(run.suite, Suite)
    except msgspec.ValidationError as error:
        raise UsageError(f"{store.folder}: the suite of run {run.run} can't be read ({error})") from None


def _among(wanted: set[Key], cell: Cell) -> Cell | None:
    return cell if (cell.table_id, cell.norm_id) in wanted else None


def _unclear(comparison: Comparison) -> set[Key]:
    return {
        (row.table_id, row.norm_id) for row in comparison.rows if row.word == "unclear" and row.metric is not THROUGHPUT
    }


def _check_looks(store: Store, looks: Sequence[int], tables: frozenset[str]) -> None:
    """Refuse looks at other numbers of seeds than those that were fixed before the first."""
    for run in store.runs():
        if run.looks and list(looks) != run.looks and any(cell.table_id in tables for cell in run.cells):
            stored = ", ".join(map(str, run.looks))
            raise UsageError(
                f"{store.folder}: looks at {stored} seeds were fixed before the first; go on with --max-seeds "
                f"{run.looks[-1]}, or name another folder"
            )

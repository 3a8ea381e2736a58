"""Training more seeds until a comparison is decided, for the rows that are unclear; training only what changed.

The looks are fixed, and stored with the first run, before anything is looked at: docs/metrics.md says what each spends.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from normbench import plan
from normbench.errors import UsageError
from normbench.execute.kept import Chosen, chosen_in
from normbench.execute.prepare import Prepared, on_device, prepare
from normbench.execute.request import Request
from normbench.fingerprint import take
from normbench.gates import THROUGHPUT, Gate, gates
from normbench.store import Store
from normbench.store.records import RunRecord
from normbench.suites import Suite
from normbench.trials import FRESH, Cell, Kept, RowId

if TYPE_CHECKING:
    from normbench.compare.comparison import Comparison

#: Runs what is prepared; the command line shows its progress.
Runs: TypeAlias = Callable[[Prepared], object]


def decided_run(request: Request, looks: Sequence[int], run: Runs) -> Comparison:
    """Run a suite with more and more seeds, until every norm is decided against the baseline; return the verdicts.

    The grid of the first look chooses the rates, for good; from then on fresh seeds are trained, and seeds of the grid
    only where a gate reads them. Raises UsageError without a gate, and where the folder's looks were fixed otherwise.
    """
    from normbench.compare.folders import against_baseline

    asked = dataclasses.replace(request, seeds=looks[0], looks=looks)
    quiet = dataclasses.replace(asked, throughput=False)
    whole = prepare(quiet)
    _check_looks(whole.store, looks, frozenset(whole.tables))
    held = gates(whole.suite.gate, f"suite {whole.suite.name}")
    if not set(held) - {THROUGHPUT.name}:
        raise UsageError("--until decided needs a gate: --fail 'accuracy:-0.5pt', or [gate] in the suite")
    if not any(cell.label == whole.baseline for cell in whole.cells):
        raise UsageError(f"--until decided: the baseline {whole.baseline!r} is not among the norms")
    baseline = {cell.row_id for cell in whole.cells if cell.label == whole.baseline}
    every = {cell.row_id for cell in whole.cells}
    kept = _kept(quiet, whole.cells, run)
    wanted = every
    for look in looks:
        narrowed = partial(_at_look, wanted, kept, look, looks[0] if _of_fresh(held) else look)
        run(on_device(prepare(quiet, narrowed=narrowed)))
        unclear = _unclear(against_baseline(whole.store, held, looks, only=whole.tables))
        tables = {table for table, _ in unclear}
        wanted = unclear | {row for row in baseline if row[0] in tables}
        if not unclear:
            break
    run(on_device(prepare(asked, narrowed=partial(_at_look, every, kept, looks[0], looks[0]))))
    return against_baseline(whole.store, held, looks, only=whole.tables)


def _of_fresh(held: Mapping[str, Gate]) -> bool:
    """Whether all gates are on the accuracy, which fresh seeds alone decide."""
    return not set(held) - {THROUGHPUT.name, "accuracy"}


def _kept(request: Request, planned: Sequence[Cell], run: Runs) -> dict[RowId, Kept]:
    """Train the grid of the first look, and return what it chooses for each planned row that has fresh seeds.

    What an earlier run of these looks chose for the same code stays, also where a trial that failed is tried again.
    """

    def grid_alone(cell: Cell) -> Cell:
        return msgspec.structs.replace(cell, fresh=[]) if cell.fresh else cell

    cells = [cell for cell in planned if cell.fresh]
    grid = on_device(prepare(request, narrowed=grid_alone))
    earlier = {
        (*cell.row_id, *cell.prints): cell.kept
        for one in grid.store.runs()
        for cell in one.cells
        if one.looks and cell.kept is not None
    }
    rows = {cell.row_id for cell in cells}
    if any(item.cell.row_id in rows for item in grid.todo):
        run(grid)
        grid = on_device(prepare(request, narrowed=grid_alone))
    results = {key: result for key, (result, edited) in grid.stored.latest.items() if not edited}
    chosen = {cell.row_id: _stays(cell, earlier) or plan.kept_of(cell, results) for cell in cells}
    return {row: kept for row, kept in chosen.items() if kept is not None}


def _stays(cell: Cell, earlier: Mapping[tuple[str, str, str | None, str | None], Kept]) -> Kept | None:
    """Return what was chosen for a cell's code, where the cell's grid still has it."""
    kept = None if None in cell.prints else earlier.get((*cell.row_id, *cell.prints))
    return kept if kept is not None and cell.tries(kept) else None


def _at_look(wanted: set[RowId], kept: Mapping[RowId, Kept], look: int, of_grid: int, cell: Cell) -> Cell | None:
    """Return a cell with the seeds of a look: fresh ones at what is kept, or those of the grid where nothing is."""
    if cell.row_id not in wanted:
        return None
    if cell.row_id not in kept:
        return msgspec.structs.replace(cell, seeds=list(range(look)))
    fresh = [seed + FRESH for seed in range(look)]
    return msgspec.structs.replace(cell, seeds=list(range(of_grid)), fresh=fresh, kept=kept[cell.row_id])


def decided_compare(
    base: Store,
    head: Store,
    held: dict[str, Gate],
    looks: Sequence[int],
    request: Request,
    run: Runs,
    unchanged: frozenset[RowId] = frozenset(),
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
    chosen = chosen_in(base)
    suite = _suite(latest, head)
    request = dataclasses.replace(request, suite=suite.name, out=head.folder, looks=looks, throughput=False)
    wanted = {cell.row_id for cell in latest.cells} & set(chosen) - unchanged
    for look in looks:
        if not wanted:
            break

        def narrowed(cell: Cell, look: int = look, wanted: set[RowId] = wanted) -> Cell | None:
            return _as_base(chosen[cell.row_id], cell, look, held) if cell.row_id in wanted else None

        run(on_device(prepare(request, suite=suite, narrowed=narrowed)))
        wanted &= _unclear(compare(base, head, held, looks=looks, unchanged=unchanged))
    comparison = compare(base, head, held, looks=looks, unchanged=unchanged)
    counts = [len(row.fresh) or len(row.seeds) for row in chosen.values()]
    short = [count for count in counts if count < looks[-1]]
    if short and _unclear(comparison):
        note = f"BASE has {min(short)} seeds; train more of them there to decide the rest"
        return dataclasses.replace(comparison, notes=[*comparison.notes, note])
    return comparison


def _as_base(of_base: Chosen, cell: Cell, look: int | None, held: Mapping[str, Gate] | None) -> Cell:
    """Return a cell with the seeds of BASE up to a look, fresh ones at BASE's choice.

    Where BASE has fresh seeds and no gate reads the grid, the cell's own grid is left as it is.
    """
    if not of_base.fresh or not cell.fresh or not cell.tries(of_base.kept):
        return msgspec.structs.replace(cell, seeds=of_base.seeds[:look], fresh=[])
    seeds = cell.seeds if held is not None and _of_fresh(held) else of_base.seeds[:look]
    return msgspec.structs.replace(cell, seeds=seeds, fresh=of_base.fresh[:look], kept=of_base.kept)


def fingerprinted(base: Store, head: Store, request: Request, run: Runs, looks: Sequence[int] = ()) -> frozenset[RowId]:
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
    chosen = chosen_in(base)
    request = dataclasses.replace(request, suite=suite.name, out=head.folder, looks=looks, throughput=False)
    prepared = on_device(prepare(request, suite=suite))
    taken = take.take(prepared.cells, prepared.workplace)
    pairs = zip(taken, take.compared(stored, taken), strict=True)
    same = {(record.table_id, record.norm_id) for record, beside in pairs if beside.verdict == "same"}
    first = looks[0] if looks else None

    def narrowed(cell: Cell) -> Cell | None:
        if cell.row_id in same:
            return None
        return _as_base(chosen[cell.row_id], cell, first, None) if cell.row_id in chosen else cell

    changed = prepare(request, suite=suite, narrowed=narrowed)
    if changed.cells:
        run(on_device(changed))
    return frozenset(same)


def _suite(run: RunRecord, store: Store) -> Suite:
    try:
        return msgspec.convert(run.suite, Suite)
    except msgspec.ValidationError as error:
        raise UsageError(f"{store.folder}: the suite of run {run.run} can't be read ({error})") from None


def _unclear(comparison: Comparison) -> set[RowId]:
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

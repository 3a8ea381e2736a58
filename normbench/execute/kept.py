"""What BASE chose and trained, row by row: HEAD's fresh seeds stand at BASE's choices, to be compared there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from normbench.boards.grid import gather
from normbench.errors import UsageError
from normbench.spelling import assignments
from normbench.store import Store
from normbench.trials import Cell, Kept, RowId


@dataclass(frozen=True)
class Chosen:
    """What a row of BASE has: its setting and rate, the seeds of its grid, and its fresh seeds there, ascending."""

    kept: Kept
    seeds: list[int]
    fresh: list[int]


def chosen_in(base: Store) -> dict[RowId, Chosen]:
    """Return what each row of a store chose."""
    return {
        row.cell.row_id: Chosen(
            kept=Kept(setting=row.settings[row.setting], rate=row.rate),
            seeds=row.seeds,
            fresh=sorted(row.fresh_scored()),
        )
        for grid in gather(base)
        for row in grid.rows
        if row.rate is not None
    }


def as_chosen(cells: Sequence[Cell], base: Path, words: Callable[..., str]) -> list[Cell]:
    """Return cells whose fresh seeds stand where BASE's do; those that BASE lacks are left as they are.

    Raises UsageError where BASE is not there, has none of the cells, or has no fresh seeds of them.
    """
    where = f"{words('base')} {base}"
    if not Store(base).exists():
        raise UsageError(f"{where}: no results there")
    if not any(cell.fresh for cell in cells):
        if any(cell.chooses for cell in cells):
            raise UsageError(f"{where}: it says where fresh seeds are trained, and this run has none; leave it out")
        return list(cells)  # nothing is chosen: both sides stand at the one rate
    of_rows = chosen_in(Store(base))
    shared = [of_rows[cell.row_id] for cell in cells if cell.row_id in of_rows]
    if not shared:
        raise UsageError(f"{where}: it has no results of this suite's norms, tasks and conditions")
    if not any(row.fresh for row in shared):
        raise UsageError(
            f"{where}: it has no fresh seeds; train them there by running the suite again, or leave it out"
        )
    return [_at(cell, of_rows[cell.row_id].kept, where) if cell.row_id in of_rows else cell for cell in cells]


def _at(cell: Cell, kept: Kept, where: str) -> Cell:
    if not cell.tries(kept):
        chosen = assignments({**kept.setting, "rate": kept.rate})
        raise UsageError(f"{where}: it chose {chosen} for {cell.label!r} on {cell.task}, which this run does not try")
    return msgspec.structs.replace(cell, kept=kept)

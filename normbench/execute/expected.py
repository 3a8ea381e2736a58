"""How long the trials of a plan should take: from what similar ones took, else from their first steps. No torch."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from normbench import environment
from normbench.errors import UsageError
from normbench.execute.prepare import Prepared
from normbench.recipe import Recipe
from normbench.throughput.wanted import RATE
from normbench.trials import Cell

#: The seconds after the first cell was timed when no further one is; and those that a worker may take for one.
LIMIT, PATIENCE = 10.0, 60.0
#: What a run takes of what its first steps tell: machines are shared, caches fill, trials that diverge end early.
BETWEEN = (0.7, 1.5)


@dataclass(frozen=True)
class Pace:
    """What came of the first steps of a trial: about how many seconds all of it takes, or why there is no number."""

    outcome: Literal["timed", "unsupported", "oom", "timeout", "error", "no data"]
    reason: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Paces:
    """The pace of each cell whose first steps were taken, of the `asked` ones; `start` is what all trials wait for."""

    asked: int = 0
    start: float = 0.0
    taken: Sequence[tuple[Cell, Pace]] = ()

    @property
    def timed(self) -> list[tuple[Cell, float]]:
        """The cells that have a time, and the seconds that a trial of each takes."""
        return [(cell, pace.seconds) for cell, pace in self.taken if pace.outcome == "timed"]


@dataclass(frozen=True)
class Expected:
    """About how many seconds the trials that are left take, as many at a time as there are jobs.

    Where that is not what stored trials took alone, it is somewhere from `low` to `high`.
    """

    seconds: float
    low: float
    high: float


def untimed(prepared: Prepared) -> list[Cell]:
    """Return the cells that have trials left, on one device each, and in whose table nothing similar is stored.

    The baseline of each table comes first.
    """
    known = {_table(item.cell, item.trial.recipe) for item in prepared.work if item.stored is not None}
    cells = [cell for cell, recipe in _left(prepared) if cell.recipe.ranks == 1 and _table(cell, recipe) not in known]
    return sorted({cell.row_id: cell for cell in cells}.values(), key=lambda cell: cell.label != prepared.baseline)


def paces(prepared: Prepared, cells: Sequence[Cell], on_cell: Callable[[Cell], object]) -> Paces:
    """Take the first steps of cells, in a worker where the executor has some, until the time is up.

    `on_cell` is called before each. A pace has whatever a layer raises, and says where data or a device is not here.
    """
    taken: list[tuple[Cell, Pace]] = []
    start, began = 0.0, time.monotonic()
    try:
        with closing(_first_steps(prepared, cells)) as steps:
            for cell in cells:
                if taken and time.monotonic() - began - start > LIMIT:
                    break
                on_cell(cell)
                taken.append((cell, next(steps)))
                start = start or time.monotonic() - began
    except UsageError as error:  # what is planned is for another machine, or can't reach a worker
        taken.append((cells[len(taken)], Pace("error", str(error))))
    return Paces(len(cells), start, taken)


def _first_steps(prepared: Prepared, cells: Sequence[Cell]) -> Generator[Pace, None, None]:
    """Yield the pace of each cell. Raises UsageError for a device that is not here, and where there is no worker."""
    executor = msgspec.structs.replace(prepared.executor, params={**prepared.executor.params, "timeout": PATIENCE})
    device = environment.resolve(prepared.request.device)
    at = dataclasses.replace(prepared.workplace, device=device, executor=executor)
    yield from at.each(
        "normbench.execute.first_steps:paces",
        [cell.trial(RATE * cell.recipe.rate, {}, 0) for cell in cells],
        prepared.request.probes,
        lost=lambda lost: Pace(lost.outcome, lost.reason),
    )


def expected(prepared: Prepared, paces: Paces) -> Expected | None:
    """Return how long the trials that are left should take; None where that is not known."""
    seconds = seconds_left(prepared, paces)
    if seconds is None:
        return None
    seconds = paces.start + seconds / at_once(prepared)
    return Expected(seconds, *(factor * seconds for factor in (BETWEEN if paces.timed else (1, 1))))


def at_once(prepared: Prepared) -> int:
    """Return how many of the trials that are left should run at a time."""
    return max(1, min(prepared.at_once, prepared.left))


def seconds_left(prepared: Prepared, paces: Paces) -> float | None:
    """Return the time that the trials that are left should take one after another; None where that is not known.

    A trial takes the median of its norm's trials in its table, else of the table's, else of the task's, else of all.
    Where none of a table is stored, a pace counts as one that is, but not for other tasks; what is unsupported takes no
    time.
    """
    stored: dict[Any, list[float]] = {}
    paced: dict[Any, list[float]] = {}
    for item in prepared.work:
        if item.stored is not None:
            for group in _groups(item.cell, item.trial.recipe):
                stored.setdefault(group, []).append(item.stored.seconds / _length(item.trial.recipe))
    for cell, seconds in paces.timed:
        for group in _groups(cell, cell.recipe)[:-1]:
            paced.setdefault(group, []).append(seconds / _length(cell.recipe))
    unsupported = {cell.row_id for cell, pace in paces.taken if pace.outcome == "unsupported"}
    took = {group: statistics.median(seconds) for group, seconds in {**paced, **stored}.items()}
    total = 0.0
    for cell, recipe in _left(prepared):
        if cell.row_id in unsupported:
            continue
        similar = [took[group] for group in _groups(cell, recipe) if group in took]
        if not similar:
            return None
        total += similar[0] * _length(recipe)
    return total


def _left(prepared: Prepared) -> list[tuple[Cell, Recipe]]:
    """Return of each trial that is left its cell, and its recipe as far as that is known."""
    known = [(item.cell, item.trial.recipe) for item in prepared.todo]
    return known + [(cell, cell.recipe) for cell, _ in prepared.coming]


def _groups(cell: Cell, recipe: Recipe) -> list[tuple[str, ...]]:
    """Return what identifies the trials that are similar to one of a cell: the most similar first, last all."""
    counted = "steps" if recipe.steps else "epochs"
    return [(counted, *cell.row_id), _table(cell, recipe), (counted, cell.task), (counted,)]


def _table(cell: Cell, recipe: Recipe) -> tuple[str, ...]:
    return "steps" if recipe.steps else "epochs", cell.table_id


def _length(recipe: Recipe) -> int:
    return recipe.steps or recipe.epochs

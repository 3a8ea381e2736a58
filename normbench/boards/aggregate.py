"""The aggregate board: what norms do over several tasks, which count equally."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec

from normbench.boards.grid import Grid, Row, failure_flags, over_seeds, seed_note
from normbench.boards.sessions import Sessions
from normbench.boards.stability import curves, over_the_grid
from normbench.boards.standing import rank_notes, ranked
from normbench.spelling import spelled
from normbench.stats.intervals import mean_over_seeds
from normbench.store.records import Result
from normbench.tables.table import Column, Table, TableRow, Value, defined, flags_of
from normbench.texts import visible
from normbench.trials import FRESH

#: The progress that the columns of the performance profile count trainings from (Agarwal et al. 2021, 2108.13264).
PROFILE = (0.5, 0.8, 0.9, 0.95, 1.0)
_SAME_SEEDS = "same-seeds: some rates were chosen on the seeds that are shown, which flatters"


def _profile(least: float) -> str:
    return f"from_{100 * least:.0f}"


_REACHED = "The share of trainings, one per task and seed, whose progress is at least that in the heading."
#: What each column is: docs/metrics.md begins with the same words.
MEANINGS = {
    "progress": "For each seed the mean over the tasks of its progress, on each task at the rate chosen there. Over "
    "the seeds the mean.",
    "over_the_grid": "For each seed the mean over the tasks of its progress over the task's grid of rates. Over the "
    "seeds the mean.",
    "ratio": "The geometric mean over the tasks of the throughput ratio.",
    **{_profile(least): _REACHED for least in PROFILE},
}


@dataclass(frozen=True)
class Tasks:
    """Two or more tasks: a grid of each, and its sessions, or none where a task has none or their baselines differ."""

    grids: Sequence[Grid]
    sessions: Sequence[Sessions]


def gather_tasks(grids: Iterable[Grid], sessions: Mapping[str, Sessions]) -> dict[str, Tasks]:
    """Return the tasks of each condition and protocol that has two or more, each in its latest version.

    `sessions` are those of each table, by `Cell.table_id`.
    """
    alike: dict[str, dict[str, Grid]] = {}
    for grid in sorted(grids, key=lambda grid: grid.task_version or 0):
        condition = msgspec.json.encode((grid.condition, grid.protocol), order="sorted").decode()
        alike.setdefault(condition, {})[spelled(grid.task, grid.task_params)] = grid
    # In the order in which boards show the tasks.
    kept = {
        condition: _of_one_kind([grid for grid in grids if grid in latest.values()])
        for condition, latest in alike.items()
    }
    return {
        condition: Tasks(tasks, _comparable([sessions.get(grid.table_id) for grid in tasks]))
        for condition, tasks in kept.items()
        if len(tasks) > 1
    }


def _of_one_kind(grids: list[Grid]) -> list[Grid]:
    """Return grids that are all reported by the seeds that chose their rates where one of them is."""
    if not any(grid.same_seeds for grid in grids):
        return grids
    return [replace(grid, rows=[replace(row, reads_fresh=False) for row in grid.rows]) for grid in grids]


def _comparable(sessions: Sequence[Sessions | None]) -> list[Sessions]:
    """Return the sessions of each task, or nothing where a task has none, or their baselines differ."""
    measured = [of_task for of_task in sessions if of_task is not None and of_task.figures]
    alike = len(measured) == len(sessions) and len({of_task.baseline for of_task in measured}) == 1
    return measured if alike else []


def aggregate(tasks: Tasks) -> Table:
    """Return the aggregate board of several tasks, its norms by their progress."""
    grids = tasks.grids
    norms, apart = _rows(grids, tasks.sessions)
    rows = ranked([row for row, _ in norms], [means for _, means in norms])
    columns = _columns(grids, tasks.sessions)
    baselines = {grid.baseline for grid in grids}
    warnings = [_SAME_SEEDS] * (bool(rows) and any(grid.same_seeds for grid in grids))
    return Table(
        board="aggregate",
        task=", ".join(f"{spelled(grid.task, grid.task_params)} v{grid.task_version}" for grid in grids),
        condition=grids[0].condition,
        protocol=grids[0].protocol,
        baseline=baselines.pop() if len(baselines) == 1 else "",
        columns=columns,
        rows=rows,
        apart=apart,
        warnings=warnings,
        notes=[*warnings, *_notes(rows, columns, len(grids))],
    )


def _rows(
    grids: Sequence[Grid], timed: Sequence[Sessions]
) -> tuple[list[tuple[TableRow, dict[int, float]]], list[tuple[str, str]]]:
    """Return each norm with results on every task, as a row with its means by seed; and what other norms lack."""
    of_norms: dict[str, dict[str, tuple[Grid, Row]]] = {}
    for grid in grids:
        for row in grid.rows:
            of_norms.setdefault(row.cell.norm_id, {})[grid.table_id] = grid, row
    rows, apart = [], []
    for key, by_table in of_norms.items():
        of_tasks = list(by_table.values())
        label = of_tasks[0][1].label
        lacking = [spelled(grid.task, grid.task_params) for grid in grids if grid.table_id not in by_table]
        progress = {} if lacking else _progress(of_tasks)
        if progress:
            means = {seed: statistics.fmean(values) for seed, values in progress.items()}
            rows.append((_row(label, of_tasks, progress, _ratio(key, timed)), means))
        else:
            apart.append((label, f"lacks {', '.join(lacking)}" if lacking else "no seed has a score on every task"))
    known = {row.norm for row, _ in rows} | {label for label, _ in apart}
    nowhere = {label for grid in grids for label, _ in grid.apart} - known
    return rows, apart + [(label, "lacks every task") for label in sorted(nowhere)]


def _progress(rows: Sequence[tuple[Grid, Row]]) -> dict[int, list[float]]:
    """Return a norm's progress on each task, at each seed that has a score on all of them."""
    of_tasks = [(grid.measure, _reported(row)) for grid, row in rows]
    seeds = set.intersection(*(set(results) for _, results in of_tasks))
    return {
        seed: [measure.progress(results[seed].score or 0.0) for measure, results in of_tasks] for seed in sorted(seeds)
    }


def _reported(row: Row) -> dict[int, Result]:
    """Return the scored results that a row is reported by, each fresh seed by the number of its seed of the grid.

    A task that chooses nothing has no fresh seeds.
    """
    return {seed - FRESH * row.reads_fresh: result for seed, result in row.chosen().items()}


def _areas(rows: Sequence[tuple[Grid, Row]]) -> list[float]:
    """Return for each seed that has a score everywhere the mean over the tasks of its progress over the grid."""
    if any(len(grid.rates) < 2 for grid, _ in rows):
        return []
    areas = []
    for grid, row in rows:
        # Where less is better, a curve's scores are progress already.
        up = grid.measure.direction == "up"
        progress = {
            seed: [grid.measure.progress(score) if up else score for score in curve.scores]
            for seed, curve in curves(grid, row).items()
        }
        areas.append({seed: over_the_grid(scores, grid.rates) for seed, scores in progress.items()})
    seeds = sorted(set.intersection(*map(set, areas)))
    return [statistics.fmean(of_task[seed] for of_task in areas) for seed in seeds]


def _ratio(key: str, timed: Sequence[Sessions]) -> float | None:
    """Return the geometric mean over the tasks of a norm's throughput ratio, where every task has one."""
    figures = [one.figures.get(key) for one in timed]
    ratios = [one.ratio.centre for one in figures if one is not None]
    return math.exp(statistics.fmean(map(math.log, ratios))) if ratios and len(ratios) == len(timed) else None


def _columns(grids: Sequence[Grid], timed: Sequence[Sessions]) -> list[Column]:
    columns = [Column("progress", "progress,\n± or (min…max)", "", 3, "up", ends=True)]
    if all(len(grid.rates) > 1 for grid in grids):
        columns.append(Column("over_the_grid", "over the grid,\n± or (min…max)", "", 3, "up", ends=True))
    if timed:
        columns.append(Column("ratio", f"ratio to\n{visible(timed[0].baseline)}", "", 3, "up"))
    columns += [Column(_profile(least), f"% from\n{least:g}", "%", 0, "up") for least in PROFILE]
    return defined(columns, MEANINGS)


def _row(
    label: str, rows: Sequence[tuple[Grid, Row]], progress: Mapping[int, Sequence[float]], ratio: float | None
) -> TableRow:
    reported = [_reported(row) for _, row in rows]
    all_trained = all(results[seed].trained for results in reported for seed in progress)
    areas = _areas(rows)
    values = {
        "progress": Value.of(over_seeds(map(statistics.fmean, progress.values()), all_trained)),
        "over_the_grid": Value.of(mean_over_seeds(areas)) if areas else Value(),
        "ratio": Value(ratio),
        **{_profile(least): Value(_share(progress, least)) for least in PROFILE},
    }
    failures = sum((row.failures for _, row in rows), Counter())
    same_seeds = ["same-seeds"] * any(grid.same_seeds for grid, _ in rows)
    return TableRow(label, None, len(progress), values, [*same_seeds, *flags_of(values), *failure_flags(failures)])


def _share(progress: Mapping[int, Sequence[float]], least: float) -> float:
    """Return the share of trainings, one per task and seed, whose progress is at least that."""
    # 0.8 in scores may be a hair less in progress.
    return statistics.fmean(
        one > least or math.isclose(one, least) for of_tasks in progress.values() for one in of_tasks
    )


def _notes(rows: Sequence[TableRow], columns: Sequence[Column], tasks: int) -> Iterator[str]:
    yield from seed_note(min((row.seeds for row in rows), default=0))
    yield from rank_notes(rows, "progress")
    if not rows:
        return
    yield (
        f"progress: 0 is chance or worse, 1 the task's reference. The mean over {tasks} tasks, which count equally, "
        "each at the rate chosen on it, over the seeds that have a score on all"
    )
    names = {column.name for column in columns}
    if "over_the_grid" in names:
        yield "over the grid: the mean over the tasks of the progress over the grid, of the stability board's scores"
    if "ratio" in names:
        yield "ratio: the geometric mean over the tasks of the throughput ratio"
    yield "% from .9: the share of trainings, one per task and seed, with progress .9 or more: a performance profile"

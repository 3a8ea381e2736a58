"""The aggregate board: what the norms of several tasks do over all of them, each task counting the same."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from normbench.boards.grid import Grid, Row, seed_note
from normbench.boards.stability import curves, over_the_grid
from normbench.boards.standing import Standing, rank_notes, standings
from normbench.boards.throughput import Joined, joined
from normbench.spelling import spelled
from normbench.stats import mean_over_seeds
from normbench.store.records import SessionRecord
from normbench.tables.table import Column, Table, TableRow, Value, flags_of
from normbench.texts import visible

#: The progress that the columns of the performance profile count trainings from (Agarwal et al. 2021, 2108.13264).
PROFILE = (0.5, 0.8, 0.9, 0.95, 1.0)


@dataclass(frozen=True)
class _Norm:
    """A norm that has results on every task: of each seed with a score on all of them, its progress on each."""

    label: str
    progress: dict[int, list[float]]
    over_the_grid: list[float]
    all_trained: bool
    ratio: float | None
    failures: list[str]

    @property
    def means(self) -> dict[int, float]:
        """The mean over the tasks, by seed."""
        return {seed: statistics.fmean(progress) for seed, progress in self.progress.items()}

    def share(self, least: float) -> float:
        """Return the share of trainings, a task and a seed each, whose progress is so much or more."""
        every = [one for progress in self.progress.values() for one in progress]
        # 0.8 in scores may be a hair less in progress.
        return statistics.fmean(one > least or math.isclose(one, least) for one in every)


def aggregate(
    grids: Sequence[Grid], measured: Mapping[str, Sequence[SessionRecord]], baseline: str | None = None
) -> list[Table]:
    """Return a table for each condition and protocol that two or more tasks share; of a task, its latest version.

    `measured` are the sessions of each table, whose ratios are to `baseline` (left out: to their own).
    """
    alike: dict[bytes, dict[str, Grid]] = {}
    for grid in sorted(grids, key=lambda grid: grid.task_version or 0):
        condition = msgspec.json.encode((grid.condition, grid.protocol), order="sorted")
        alike.setdefault(condition, {})[spelled(grid.task, grid.task_params)] = grid
    # In the order in which boards show the tasks.
    kept = [[grid for grid in grids if grid in found.values()] for found in alike.values()]
    return [_table(found, _joined(found, measured, baseline)) for found in kept if len(found) > 1]


def _joined(
    grids: Sequence[Grid], measured: Mapping[str, Sequence[SessionRecord]], baseline: str | None
) -> list[Joined]:
    """Return the sessions of each task, or nothing where a task has none, or their baselines differ."""
    if not all(grid.table_id in measured for grid in grids):
        return []
    found = [joined(measured[grid.table_id], baseline) for grid in grids]
    return found if len({one.baseline for one in found}) == 1 and all(one.figures for one in found) else []


def _table(grids: Sequence[Grid], timed: Sequence[Joined]) -> Table:
    norms, apart = _norms(grids, timed)
    found = standings([statistics.fmean(norm.means.values()) for norm in norms], [norm.means for norm in norms])
    ordered = sorted(zip(found, norms, strict=True), key=lambda pair: pair[0].rank)
    columns = _columns(grids, timed)
    rows = [_row(norm, standing, columns) for standing, norm in ordered]
    baselines = {grid.baseline for grid in grids}
    return Table(
        board="aggregate",
        task=", ".join(_named(grid) for grid in grids),
        task_version=None,
        task_params={},
        condition=grids[0].condition,
        protocol=grids[0].protocol,
        baseline=baselines.pop() if len(baselines) == 1 else "",
        rates=[],
        columns=columns,
        rows=rows,
        apart=apart,
        notes=list(_notes(rows, columns, len(grids))),
    )


def _named(grid: Grid) -> str:
    return f"{spelled(grid.task, grid.task_params)} v{grid.task_version}"


def _norms(grids: Sequence[Grid], timed: Sequence[Joined]) -> tuple[list[_Norm], list[tuple[str, str]]]:
    """Return the norms that have results on every task, and those that lack one, with what they lack."""
    found: dict[str, dict[int, Row]] = {}
    for i, grid in enumerate(grids):
        for row in grid.rows:
            found.setdefault(row.cell.norm_id, {})[i] = row
    norms, apart = [], []
    for key, rows in found.items():
        label = next(iter(rows.values())).label
        lacking = [spelled(grid.task, grid.task_params) for i, grid in enumerate(grids) if i not in rows]
        norm = None if lacking else _norm(label, [(grid, rows[i]) for i, grid in enumerate(grids)], _ratio(key, timed))
        if norm is not None:
            norms.append(norm)
        else:
            apart.append((label, f"lacks {', '.join(lacking)}" if lacking else "no seed has a score on every task"))
    named = {label for label, _ in apart} | {norm.label for norm in norms}
    nowhere = {label for grid in grids for label, _ in grid.apart} - named
    return norms, apart + [(label, "lacks every task") for label in sorted(nowhere)]


def _norm(label: str, rows: Sequence[tuple[Grid, Row]], ratio: float | None) -> _Norm | None:
    chosen = [row.chosen() for _, row in rows]
    seeds = sorted(set.intersection(*(set(results) for results in chosen)))
    if not seeds:
        return None
    return _Norm(
        label=label,
        progress={
            seed: [
                grid.measure.progress(results[seed].score or 0.0)
                for (grid, _), results in zip(rows, chosen, strict=True)
            ]
            for seed in seeds
        },
        over_the_grid=_areas(rows),
        all_trained=all(results[seed].trained for results in chosen for seed in seeds),
        ratio=ratio,
        failures=[flag for _, row in rows for flag in row.failure_flags],
    )


def _areas(rows: Sequence[tuple[Grid, Row]]) -> list[float]:
    """Return of each seed that has a score everywhere the mean over the tasks of its progress over the grid."""
    if any(len(grid.rates) < 2 for grid, _ in rows):
        return []
    areas = []
    for grid, row in rows:
        # Where less is better a curve is in progress already.
        up = grid.measure.direction == "up"
        progress = {
            seed: [grid.measure.progress(score) if up else score for score in curve.scores]
            for seed, curve in curves(grid, row).items()
        }
        areas.append({seed: over_the_grid(scores, grid.rates) for seed, scores in progress.items()})
    seeds = sorted(set.intersection(*(set(found) for found in areas)))
    return [statistics.fmean(found[seed] for found in areas) for seed in seeds]


def _ratio(key: str, timed: Sequence[Joined]) -> float | None:
    """Return the geometric mean over the tasks of a norm's throughput ratio, where every task has one."""
    figures = [one.figures.get(key) for one in timed]
    ratios = [one.ratio.centre for one in figures if one is not None]
    return math.exp(statistics.fmean(map(math.log, ratios))) if ratios and len(ratios) == len(timed) else None


def _columns(grids: Sequence[Grid], timed: Sequence[Joined]) -> list[Column]:
    columns = [Column("progress", "progress,\n± or (min…max)", "", 3, "up", ends=True)]
    if all(len(grid.rates) > 1 for grid in grids):
        columns.append(Column("over_the_grid", "over the grid,\n± or (min…max)", "", 3, "up", ends=True))
    if timed:
        columns.append(Column("ratio", f"ratio to\n{visible(timed[0].baseline)}", "", 3, "up"))
    return columns + [Column(_profile(least), f"% from\n{least:g}", "%", 0, "up") for least in PROFILE]


def _profile(least: float) -> str:
    return f"from_{100 * least:.0f}"


def _row(norm: _Norm, standing: Standing, columns: Sequence[Column]) -> TableRow:
    means = list(norm.means.values())
    values = {
        "progress": Value.of(mean_over_seeds(means, least=3 if norm.all_trained else len(means) + 1)),
        "over_the_grid": Value.of(mean_over_seeds(norm.over_the_grid)) if norm.over_the_grid else Value(),
        "ratio": Value(norm.ratio),
        **{_profile(least): Value(norm.share(least)) for least in PROFILE},
    }
    values = {column.name: values[column.name] for column in columns}
    flags = [*standing.flags, *flags_of(values), *norm.failures]
    return TableRow(norm.label, standing.rank, len(means), values, flags, standing.ends, standing.group)


def _notes(rows: Sequence[TableRow], columns: Sequence[Column], tasks: int) -> Iterator[str]:
    yield from seed_note(min((row.seeds for row in rows), default=0))
    yield from rank_notes(rows, "progress")
    if not rows:
        return
    yield (
        f"progress: 0 is chance, and below; 1 the task's reference. The mean over {tasks} tasks, each of which counts "
        "the same, at the rate chosen on it, over the seeds that have a score on all"
    )
    names = {column.name for column in columns}
    if "over_the_grid" in names:
        yield "over the grid: the same of the progress over each task's grid of rates"
    if "ratio" in names:
        yield "ratio: the geometric mean over the tasks of the throughput ratio"
    yield "% from .9: the share of trainings (a task and a seed each) with progress .9 or more: a performance profile"

"""Two results folders, row by row: is HEAD worse than BASE by more than a gate allows? See docs/metrics.md."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from normbench.boards.grid import Grid, Row, gather
from normbench.compare.comparison import ComparedRow, Comparison, changes, word_of
from normbench.compare.gates import check, could_be_ok, spreads, weak
from normbench.compare.pairs import Contrast, at_choice, contrasts
from normbench.compare.speeds import TimedRow, timed
from normbench.gates import METRICS, THROUGHPUT, Gate
from normbench.stats.decide import Decision, Gated, decide, interval
from normbench.stats.intervals import Interval
from normbench.store import Store
from normbench.store.records import EnvironmentRecord
from normbench.trials import Measure

#: The metric that rows without numbers stand under.
ACCURACY = METRICS["accuracy"]


@dataclass(frozen=True)
class _Open:
    """One metric of a row of BASE before it is decided."""

    grid: Grid
    row: Row
    contrast: Contrast
    gate: Gate | None


def compare(
    base: Store,
    head: Store,
    gates: dict[str, Gate],
    *,
    looks: Sequence[int] = (),
    unchanged: frozenset[tuple[str, str]] = frozenset(),
) -> Comparison:
    """Compare two stores. Raises UsageError for a gate that the seeds at hand can never fail.

    `looks` are those of `--until decided`. `unchanged` are rows, by `Cell.table_id` and `Cell.norm_id`, whose
    fingerprints are equal: HEAD needs no results there.
    """
    grids, others = gather(base), {grid.table_id: grid for grid in gather(head)}
    rows: list[ComparedRow] = []
    opened: list[_Open] = []
    notes: list[str] = []
    for grid in grids:
        other = others.get(grid.table_id)
        for row in grid.rows:
            if (row.cell.table_id, row.cell.norm_id) in unchanged:
                rows.append(ComparedRow(**_common(grid, row), metric=ACCURACY, word="unchanged"))
                continue
            paired = _paired(row, other, grid.measure, gates)
            if isinstance(paired, str):
                rows.append(ComparedRow(**_common(grid, row), metric=ACCURACY, word="vanished", why=paired))
                continue
            opened += [_Open(grid, row, one, gates.get(one.metric.name)) for one in paired]
            if other is not None and row.rates != other.rates:
                notes.append(f"{row.label!r} on {other.task}: the grids differ; only the chosen rate is compared")
    notes += _chosen_anew(grids, others)
    speeds, lost, said = timed(base, head, gates.get(THROUGHPUT.name))
    timings = sum(not one.identical for one in speeds) if THROUGHPUT.name in gates else 0
    check([(one.contrast, one.grid) for one in opened], gates, looks, timings)
    rows += [one for one in lost if (one.table_id, one.norm_id) not in unchanged]
    notes += [*said, *_environments(base, head), *_other_data(grids, others), *_new(grids, others)]
    rows = _sorted([*rows, *_decided(opened, speeds, gates, looks)])
    return Comparison(
        base=str(base.folder),
        head=str(head.folder),
        gates=gates,
        rows=rows,
        notes=[*notes, *_beyond(rows)],
        warnings=weak([one.contrast for one in opened], gates, timings),
        crashed=sum(grid.crashed for grid in others.values()) + sum(one.crashed for one in lost),
        looks=looks,
    )


def against_baseline(store: Store, gates: dict[str, Gate], looks: Sequence[int], *, only: frozenset[str]) -> Comparison:
    """Compare each norm with the baseline of its table, each at its own choice, as `compare` does two stores."""
    opened = [
        _Open(grid, row, one, gates.get(one.metric.name))
        for grid in gather(store, only)
        for base in [row for row in grid.rows if row.label == grid.baseline][:1]
        for row in grid.rows
        if row is not base
        for one in contrasts(grid.measure, base, row, gates)
    ]
    check([(one.contrast, one.grid) for one in opened], gates, looks)
    return Comparison(
        base="the baseline",
        head=f"each norm in {store.folder}",
        gates=gates,
        rows=_sorted(list(_decided(opened, [], gates, looks))),
        notes=[],
        warnings=weak([one.contrast for one in opened], gates),
        looks=looks,
    )


def _sorted(rows: list[ComparedRow]) -> list[ComparedRow]:
    """Return rows by table, then by metric."""
    order = {table: i for i, table in enumerate(dict.fromkeys(row.table_id for row in rows))}
    metrics = list(METRICS)
    return sorted(rows, key=lambda row: (order[row.table_id], metrics.index(row.metric.name)))


def _paired(row: Row, other: Grid | None, measure: Measure, gates: dict[str, Gate]) -> list[Contrast] | str:
    """Return what a row of BASE and HEAD share at BASE's choice; or, in words, why there is nothing."""
    if other is None:
        return "HEAD has no results of this task version and condition"
    same = _same_norm(row, other)
    if same is None:
        return next((why for norm, why in other.apart if norm == row.label), "HEAD has no results of it")
    assert row.rate is not None
    moved = at_choice(same, row.rate, row.settings[row.setting])
    if moved is None:
        return f"HEAD has no trials at the rate {row.rate:g} that BASE chose"
    return list(contrasts(measure, row, moved, gates)) or "no seed is complete on both sides"


def _same_norm(row: Row, other: Grid) -> Row | None:
    return next((one for one in other.rows if one.cell.norm_id == row.cell.norm_id), None)


def _common(grid: Grid, row: Row) -> dict[str, Any]:
    return {"subject": grid, "table_id": grid.table_id, "norm_id": row.cell.norm_id, "norm": row.label}


def _decided(
    opened: list[_Open], speeds: list[TimedRow], gates: dict[str, Gate], looks: Sequence[int]
) -> Iterator[ComparedRow]:
    """Decide the gated rows together, and describe the others."""
    tests = {id(one): one.contrast.gated(one.gate.margin) for one in opened if one.gate and one.contrast.seeds}
    gate = gates.get(THROUGHPUT.name)
    if gate is not None:
        tests |= {id(one): Gated("mean", [], gate.margin, one.tested) for one in speeds if not one.identical}
    decisions = dict(zip(tests, decide(list(tests.values()), looks), strict=True))
    spread = spreads([one.contrast for one in opened])
    for one in opened:
        yield _row(one, decisions.get(id(one)), spread.get(one.contrast.metric.name))
    for speed in speeds:
        yield _speed(speed, decisions.get(id(speed)), gate)


def _speed(one: TimedRow, decision: Decision | None, gate: Gate | None) -> ComparedRow:
    """Return a row of throughput: its difference is how many per cent faster HEAD is."""
    tested = one.tested
    centre, low, high = (math.expm1(float(end)) for end in (tested.centre, tested.low, tested.high))
    # By the ranks of one session per side: not as wide on both sides, so never written as ±.
    ends = Interval(centre, low, high, "exact" if one.sessions == 1 else "t")
    return ComparedRow(
        **one.common,
        base=one.base,
        head=one.head,
        difference=ends,
        seeds=one.sessions,
        word="identical" if one.identical else word_of(ends, decision),
        p=decision.p if decision else None,
        gate=gate,
        flags=["within-session"] * (one.sessions == 1),
    )


def _row(one: _Open, decision: Decision | None, spread: float | None) -> ComparedRow:
    contrast, differences, test = one.contrast, one.contrast.differences, one.contrast.metric.test
    n = len(differences)
    # A share of failures has them in its number.
    flags = ["failed-seeds"] * (contrast.failed and test != "share")
    shown = contrast.seeds[: decision.seeds if decision else n] or sorted(contrast.base)
    centre = statistics.median_low if test == "median" else statistics.fmean
    ends = decision.interval if decision else interval(test, differences) if n else Interval(0, 0, 0, "t")
    return ComparedRow(
        **_common(one.grid, one.row),
        metric=contrast.metric.words,
        unit=contrast.unit,
        base=centre([contrast.base[seed] for seed in shown]),
        head=centre([contrast.head[seed] for seed in shown]),
        difference=contrast.shown(ends),
        signed=contrast.signed,
        seeds=decision.seeds if decision else n,
        identical=len(contrast.same),
        word=word_of(ends, decision) if n else "identical",
        p=decision.p if decision else None,
        gate=one.gate,
        could_be_ok=one.gate is None or could_be_ok(test, n, one.gate.margin, spread),
        flags=flags,
    )


def _chosen_anew(grids: Sequence[Grid], others: dict[str, Grid]) -> Iterator[str]:
    for grid in grids:
        other = others.get(grid.table_id)
        for row in grid.rows:
            same = _same_norm(row, other) if other else None
            if same is not None and same.rate != row.rate and same.rate is not None and row.rate is not None:
                yield (
                    f"{row.label!r} on {grid.task}: HEAD would choose the rate {same.rate:g}; it is compared at "
                    f"{row.rate:g}, which BASE chose"
                )


def _new(grids: Sequence[Grid], others: dict[str, Grid]) -> Iterator[str]:
    known = {(grid.table_id, row.cell.norm_id) for grid in grids for row in grid.rows}
    known_apart = {(grid.table_id, norm) for grid in grids for norm, _ in grid.apart}
    new = [
        f"{row.label!r} on {grid.task}"
        for grid in others.values()
        for row in grid.rows
        if (grid.table_id, row.cell.norm_id) not in known and (grid.table_id, row.label) not in known_apart
    ]
    if new:
        yield f"in HEAD alone: {', '.join(new)}"


def _beyond(rows: Sequence[ComparedRow]) -> Iterator[str]:
    """Name what is better by more than its margin: a broken measure often looks like that."""
    for row in rows:
        if row.gate is None or row.word != "better" or row.difference is None or row.difference.kind == "min-max":
            continue
        sure = -row.difference.high if row.metric.worse == "+" else row.difference.low
        if sure > row.gate.margin:
            yield (
                f"{row.norm!r} on {row.subject.where}: {row.metric.noun} is better by more than the margin; a broken "
                "measure may look like that"
            )


def _environments(base: Store, head: Store) -> Iterator[str]:
    """Say in what the environments of two stores differ."""
    ours, theirs = (list(store.environments().values()) for store in (base, head))
    if not ours or not theirs:
        return
    changed = changes(_flat(ours[-1]), _flat(theirs[-1]))
    if changed:
        yield f"environments differ: {', '.join(changed)}"
    for store, side in ((base, "BASE"), (head, "HEAD")):
        used = Counter(result.environment for result in store.results())
        if len(used) > 1:
            yield f"{side} has trials of {len(used)} environments"


def _other_data(grids: Sequence[Grid], others: dict[str, Grid]) -> Iterator[str]:
    """Say which tables were trained on different data."""
    for grid in grids:
        other = others.get(grid.table_id)
        if other is not None and grid.data and other.data and grid.data != other.data:
            yield f"{grid.where}: BASE and HEAD were trained on different data; differences say nothing about the code"


def _flat(environment: EnvironmentRecord) -> dict[str, str]:
    rest = msgspec.to_builtins(environment)
    flat = {**rest, **environment.packages}
    return {key: str(value) for key, value in flat.items() if key not in ("schema", "environment", "packages")}

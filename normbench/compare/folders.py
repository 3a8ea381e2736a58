"""Two results folders, row by row: is HEAD worse than BASE by more than a gate allows? docs/metrics.md defines each."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from normbench.boards.grid import Grid, Row, gather
from normbench.compare.comparison import ComparedRow, Comparison, Word, changes
from normbench.compare.gates import check, could_be_ok, in_points, spreads, weak
from normbench.compare.pairs import KINDS, Contrast, at_choice, contrasts
from normbench.compare.speeds import TimedRow, timed
from normbench.gates import METRICS, Gate
from normbench.stats import Interval
from normbench.stats.decide import Decision, Gated, decide, interval
from normbench.store import Store
from normbench.store.records import EnvironmentRecord
from normbench.trials import Measure


@dataclass(frozen=True)
class _Open:
    """A row before it is decided."""

    common: dict[str, Any]
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
    """Compare two stores. Raises UsageError for a gate that the seeds at hand can't carry, with the number it needs.

    `looks` are those of `--until decided`. `unchanged` are rows, by `Cell.table_id` and `Cell.norm_id`, whose
    fingerprints are equal: nothing is asked of HEAD's results there.
    """
    grids, others = gather(base), {grid.table_id: grid for grid in gather(head)}
    rows: list[ComparedRow] = []
    opened: list[_Open] = []
    notes: list[str] = []
    for grid in grids:
        other = others.get(grid.table_id)
        for row in grid.rows:
            common = _common(grid, row)
            if (row.cell.table_id, row.cell.norm_id) in unchanged:
                rows.append(ComparedRow(**common, metric="accuracy", unit="", word="unchanged"))
                continue
            found, why = _paired(row, other, grid.measure, gates)
            if not found:
                rows.append(ComparedRow(**common, metric="accuracy", unit="", word="vanished", why=why))
            opened += _opened(grid, row, found, gates)
            notes += [note for note in [why] if note and found]
    notes += _chosen_anew(grids, others)
    tables = {grid.table_id: grid for grid in grids}
    speeds, lost, said = timed(base, head, gates.get("throughput"))
    timings = sum(not one.identical for one in speeds) if "throughput" in gates else 0
    check([(one.contrast, tables[one.common["table_id"]]) for one in opened], gates, looks, timings)
    rows += [
        ComparedRow(
            subject=one.subject,
            table_id=one.table_id,
            norm_id=one.norm_id,
            norm=one.norm,
            metric="throughput",
            unit="ratio",
            word="vanished",
            why=one.why,
        )
        for one in lost
        if (one.table_id, one.norm_id) not in unchanged
    ]
    rows += _decided(opened, speeds, gates, tables, looks)
    rows = _sorted(rows)
    crashed = sum(grid.crashed for grid in others.values()) + sum(one.crashed for one in lost)
    return Comparison(
        base=str(base.folder),
        head=str(head.folder),
        gates=gates,
        rows=rows,
        notes=[
            *notes,
            *said,
            *_environments(base, head),
            *_other_data(grids, others),
            *_new(grids, others),
            *_beyond(rows),
        ],
        warnings=weak([one.contrast for one in opened], gates, timings),
        crashed=crashed,
        looks=looks,
    )


def against_baseline(store: Store, gates: dict[str, Gate], looks: Sequence[int], *, only: frozenset[str]) -> Comparison:
    """Compare each norm with the baseline of its table, each at its own choice, as `compare` does two stores."""
    grids = {grid.table_id: grid for grid in gather(store, only)}
    opened: list[_Open] = []
    for grid in grids.values():
        base = next((row for row in grid.rows if row.label == grid.baseline), None)
        for row in grid.rows:
            if base is not None and row is not base:
                opened += _opened(grid, row, contrasts(grid.measure, base, row, gates), gates)
    check([(one.contrast, grids[one.common["table_id"]]) for one in opened], gates, looks)
    return Comparison(
        base="the baseline",
        head=f"each norm in {store.folder}",
        gates=gates,
        rows=_sorted(list(_decided(opened, [], gates, grids, looks))),
        notes=[],
        warnings=weak([one.contrast for one in opened], gates),
        looks=looks,
    )


def _sorted(rows: list[ComparedRow]) -> list[ComparedRow]:
    """Return rows by table, then by metric."""
    order = {table: i for i, table in enumerate(dict.fromkeys(row.table_id for row in rows))}
    metrics = list(METRICS)
    return sorted(rows, key=lambda row: (order[row.table_id], metrics.index(row.metric)))


def _paired(row: Row, other: Grid | None, measure: Measure, gates: dict[str, Gate]) -> tuple[list[Contrast], str]:
    """Return what a row of BASE and HEAD share at BASE's choice, or why there is nothing; or a remark on what is."""
    if other is None:
        return [], "HEAD has no results of this task version and condition"
    same = _same_norm(row, other)
    if same is None:
        return [], next((why for norm, why in other.apart if norm == row.label), "HEAD has no results of it")
    assert row.rate is not None
    moved = at_choice(same, row.rate, row.settings[row.setting])
    if moved is None:
        return [], f"HEAD has no trials at the rate {row.rate:g} that BASE chose"
    found = list(contrasts(measure, row, moved, gates))
    if not found:
        return [], "no seed is whole on both sides"
    if row.rates != moved.rates:
        return found, f"{row.label!r} on {other.task}: the grids differ; only the chosen rate is compared"
    return found, ""


def _same_norm(row: Row, other: Grid) -> Row | None:
    return next((found for found in other.rows if found.cell.norm_id == row.cell.norm_id), None)


def _common(grid: Grid, row: Row) -> dict[str, Any]:
    return {"subject": grid, "table_id": grid.table_id, "norm_id": row.cell.norm_id, "norm": row.label}


def _opened(grid: Grid, row: Row, found: Iterable[Contrast], gates: dict[str, Gate]) -> Iterator[_Open]:
    for one in found:
        flags = ["failed-seeds"] * (one.failed and one.metric != "failure_rate")
        yield _Open({**_common(grid, row), "flags": flags}, one, gates.get(one.metric))


def _decided(
    opened: list[_Open],
    speeds: list[TimedRow],
    gates: dict[str, Gate],
    grids: dict[str, Grid],
    looks: Sequence[int],
) -> Iterator[ComparedRow]:
    """Decide the gated rows together, and describe the others."""
    gated = [one for one in opened if one.gate and one.contrast.seeds]
    tests = [one.contrast.gated(_margin(one)) for one in gated]
    gate = gates.get("throughput")
    held = [one for one in speeds if gate and not one.identical]
    tests += [Gated("mean", [], gate.margin, one.tested) for one in held if gate]
    decisions = dict(zip(map(id, [*gated, *held]), decide(tests, looks), strict=True))
    spread = spreads([one.contrast for one in opened])
    for one in opened:
        yield _row(one, decisions.get(id(one)), grids[one.common["table_id"]], spread.get(one.contrast.metric))
    for speed in speeds:
        yield _speed(speed, decisions.get(id(speed)), gate)


def _speed(one: TimedRow, decision: Decision | None, gate: Gate | None) -> ComparedRow:
    """Return a row of throughput: its difference is how many per cent faster HEAD is."""
    tested = one.tested
    centre, low, high = (math.expm1(float(end)) for end in (tested.centre, tested.low, tested.high))
    # Of one session a side by ranks: not as wide on both sides, so never written as ±.
    ends = Interval(centre, low, high, "exact" if one.sessions == 1 else "t")
    word: Word = decision.verdict if decision else "better" if ends.low > 0 else "worse" if ends.high < 0 else "~"
    return ComparedRow(
        subject=one.subject,
        table_id=one.table_id,
        norm_id=one.norm_id,
        norm=one.norm,
        metric="throughput",
        unit="ratio",
        base=one.base,
        head=one.head,
        difference=ends,
        seeds=one.sessions,
        word="identical" if one.identical else word,
        p=decision.p if decision else None,
        gate=gate,
        flags=one.flags,
    )


def _margin(one: _Open) -> float:
    assert one.gate is not None
    return one.gate.margin


def _row(one: _Open, decision: Decision | None, grid: Grid, spread: float | None) -> ComparedRow:
    contrast = one.contrast
    differences, metric = contrast.differences, contrast.metric
    n = len(differences)
    used = contrast.seeds[: decision.seeds] if decision else contrast.seeds
    shown = used or sorted(contrast.base)
    centre = statistics.median_low if metric == "max_trainable_lr" else statistics.fmean
    ends = decision.interval if decision else interval(KINDS[metric], differences) if n else Interval(0, 0, 0, "t")
    return ComparedRow(
        **one.common,
        metric=metric,
        unit=_unit(metric, grid.measure, one.gate),
        base=centre([contrast.base[seed] for seed in shown]),
        head=centre([contrast.head[seed] for seed in shown]),
        difference=_as_shown(ends, contrast),
        signed=_is_signed(contrast),
        seeds=decision.seeds if decision else n,
        identical=len(contrast.same),
        word=_word(decision, ends, n),
        p=decision.p if decision else None,
        gate=one.gate,
        could_be_ok=one.gate is None or could_be_ok(KINDS[metric], n, one.gate.margin, spread),
    )


def _word(decision: Decision | None, ends: Interval, n: int) -> Word:
    if not n:
        return "identical"
    if decision is not None:
        return decision.verdict
    if ends.kind == "min-max" or not (ends.low > 0 or ends.high < 0):
        return "~"
    return "better" if ends.low > 0 else "worse"


def _is_signed(contrast: Contrast) -> bool:
    return contrast.sign < 0 and contrast.metric == "accuracy"


def _as_shown(ends: Interval, contrast: Contrast) -> Interval:
    """Return a difference as its column shows it: HEAD - BASE, but of a score + is better."""
    if contrast.sign > 0 or _is_signed(contrast):
        return ends
    return Interval(0.0 - ends.centre, 0.0 - ends.high, 0.0 - ends.low, ends.kind)


def _unit(metric: str, measure: Measure, gate: Gate | None) -> str:
    if metric == "max_trainable_lr":
        return "step" if gate is None or gate.unit == "step" else "decades"
    if metric == "accuracy":
        return measure.unit
    return "%" if metric == "failure_rate" or in_points(measure) else ""


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
    found = [
        f"{row.label!r} on {grid.task}"
        for grid in others.values()
        for row in grid.rows
        if (grid.table_id, row.cell.norm_id) not in known and (grid.table_id, row.label) not in known_apart
    ]
    if found:
        yield f"in HEAD alone: {', '.join(found)}"


def _beyond(rows: Sequence[ComparedRow]) -> Iterator[str]:
    """Name what is better by more than its margin: a broken measure often looks like that."""
    for row in rows:
        if row.gate is None or row.word != "better" or row.difference is None or row.difference.kind == "min-max":
            continue
        sure = -row.difference.high if METRICS[row.metric].worse == "+" else row.difference.low
        if sure > row.gate.margin:
            noun = METRICS[row.metric].noun
            yield f"{row.norm!r} on {row.where}: {noun} is better by more than the margin; a broken measure may look so"


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
    """Say which tables were trained on other data."""
    for grid in grids:
        other = others.get(grid.table_id)
        if other is not None and grid.data and other.data and grid.data != other.data:
            yield f"{grid.where}: BASE and HEAD were trained on other data; nothing follows of the code"


def _flat(environment: EnvironmentRecord) -> dict[str, str]:
    rest = msgspec.to_builtins(environment)
    flat = {**rest, **environment.packages}
    return {key: str(value) for key, value in flat.items() if key not in ("schema", "environment", "packages")}

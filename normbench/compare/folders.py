"""Two results folders, row by row: is HEAD worse than BASE by more than a gate allows? See docs/metrics.md."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from normbench import gates as gating
from normbench.boards.grid import Grid, Row, gather
from normbench.compare.comparison import ComparedRow, Comparison, Word, word_of
from normbench.compare.gates import check, could_be_ok, spreads, weak
from normbench.compare.notes import beyond, chosen_anew, environments, new, other_data, other_grids, same_seeds
from normbench.compare.pairs import Contrast, at_choice, contrasts, own_code, same_norm
from normbench.compare.rounding import Steps, steps
from normbench.compare.speeds import TimedRow, timed
from normbench.gates import METRICS, THROUGHPUT, Gate
from normbench.stats.decide import Decision, Gated, decide, interval
from normbench.stats.intervals import Interval
from normbench.store import Store

#: The metric that rows without numbers stand under.
ACCURACY = METRICS["accuracy"]


@dataclass(frozen=True)
class _Open:
    """One metric of a row of BASE before it is decided. `own_code`: HEAD ran the same code with nothing changed."""

    grid: Grid
    row: Row
    contrast: Contrast
    gate: Gate | None
    own_code: bool = False

    @property
    def same_seeds(self) -> bool:
        """Whether the seeds are those that chose BASE's rate."""
        tuned = self.row.cell.chooses and self.grid.protocol == "tuned"
        return tuned and self.contrast.metric.is_score and not self.contrast.fresh


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
    opened, rows = [], []
    for grid in grids:
        other = others.get(grid.table_id)
        rounded = steps(grid, *([other] if other else []))
        for row in grid.rows:
            if row.cell.row_id in unchanged:
                rows.append(ComparedRow(**_common(grid, row), metric=ACCURACY, word="unchanged"))
                continue
            shared, vanished = _held(grid, row, other, gates, rounded)
            opened += shared
            rows += vanished
    notes = [*same_seeds([one.row for one in opened if one.same_seeds], base, head)]
    notes += [*other_grids(grids, others), *chosen_anew(grids, others)]
    speeds, lost, said = timed(base, head, gates.get(THROUGHPUT.name))
    timings = sum(not one.identical for one in speeds) if THROUGHPUT.name in gates else 0
    check([(one.contrast, one.grid) for one in opened], gates, looks, timings)
    rows += [one for one in lost if (one.table_id, one.norm_id) not in unchanged]
    notes += [*said, *environments(base, head), *other_data(grids, others), *new(grids, others)]
    rows = _sorted([*rows, *_decided(opened, speeds, gates, looks)])
    same, warned = _own_code(opened)
    return Comparison(
        base=str(base.folder),
        head=str(head.folder),
        gates=gates,
        rows=rows,
        notes=[*notes, *same, *beyond(rows)],
        warnings=[*warned, *_weak(opened, gates, rows, timings)],
        crashed=sum(grid.crashed for grid in others.values()) + sum(one.crashed for one in lost),
        looks=looks,
    )


def gates_of(base: Store, head: Store, given: Mapping[str, str]) -> dict[str, Gate]:
    """Return the gates of the suite that HEAD ran last (else BASE), with those that are given in their place."""
    ran = head.runs() or base.runs()
    return gating.gates(gating.replaced(ran[-1].suite.get("gate", {}) if ran else {}, given), "gate")


def against_baseline(store: Store, gates: dict[str, Gate], looks: Sequence[int], *, only: frozenset[str]) -> Comparison:
    """Compare each norm with the baseline of its table, each at its own choice, as `compare` does two stores."""
    opened = [
        _Open(grid, row, one, gates.get(one.metric.name))
        for grid in gather(store, only)
        for rounded in [steps(grid)]
        for base in [row for row in grid.rows if row.label == grid.baseline][:1]
        for row in grid.rows
        if row is not base
        for one in contrasts(grid.measure, base, row, gates, rounded)
    ]
    check([(one.contrast, one.grid) for one in opened], gates, looks)
    rows = _sorted(list(_decided(opened, [], gates, looks)))
    return Comparison(
        base="the baseline",
        head=f"each norm in {store.folder}",
        gates=gates,
        rows=rows,
        notes=[],
        warnings=list(_weak(opened, gates, rows)),
        looks=looks,
    )


def _sorted(rows: list[ComparedRow]) -> list[ComparedRow]:
    """Return rows by table, then by metric."""
    order = {table: i for i, table in enumerate(dict.fromkeys(row.table_id for row in rows))}
    metrics = list(METRICS)
    return sorted(rows, key=lambda row: (order[row.table_id], metrics.index(row.metric.name)))


def _held(
    grid: Grid, row: Row, other: Grid | None, gates: dict[str, Gate], rounded: Steps
) -> tuple[list[_Open], list[ComparedRow]]:
    """Return the metrics that a row of BASE shares with HEAD, and what vanished."""
    moved = _moved(row, other)
    if other is None or isinstance(moved, str):
        return [], list(_vanished(grid, row, moved, [], gates))
    paired = list(contrasts(grid.measure, row, moved, gates, rounded))
    ran = own_code(row, moved)
    opened = [_Open(grid, row, one, gates.get(one.metric.name), ran) for one in paired]
    return opened, list(_vanished(grid, row, moved, paired, gates))


def _moved(row: Row, other: Grid | None) -> Row | str:
    """Return HEAD's row of a norm of BASE, at BASE's choice; or, in words, why there is none."""
    if other is None:
        return "HEAD has no results of this task version and condition"
    same = same_norm(row, other)
    if same is None:
        return next((why for norm, why in other.apart if norm == row.label), "HEAD has no results of it")
    assert row.rate is not None
    moved = at_choice(same, row.rate, row.settings[row.setting])
    return moved or f"HEAD has no trials at the rate {row.rate:g} that BASE chose"


def _vanished(
    grid: Grid, row: Row, moved: Row | str, paired: list[Contrast], gates: dict[str, Gate]
) -> Iterator[ComparedRow]:
    """Yield what a norm of BASE has and HEAD has not: the norm as a whole, or metrics that a gate holds."""
    held = [name for name in gates if name != THROUGHPUT.name]
    if not paired:
        why = moved if isinstance(moved, str) else "no seed is complete on both sides"
        name = held[0] if held else ACCURACY.name
        yield ComparedRow(**_common(grid, row), metric=METRICS[name], word="vanished", gate=gates.get(name), why=why)
        return
    assert isinstance(moved, Row)
    left = set(held) - {one.metric.name for one in paired}
    for one in contrasts(grid.measure, row, row, gates) if left else ():
        if one.metric.name in left:
            why = "the grids of BASE and HEAD differ" if row.rates != moved.rates else "no seed has it on both sides"
            said = f"{one.metric.words.noun} can't be compared: {why}"
            gate = gates[one.metric.name]
            yield ComparedRow(**_common(grid, row), metric=one.metric.words, word="vanished", gate=gate, why=said)


def _own_code(opened: Sequence[_Open]) -> tuple[list[str], list[str]]:
    """Return a note and a warning on gated norms of which HEAD ran BASE's own code: where all did, nothing is tested.

    That some did is usual: a change edits one layer of several, and another may be there as a control.
    """
    gated = [one for one in opened if one.gate is not None]
    same = list(dict.fromkeys(repr(one.row.label) for one in gated if one.own_code))
    said = f"HEAD ran BASE's own code of {', '.join(same)}, on the same data in the same environment"
    if not same:
        return [], []
    if any(not one.own_code for one in gated):
        return [f"{said}: nothing changed there"], []
    return [], [
        f"{said}: nothing changed, so nothing can be found; was a checkout compared with itself, or HEAD's package not "
        "installed?"
    ]


def _weak(
    opened: Sequence[_Open], gates: dict[str, Gate], rows: Sequence[ComparedRow], timings: int = 0
) -> Iterator[str]:
    return weak([one.contrast for one in opened], gates, [row for row in rows if row.word == "unclear"], timings)


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
        yield _row(one, decisions.get(id(one)), spread.get(one.contrast.metric.name), len(looks))
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


def _row(one: _Open, decision: Decision | None, spread: float | None, looks: int) -> ComparedRow:
    contrast, differences, test = one.contrast, one.contrast.differences, one.contrast.metric.test
    n = len(differences)
    # A share of failures has them in its number.
    flags = ["failed-seeds"] * (contrast.failed and test != "share") + ["same-seeds"] * one.same_seeds
    seen = contrast.seeds[: decision.seeds if decision else n]
    shown = seen or sorted(contrast.base)
    centre = statistics.median_low if test == "median" else statistics.fmean
    none = Interval(0, 0, 0, "t")
    ends = decision.interval if decision else interval(test, differences, least=contrast.least) if n else none
    word: Word = word_of(ends, decision) if n else "identical"
    if word == "better" and contrast.hides_a_fall(shown):
        word = "ok" if decision else "~"
    nearly = decision is not None and decision.nearly and word == "unclear"
    told = decision is not None and (decision.failed or nearly)
    enough = nearly or (
        one.gate is not None and could_be_ok(test, n, one.gate.margin, spread, contrast.least, max(1, looks))
    )
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
        word=word,
        p=decision.p if decision else None,
        gate=one.gate,
        could_be_ok=word != "unclear" or enough,
        flags=flags,
        why=contrast.failures(len(seen)) if told else "",
        stopped=looks > 0 and decision is not None and word != "unclear",
    )

"""How often gates would err on results like those of a folder: simulated with its spread, and on its own seeds.

A/A: two groups of the folder's own seeds are compared as if they were BASE and HEAD. Nothing differs but the seed, so
each row that is called regressed is a false alarm.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from normbench.boards.grid import Grid, gather
from normbench.compare.gates import check_units
from normbench.compare.metrics import METRICS
from normbench.compare.pairs import Contrast, contrasts
from normbench.compare.rounding import steps
from normbench.compare.simulate import OK, REGRESSED, Group, Rate, any_regressed, called, normal, shifted, verdicts
from normbench.errors import UsageError
from normbench.gates import Gate
from normbench.stats.verdicts import Floats
from normbench.store import Store
from normbench.tables.table import Column, Table, TableRow, Value

SEEDS = (3, 5, 8, 10, 20)


@dataclass(frozen=True)
class _Rows:
    """The rows that one gate applies to: each seed's value, + is better, and whether it trained, shape (rows, seeds).

    `least` is the variance of a difference by rounding alone, for each row.
    """

    gate: Gate
    values: Floats
    trained: NDArray[np.bool_]
    least: Floats

    def group(self, base: NDArray[np.int_], head: NDArray[np.int_]) -> Group:
        """Return what is decided where these seeds, shape (repetitions, seeds), are BASE's and HEAD's."""
        differences = np.stack([row[head] - row[base] for row in self.values], axis=1)
        fails = 1 - self.trained.astype(np.int8)
        before, after = (np.stack([row[side] for row in fails], axis=1) for side in (base, head))
        kind = METRICS[self.gate.metric].test
        return Group(kind, differences, self.gate.margin, self.least, lost=after - before, before=before)


def calibrate(store: Store, gates: dict[str, Gate], *, repetitions: int = 10_000, seed: int = 0) -> list[Table]:
    """Return one simulated table per gate on a mean, and one of the folder's own seeds for all gates together.

    Raises UsageError where no norm has 2 seeds, and without a gate.
    """
    if not gates:
        raise UsageError("no gate: --fail 'accuracy:-0.5pt', or [gate] in the suite, says what to calibrate")
    grids = gather(store)
    gated = [rows for rows in (_values(grids, gate) for gate in gates.values()) if rows is not None]
    if not gated:
        raise UsageError(f"{store.folder}: no gate has a norm there with 2 seeds or more")
    many = sum(len(rows.values) for rows in gated)
    means = [rows for rows in gated if METRICS[rows.gate.metric].test == "mean"]
    own = _resampled(gated, repetitions, seed)
    return [*(_simulated(rows, many, repetitions, seed) for rows in means), *([own] if own else [])]


def _values(grids: Sequence[Grid], gate: Gate) -> _Rows | None:
    """Return a metric's values of every norm of every table, over the seeds that all of them have."""
    if gate.metric not in METRICS:
        return None
    rows: list[Contrast] = []
    for grid in grids:
        check_units(gate, grid)
        rounded = steps(grid)
        for row in grid.rows:
            found = contrasts(grid.measure, row, row, {gate.metric: gate}, rounded)
            rows += [one for one in found if one.metric.name == gate.metric and len(one.base) > 1]
    shared = sorted(set.intersection(*(set(row.base) for row in rows))) if rows else []
    if len(shared) < 2:
        return None
    values = np.array([[row.sign * row.base[seed] for seed in shared] for row in rows])
    trained = np.array([[row.before[seed].trains for seed in shared] for row in rows])
    return _Rows(gate, values, trained, np.array([row.least for row in rows]))


_COLUMNS = [
    Column("alarm_0", "false alarms,\nno loss, %", "%", 1, "down"),
    Column("alarm_half", "false alarms,\nloss of m/2, %", "%", 1, "down"),
    Column("wrong_ok", "wrong ok,\nloss of m, %", "%", 1, "down"),
    Column("power", "power, loss\nof 2m, %", "%", 1, "up"),
    Column("ok", "ok, no\nloss, %", "%", 1, "up"),
]


def _simulated(rows: _Rows, many: int, repetitions: int, seed: int) -> Table:
    margin = rows.gate.margin
    # Two trainings that differ in one bit soon differ as those of two seeds do.
    spread = math.sqrt(2) * statistics.median(rows.values.std(1, ddof=1).tolist())
    lines = []
    for n in SEEDS:
        draw = partial(
            shifted,
            normal,
            seeds=n,
            rows=many,
            spread=spread,
            margin=margin,
            least=statistics.median(rows.least.tolist()),
            repetitions=repetitions,
            seed=seed,
        )
        none, half, whole, two = draw(loss=0), draw(loss=0.5), draw(loss=1), draw(loss=2, one=True)
        power = called(two, REGRESSED, slice(0, 1))
        rates = [any_regressed(none), any_regressed(half), called(whole, OK), power, called(none, OK)]
        lines.append(_line(f"{n} seeds", n, rates))
    notes = [
        f"simulated: {repetitions} comparisons per line, differences vary normally by {_spelled(spread, rows.gate)} "
        f"(the median of {len(rows.values)} rows here, times √2), {many} gated rows; the shares' own error is at most "
        f"±{100 * 1.96 * math.sqrt(0.25 / repetitions):.1f}, ±{100 * 1.96 * math.sqrt(0.05 * 0.95 / repetitions):.1f} "
        "at 5%",
        "false alarms: comparisons with any row called regressed. wrong ok: rows called ok. power: of one row that "
        "alone lost 2m, called regressed. the gate promises at most 5% in the first three",
    ]
    return _table(str(rows.gate), lines, notes)


def _resampled(gated: Sequence[_Rows], repetitions: int, seed: int) -> Table | None:
    """Return the verdicts on two groups of the folder's own seeds; None where there are too few."""
    most = min(rows.values.shape[1] for rows in gated)
    rng = np.random.default_rng(seed)
    lines = []
    for n in [n for n in SEEDS if 2 * n <= most]:
        order = rng.permuted(np.tile(np.arange(most), (repetitions, 1)), axis=1)[:, : 2 * n]
        drawn = [rows.group(order[:, :n], order[:, n:]) for rows in gated]
        none, half, whole = (_verdicts(drawn, loss) for loss in (0.0, 0.5, 1.0))
        rates = [any_regressed(none), any_regressed(half), called(whole, OK), _power(drawn), called(none, OK)]
        lines.append(_line(f"{n} seeds", n, rates))
    if not lines:
        return None
    gates = ", ".join(str(rows.gate) for rows in gated)
    notes = [
        f"A/A: {repetitions} draws of two groups from the {most} seeds of this folder, {gates}, "
        f"{sum(len(rows.values) for rows in gated)} gated rows. The draws share seeds, so that the shares are less "
        "precise than those of as many independent draws",
        "the losses are taken from every gated score of HEAD (power: from one row); counts of rates and failures are "
        "left as they are, and stand in the first column alone",
    ]
    return _table("A/A on the folder's own seeds", lines, notes)


def _verdicts(drawn: Sequence[Group], loss: float) -> NDArray[np.int8]:
    """Return the verdicts where each row of means loses so many margins; other rows take part only without a loss."""
    if not loss:
        return verdicts(drawn)
    lost = [replace(one, differences=one.differences - loss * one.margin) for one in drawn if one.kind == "mean"]
    return verdicts(lost) if lost else np.zeros((1, 1), dtype=np.int8)


def _power(drawn: Sequence[Group]) -> Rate:
    """Return how often a row that alone lost 2 margins is called regressed, over the rows of means."""
    shares = []
    place = 0
    for i, one in enumerate(drawn):
        for row in range(one.differences.shape[1]):
            if one.kind == "mean":
                lost = one.differences.copy()
                lost[:, row] -= 2 * one.margin
                changed = [*drawn[:i], replace(one, differences=lost), *drawn[i + 1 :]]
                shares.append(called(verdicts(changed), REGRESSED, slice(place, place + 1)).share)
            place += 1
    return Rate(statistics.fmean(shares) if shares else 0.0, len(drawn[0].differences))


def _line(name: str, seeds: int, rates: Sequence[Rate]) -> TableRow:
    values = {column.name: Value(rate.share) for column, rate in zip(_COLUMNS, rates, strict=True)}
    return TableRow(name, None, seeds, values)


def _spelled(spread: float, gate: Gate) -> str:
    return f"{100 * spread:.2f} points" if gate.unit == "pt" else f"{spread:.3g}"


def _table(of: str, rows: list[TableRow], notes: list[str]) -> Table:
    return Table(board=f"calibrate · {of}", task="all tasks", columns=_COLUMNS, rows=rows, notes=notes, noun="per side")

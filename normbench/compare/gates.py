"""Whether the seeds at hand are enough: a gate that can never fail is refused, and a warning names a weak one."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from itertools import pairwise

from normbench.boards.grid import Grid
from normbench.compare.comparison import ComparedRow
from normbench.compare.metrics import METRICS
from normbench.compare.pairs import Contrast
from normbench.errors import UsageError
from normbench.gates import Gate
from normbench.stats.decide import Kind
from normbench.stats.verdicts import ALPHA, mean_test, power, seeds_for_power, seeds_for_sign_test, seeds_to_decide

#: More seeds than this nobody trains: it is the margin that is too small.
MANY = 1000


def check(
    rows: Sequence[tuple[Contrast, Grid]], gates: dict[str, Gate], looks: Sequence[int], timings: int = 0
) -> None:
    """Refuse a gate that no row has enough seeds to fail, or whose unit is not that of a task's score.

    `timings` is how many rows of throughput are gated as well. Raises UsageError.
    """
    gated = [contrast for contrast, _ in rows if contrast.metric.name in gates and contrast.seeds]
    many = len(gated) + timings
    for name, gate in gates.items():
        for contrast, grid in rows:
            if contrast.metric.name == name:
                check_units(gate, grid)
        paired = [len(contrast.base) for contrast in gated if contrast.metric.name == name]
        if not paired:
            continue
        # Identical seeds count: that they leave too few to test is no mistake of the gate's.
        most = max([*paired, *looks])
        mean = METRICS[name].test == "mean"
        needed = 2 if mean else seeds_for_sign_test(many)
        if most < needed:
            why = "a t test" if mean else f"with {many} gated row{'s' * (many != 1)} a sign test"
            fresh = "fresh " * any(contrast.fresh for contrast in gated if contrast.metric.name == name)
            seeds = f"{most} {fresh}seed{'s' * (most != 1)}"
            raise UsageError(f"gate {gate}: {seeds} can never fail it; {why} needs {needed}")


def check_units(gate: Gate, grid: Grid) -> None:
    """Refuse a margin whose unit is not that of a task's score, or that nothing could lose. Raises UsageError."""
    metric, measure = METRICS[gate.metric], grid.measure
    percent = metric.unit(measure, gate) == "%"
    if metric.test == "mean" and (gate.unit == "pt") != percent:
        own = measure.unit or "its own unit" if metric.is_score or measure.direction == "up" else "progress"
        like = "in percentage points, like 0.5pt" if percent else f"a number, in {own}"
        raise UsageError(f"gate {gate}: the margin on {grid.task} is {like}")
    if (gate.unit == "step" and gate.margin > len(grid.rates)) or (metric.test == "share" and gate.margin > 1):
        raise UsageError(f"gate {gate}: nothing on {grid.task} can lose so much; its grid has {len(grid.rates)} rates")
    if gate.unit == "dec" and len(grid.rates) > 1:
        step = min(math.log10(high / low) for low, high in pairwise(grid.rates))
        if gate.margin > step + 1e-9:
            raise UsageError(
                f"gate {gate}: the smallest step of the grid of {grid.task} is {step:.3f} decades; a margin in decades "
                "is no larger. Write it in steps, like -1step"
            )


def weak(
    contrasts: Sequence[Contrast], gates: dict[str, Gate], unclear: Sequence[ComparedRow], timings: int = 0
) -> Iterator[str]:
    """Say of gates on means that left rows unclear what so few seeds see at BASE's spread, and how many would decide.

    `timings` is how many rows of throughput are gated as well.
    """
    count = sum(contrast.metric.name in gates and bool(contrast.seeds) for contrast in contrasts) + timings
    spread = spreads(contrasts)
    for name, gate in gates.items():
        left = [row for row in unclear if row.metric.name == name]
        if not left or METRICS[name].test != "mean" or name not in spread:
            continue
        n = min(row.seeds for row in left)
        chance = power(spread[name], gate.margin, n, count)
        if chance < 0.5:
            needed = seeds_for_power(spread[name], gate.margin, count)
            many = f"{count} gated row{'s' * (count != 1)}"
            yield (
                f"gate {gate}: with {many}, {n} seed{'s' * (n != 1)} see a loss of twice the margin in "
                f"{100 * chance:.0f}% of cases; {_about(needed)} would see it in half"
            )
        none, lost = (seeds_to_decide(spread[name], gate.margin, loss=loss) for loss in (False, True))
        if n < none:
            rows = f"{len(left)} row{'s are' if len(left) != 1 else ' is'} unclear"
            loss = "" if none > MANY else f" if nothing changed, {_about(lost)} if the loss is the margin"
            yield f"gate {gate}: {rows}; {_about(none)} would decide{loss}"


def _about(seeds: int) -> str:
    """Return a number of seeds that a person can use: exactly it never is."""
    if seeds > MANY:
        return f"more than {MANY:,} seeds (the margin is too small for this spread)"
    step = 1 if seeds <= 20 else 5 if seeds <= 100 else 50
    return f"about {math.ceil(seeds / step) * step} seeds"


def could_be_ok(kind: Kind, n: int, margin: float, spread: float | None, least: float, looks: int = 1) -> bool:
    """Whether so many seeds could show a row ok at one of so many looks, where nothing changed.

    `spread` is that of the differences, `least` their variance by rounding alone.
    """
    alpha = ALPHA / looks
    if kind != "mean":
        return n >= seeds_for_sign_test(alpha=alpha)
    if n < 2 or spread is None:
        return False
    # n values whose mean is 0 and whose standard deviation is the spread
    edge = spread * math.sqrt((n - 1) / 2)
    centred = mean_test([edge, -edge, *[0.0] * (n - 2)], margin, alpha, least)
    return float(centred.high) < margin


def spreads(contrasts: Sequence[Contrast]) -> dict[str, float]:
    """Return the standard deviation that each metric's differences have if nothing changed: from BASE's median row.

    Two trainings that differ in one bit soon differ as those of two seeds do.
    """
    of_rows: dict[str, list[float]] = {}
    for contrast in contrasts:
        if len(contrast.base) > 1:
            of_rows.setdefault(contrast.metric.name, []).append(statistics.stdev(contrast.base.values()))
    return {name: math.sqrt(2) * statistics.median(each) for name, each in of_rows.items()}

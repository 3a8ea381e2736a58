"""What the seeds at hand can carry: gates that no row's seeds could ever decide are refused, weak ones warned of."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from itertools import pairwise

from normbench.boards.grid import Grid
from normbench.compare.pairs import KINDS, Contrast
from normbench.errors import UsageError
from normbench.gates import Gate
from normbench.stats.verdicts import mean_test, power, seeds_for_power, seeds_for_sign_test, seeds_to_decide
from normbench.trials import Measure


def check(
    rows: Sequence[tuple[Contrast, Grid]], gates: dict[str, Gate], looks: Sequence[int], timings: int = 0
) -> None:
    """Refuse a gate that no row's seeds can carry, or whose unit is not that of a task's score. Raises UsageError.

    `timings` are rows of throughput that are gated beside them.
    """
    gated = [(contrast, grid) for contrast, grid in rows if contrast.metric in gates and contrast.seeds]
    many = len(gated) + timings
    for metric, gate in gates.items():
        for grid in [grid for contrast, grid in rows if contrast.metric == metric]:
            check_units(gate, grid)
        found = [(contrast, grid) for contrast, grid in gated if contrast.metric == metric]
        if not found:
            continue
        # Seeds that came out the same count: that they leave too few to test is no mistake of the gate's.
        most = max([len(contrast.base) for contrast, _ in found] + list(looks))
        needed = 2 if KINDS[metric] == "mean" else seeds_for_sign_test(many)
        if most < needed:
            why = "a t test" if KINDS[metric] == "mean" else f"{many} gated row{'s' * (many != 1)}"
            raise UsageError(
                f"gate {gate}: {most} seed{'s' * (most != 1)} can't carry it; with {why} it needs {needed} seeds"
            )


def check_units(gate: Gate, grid: Grid) -> None:
    """Refuse a margin whose unit is not that of a task's score, or wider than the grid tells. Raises UsageError."""
    percent = grid.measure.unit == "%" if gate.metric == "accuracy" else in_points(grid.measure)
    if gate.metric in ("accuracy", "over_the_grid", "sensitivity") and (gate.unit == "pt") != percent:
        unit = grid.measure.unit or "its own unit"
        own = unit if gate.metric == "accuracy" or grid.measure.direction == "up" else "progress"
        like = "in percentage points, like 0.5pt" if percent else f"a number, in {own}"
        raise UsageError(f"gate {gate}: the margin on {grid.task} is {like}")
    if (gate.unit == "step" and gate.margin > len(grid.rates)) or (gate.metric == "failure_rate" and gate.margin > 1):
        raise UsageError(f"gate {gate}: nothing on {grid.task} can lose so much; its grid has {len(grid.rates)} rates")
    if gate.unit == "dec" and len(grid.rates) > 1:
        step = min(math.log10(high / low) for low, high in pairwise(grid.rates))
        if gate.margin > step + 1e-9:
            raise UsageError(
                f"gate {gate}: the smallest step of the grid of {grid.task} is {step:.3f} decades; a margin in decades "
                "is no larger. Write it in steps, like -1step"
            )


def in_points(measure: Measure) -> bool:
    """Whether a mean over the grid is in percentage points: of a score that is better the lower it is in progress."""
    return measure.unit == "%" and measure.direction == "up"


def weak(contrasts: Sequence[Contrast], gates: dict[str, Gate], timings: int = 0) -> list[str]:
    """Warn of gates on means that miss a loss of two margins more often than not, at BASE's spread over the seeds."""
    found = []
    gated = [contrast for contrast in contrasts if contrast.metric in gates and contrast.seeds]
    spread = spreads(contrasts)
    rows_held = len(gated) + timings
    many = f"{rows_held} gated row{'s' * (rows_held != 1)}"
    for metric, gate in gates.items():
        rows = [contrast for contrast in gated if contrast.metric == metric]
        own = [statistics.stdev(one.base.values()) for one in rows if len(one.base) > 1]
        if KINDS.get(metric) != "mean" or not own:
            continue
        n = min(len(one.seeds) for one in rows)
        # Two trainings that differ in one bit soon differ as those of two seeds do.
        unpaired = 2**0.5 * statistics.median(own)
        chance = power(unpaired, gate.margin, n, rows_held)
        if chance < 0.5:
            needed = seeds_for_power(unpaired, gate.margin, rows_held)
            found.append(
                f"gate {gate}: with {many}, {n} seeds see a loss of twice the margin in {100 * chance:.0f}% of cases; "
                f"about {needed} seeds see it in half"
            )
        if spread.get(metric):
            none, lost = (seeds_to_decide(spread[metric], gate.margin, loss=loss) for loss in (False, True))
            if n < none:
                found.append(f"gate {gate}: decided by about {none} seeds if nothing changed, {lost} if it was lost")
    return found


def could_be_ok(kind: str, n: int, margin: float, spread: float | None) -> bool:
    """Whether so many seeds could show a row ok where nothing changed; `spread` is the metric's median one."""
    if kind != "mean":
        return n >= seeds_for_sign_test()
    if n < 2 or spread is None:
        return False
    # n values whose mean is 0 and whose standard deviation is the spread
    edge = spread * math.sqrt((n - 1) / 2)
    centred = mean_test([edge, -edge, *[0.0] * (n - 2)], margin)
    return float(centred.high) < margin


def spreads(contrasts: Sequence[Contrast]) -> dict[str, float]:
    """Return each metric's median standard deviation of the differences, over its rows."""
    found: dict[str, list[float]] = {}
    for contrast in contrasts:
        if len(contrast.differences) > 1:
            found.setdefault(contrast.metric, []).append(statistics.stdev(contrast.differences))
    return {metric: statistics.median(each) for metric, each in found.items()}

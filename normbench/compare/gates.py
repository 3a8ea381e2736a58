"""Whether the seeds at hand are enough: a gate that can never fail is refused, and a warning names a weak one."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from itertools import pairwise

from normbench.boards.grid import Grid
from normbench.compare.metrics import METRICS
from normbench.compare.pairs import Contrast
from normbench.errors import UsageError
from normbench.gates import Gate
from normbench.stats.verdicts import mean_test, power, seeds_for_power, seeds_for_sign_test, seeds_to_decide


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
            raise UsageError(f"gate {gate}: {most} seed{'s' * (most != 1)} can never fail it; {why} needs {needed}")


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


def weak(contrasts: Sequence[Contrast], gates: dict[str, Gate], timings: int = 0) -> list[str]:
    """Warn of gates on means that miss a loss of two margins more often than not, at BASE's spread over the seeds."""
    warnings = []
    gated = [contrast for contrast in contrasts if contrast.metric.name in gates and contrast.seeds]
    spread = spreads(contrasts)
    count = len(gated) + timings
    many = f"{count} gated row{'s' * (count != 1)}"
    for name, gate in gates.items():
        rows = [contrast for contrast in gated if contrast.metric.name == name]
        own = [statistics.stdev(one.base.values()) for one in rows if len(one.base) > 1]
        if not own or METRICS[name].test != "mean":
            continue
        n = min(len(one.seeds) for one in rows)
        # Two trainings that differ in one bit soon differ as those of two seeds do.
        unpaired = 2**0.5 * statistics.median(own)
        chance = power(unpaired, gate.margin, n, count)
        if chance < 0.5:
            needed = seeds_for_power(unpaired, gate.margin, count)
            warnings.append(
                f"gate {gate}: with {many}, {n} seeds see a loss of twice the margin in {100 * chance:.0f}% of cases; "
                f"about {needed} seeds see it in half"
            )
        if spread.get(name):
            none, lost = (seeds_to_decide(spread[name], gate.margin, loss=loss) for loss in (False, True))
            if n < none:
                warnings.append(
                    f"gate {gate}: about {none} seeds decide it if nothing changed, {lost} if the loss is the margin"
                )
    return warnings


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
    of_rows: dict[str, list[float]] = {}
    for contrast in contrasts:
        if len(contrast.differences) > 1:
            of_rows.setdefault(contrast.metric.name, []).append(statistics.stdev(contrast.differences))
    return {name: statistics.median(each) for name, each in of_rows.items()}

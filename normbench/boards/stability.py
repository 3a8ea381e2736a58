"""The stability board: what a norm does over the grid of rates. Each column is computed on each seed's own curve."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from normbench.boards.grid import Grid, Row, failure_flags, seed_note
from normbench.boards.standing import rank_notes, ranked
from normbench.stats.intervals import mean_over_seeds, median_of
from normbench.tables.table import Column, Table, TableRow, Value, defined, flags_of
from normbench.trials import OUTCOMES, SOME_TRAINED, Measure

LEGEND = (
    f"{OUTCOMES['trained'].mark} all seeds trained, {SOME_TRAINED} some, {OUTCOMES['not-trained'].mark} none, "
    f"{OUTCOMES['diverged'].mark} none and one or more diverged"
)

#: "range" is where the score stays within this share of (mean score at the chosen rate - chance).
WITHIN = 0.1

#: What each column is: docs/metrics.md begins with the same words.
MEANINGS = {
    "strip": f"One mark per rate: {LEGEND}. ?: no seed has a score.",
    "over_the_grid": "The mean score over the grid of rates: the area under straight lines between the rates, in "
    "decades, divided by the grid's width. Over the seeds the mean.",
    "trains_up_to": "The highest rate that can be reached from the chosen one without passing a rate that did not "
    "train. Over the seeds the median.",
    "range": "The width in decades of the range of rates around the chosen one, without gaps, where the score stays "
    f"within {WITHIN:.0%} of (mean score at the chosen rate − chance). Over the seeds the median.",
    "sensitivity": "The score at the chosen rate minus the score over the grid: 0 where the rate does not matter. "
    "Over the seeds the mean.",
}


@dataclass(frozen=True)
class Curve:
    """One seed's scores over the grid, in units where more is better, and whether each rate trained.

    The scores are those that choices are made on: the test split is read at the chosen rate alone.
    """

    scores: list[float]
    trained: list[bool]


@dataclass(frozen=True)
class Decades:
    """A width in decades; `cut` where an end of the grid cuts it off."""

    width: float
    cut: bool


def stability(grid: Grid) -> Table | None:
    """Return the stability board of a grid, its norms by their score over the grid; None where there is one rate."""
    if len(grid.rates) < 2:
        return None
    every = [(row, curves(grid, row)) for row in grid.rows]
    measured = [(row, seeds) for row, seeds in every if seeds]
    rows = ranked(
        [_row(grid, row, list(seeds.values())) for row, seeds in measured],
        [{seed: over_the_grid(curve.scores, grid.rates) for seed, curve in seeds.items()} for _, seeds in measured],
    )
    apart = [(row.label, "no seed has a score at every rate") for row, seeds in every if not seeds]
    return Table(
        board="stability",
        **grid.head,
        columns=_columns(grid.measure),
        rows=rows,
        apart=[*grid.apart, *apart],
        warnings=grid.warnings,
        legend=LEGEND,
        notes=[*grid.notes, *seed_note(grid.grid_seeds), *rank_notes(rows, "the score over the grid"), *_notes(grid)],
    )


def curves(grid: Grid, row: Row) -> dict[int, Curve]:
    """Return the curve of each seed that has a score at every rate, at the norm's chosen setting."""
    of_seeds = {}
    at_rates = [row.at(rate) for rate in grid.rates]
    for seed in row.complete:
        results = [at_rate[seed] for at_rate in at_rates if seed in at_rate]
        if len(results) == len(grid.rates):
            scores = [_upward(grid.measure, result.selection or 0.0) for result in results]
            of_seeds[seed] = Curve(scores, [result.trained for result in results])
    return of_seeds


def split_of(grid: Grid) -> str:
    """Return which split a grid's curves are of: "validation", or "test" where its trials had no other."""
    held_out = any(result.validation is not None for row in grid.rows for result in row.results.values())
    return "validation" if held_out else "test"


def over_the_grid(scores: list[float], rates: list[float]) -> float:
    """Return the mean score over the grid: the trapezoid rule in log10(rate), divided by the grid's width."""
    return sum(weight * score for weight, score in zip(weights(rates), scores, strict=True))


def weights(rates: list[float]) -> list[float]:
    """Return the weight of each rate in the mean over the grid; they add up to 1."""
    logs = [math.log10(rate) for rate in rates]
    steps = [0.0, *(high - low for low, high in pairwise(logs)), 0.0]
    return [(left + right) / 2 / (logs[-1] - logs[0]) for left, right in pairwise(steps)]


def trains_up_to(curve: Curve, chosen: int) -> int | None:
    """Return the index of the last of the trained rates unbroken from the chosen one up; None if that did not train."""
    if not curve.trained[chosen]:
        return None
    last = chosen
    while last + 1 < len(curve.trained) and curve.trained[last + 1]:
        last += 1
    return last


def within(curve: Curve, rates: list[float], chosen: int, threshold: float) -> Decades:
    """Return the decades about the chosen rate over which the score stays at or above a threshold.

    Between two trained rates an end is interpolated linearly in log10(rate); next to a rate that did not train it is
    the geometric mean of the last good and the first bad rate. A seed that did not train at the chosen rate has none.
    """
    if not curve.trained[chosen] or curve.scores[chosen] < threshold:
        return Decades(0.0, cut=False)
    logs = [math.log10(rate) for rate in rates]
    ends, cut = [], False
    for step in (-1, 1):
        good = chosen
        while 0 <= good + step < len(logs) and curve.trained[good + step] and curve.scores[good + step] >= threshold:
            good += step
        bad = good + step
        if not 0 <= bad < len(logs):
            ends.append(logs[good])
            cut = True
        elif curve.trained[bad]:
            share = (curve.scores[good] - threshold) / (curve.scores[good] - curve.scores[bad])
            ends.append(logs[good] + share * (logs[bad] - logs[good]))
        else:
            ends.append((logs[good] + logs[bad]) / 2)
    return Decades(ends[1] - ends[0], cut)


def _columns(measure: Measure) -> list[Column]:
    percent = measure.direction == "up" and measure.unit == "%"
    unit, digits = ("%", 1) if percent else ("", 3)
    shown = f" {unit}" if unit else " (progress)" if measure.direction == "down" else ""
    columns = [
        Column("strip", "trained at rate", kind="marks"),
        Column("over_the_grid", f"over the grid{shown},\n± or (min…max)", unit, digits, "up", ends=True),
        Column("trains_up_to", "trains up to\n(<next) (min…max)", kind="rate", better="up", ends=True, beyond=True),
        Column("range", "range, decades\n(min…max)", "decades", 2, "up", ends=True),
        Column("sensitivity", "sensitivity,\n± or (min…max)", "points" if percent else "", digits, "down", ends=True),
    ]
    return defined(columns, MEANINGS)


def _row(grid: Grid, row: Row, seeds: list[Curve]) -> TableRow:
    assert row.rate is not None
    chosen = grid.rates.index(row.rate)
    areas = [over_the_grid(curve.scores, grid.rates) for curve in seeds]
    sensitivities = [curve.scores[chosen] - area for curve, area in zip(seeds, areas, strict=True)]
    values = {
        "strip": Value(text="".join(strip(grid, row))),
        "over_the_grid": Value.of(mean_over_seeds(areas)),
        "trains_up_to": _reach([trains_up_to(curve, chosen) for curve in seeds], grid.rates),
        "range": _range(grid, seeds, chosen),
        "sensitivity": Value.of(mean_over_seeds(sensitivities)),
    }
    below = ["trains_up_to:below-the-grid"] * (values["trains_up_to"].number is None)
    return TableRow(row.label, None, len(seeds), values, [*flags_of(values), *below, *failure_flags(row.failures)])


def strip(grid: Grid, row: Row) -> Iterator[str]:
    """Yield for each rate a mark: what the seeds did there."""
    for rate in grid.rates:
        results = row.at(rate).values()
        trained = sum(result.trained for result in results)
        if not results:
            yield "?"
        elif trained:
            yield OUTCOMES["trained"].mark if trained == len(results) else SOME_TRAINED
        else:
            diverged = any(result.outcome == "diverged" for result in results)
            yield OUTCOMES["diverged" if diverged else "not-trained"].mark


def _reach(indices: list[int | None], rates: list[float]) -> Value:
    """Return the median rate with its ends and the next rate; what failed at the chosen one is below the grid."""
    ends = median_of([-1 if index is None else index for index in indices], on_grid=True)
    median, low, high = (int(index) for index in (ends.centre, ends.low, ends.high))
    last = len(rates) - 1
    return Value(
        rates[median] if median >= 0 else None,
        rates[low] if low >= 0 else None,
        rates[high] if high >= 0 else None,
        ends.kind,
        at_least=median == last,
        low_at_least=low == last,
        high_at_least=high == last,
        beyond=rates[median + 1] if 0 <= median < last else None,
        text="" if median >= 0 else "none",
    )


def _range(grid: Grid, seeds: list[Curve], chosen: int) -> Value:
    if not any(curve.trained[chosen] for curve in seeds):
        return Value()
    mean = statistics.fmean(curve.scores[chosen] for curve in seeds)
    threshold = mean - WITHIN * (mean - _upward(grid.measure, grid.measure.chance))
    ranges = [within(curve, grid.rates, chosen, threshold) for curve in seeds]
    widths = median_of([each.width for each in ranges])
    return Value.of(widths, at_most=median_of([math.inf if each.cut else each.width for each in ranges]))


def _upward(measure: Measure, score: float) -> float:
    """Return a score where more is better: itself for accuracy-like tasks, else its progress."""
    return score if measure.direction == "up" else measure.progress(score)


def _notes(grid: Grid) -> Iterator[str]:
    yield LEGEND
    shares = ", ".join(
        f"{rate:g} ({100 * weight:.0f}%)" for rate, weight in zip(grid.rates, weights(grid.rates), strict=True)
    )
    yield (
        f"scores here are on {split_of(grid)}. The grid and the weight of each rate in it: {shares}; don't compare "
        "numbers from two different grids"
    )
    yield (
        "trains up to: the highest rate that can be reached from the chosen one without passing a rate that did not "
        "train; (<0.3): the next rate that was tried is 0.3. range: the decades around the chosen rate in which the "
        "score, counted from chance, falls by 10% at most. sensitivity: the score at the chosen rate minus that over "
        "the grid; 0 where the rate does not matter. ≥: the grid ends there"
    )

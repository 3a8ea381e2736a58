"""The accuracy board: each norm at the rate chosen on validation, reported on test."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator
from itertools import pairwise, product, zip_longest

from normbench.boards.grid import Grid, Row, failure_flags, over_seeds, seed_note
from normbench.boards.published import published_notes, published_score
from normbench.boards.standing import rank_notes, ranked
from normbench.spelling import assignments
from normbench.stats.intervals import Interval, clopper_pearson, flattery
from normbench.store.records import Result
from normbench.tables.table import Column, Table, TableRow, Value, defined, flags_of
from normbench.texts import visible
from normbench.trials import Measure

#: Validation progress that "epochs to" counts to.
GOAL = 0.9
#: Two neighbours of a grid that are further apart than this factor are too far: 1, 3, 10 are not.
COARSE = 3.4
#: What may be wrong with a chosen rate, as a note says it before it names the norms.
RATE_MARKS = {
    "edge": "the chosen rate is an end of the grid; a better one may lie beyond",
    "coarse": f"a rate beside the chosen one is a factor of more than {COARSE:g} away; a better one may lie between",
    "unsettled": "without one of the seeds the choice would be another",
}

#: What each column is: docs/metrics.md begins with the same words.
MEANINGS = {
    "accuracy": "The mean test score over the seeds at the norm's rate. Seeds that failed count with their score.",
    "rate": "The chosen rate: the one with the highest mean validation score over the seeds.",
    "epochs_to": "Epochs until the mean validation progress over the seeds first reaches 0.9.",
    "failed": "How many seeds failed at the norm's rate, and out of how many. Failed: diverged, or progress below ½.",
    "vs_baseline": "The norm's score minus the baseline's at the same seed, each at its own rate: the mean over the "
    "seeds. + is better.",
    "published": "A figure from elsewhere, if the suite has one for the norm.",
}


def accuracy(grid: Grid) -> Table:
    """Return the accuracy board of a grid, its norms by their mean test score."""
    sign = 1 if grid.measure.direction == "up" else -1
    spreads = [_spread(row) for row in grid.rows]
    rows = ranked(
        [_row(grid, row, wide=_is_wide(spread, spreads)) for row, spread in zip(grid.rows, spreads, strict=True)],
        [{seed: sign * score for seed, score in row.scores().items()} for row in grid.rows],
    )
    warnings = [*_same_seeds(grid), *_no_baseline(grid)]
    return Table(
        board="accuracy",
        **grid.head,
        columns=_columns(grid),
        rows=rows,
        apart=grid.apart,
        warnings=[*grid.warnings, *warnings],
        notes=[*grid.notes, *warnings, *seed_note(grid.seeds), *_notes(grid, rows)],
    )


def _columns(grid: Grid) -> list[Column]:
    measure = grid.measure
    percent = measure.unit == "%"
    unit = "%" if percent else measure.unit
    digits = 1 if percent else 3
    columns = [
        Column("accuracy", f"{measure.name} {unit},\n± or (min…max)", unit, digits, measure.direction, ends=True)
    ]
    if grid.protocol == "tuned":
        columns.append(Column("rate", "rate", kind="rate"))
        within = any(row.cell.recipe.validate_every for row in grid.rows)
        columns.append(Column("epochs_to", "epochs\nto .9", "epochs", 3 if within else 1, "down"))
    columns.append(Column("failed", "failed", better="down", kind="text"))
    difference = "points" if percent else unit
    versus = f"vs {visible(grid.baseline)},\n± or (min…max)"
    columns.append(Column("vs_baseline", versus, difference, digits, "up", kind="signed", ends=True))
    if grid.published is not None:
        columns.append(Column("published", f"published\n{unit}".strip(), unit, digits, measure.direction))
    return defined(columns, MEANINGS)


def _row(grid: Grid, row: Row, *, wide: bool) -> TableRow:
    chosen = row.chosen()
    failed = sum(not result.trained for result in chosen.values())
    marks = list(_rate_marks(grid, row))
    values = {
        "accuracy": Value.of(over_seeds(row.scores().values(), all_trained=not failed)),
        "rate": Value(row.rate, mark=" ".join(marks)),
        "vs_baseline": Value.of(_versus(grid, row)),
        "epochs_to": Value(epochs_to(chosen.values(), grid.measure)),
        "failed": Value(failed, text=f"{failed}/{len(chosen)}"),
        "published": Value(published_score(grid, row)),
    }
    flags = [
        *["same-seeds"] * grid.same_seeds,
        *["spread"] * wide,
        *marks,
        *flags_of(values),
        *failure_flags(row.failures),
    ]
    return TableRow(row.label, None, len(chosen), values, flags)


def _rate_marks(grid: Grid, row: Row) -> Iterator[str]:
    """Yield what may be wrong with the chosen rate: keys of RATE_MARKS."""
    assert row.rate is not None
    place = grid.rates.index(row.rate)
    if len(grid.rates) > 1 and place in (0, len(grid.rates) - 1):
        yield "edge"
    if any(high > COARSE * low for low, high in pairwise(grid.rates[max(0, place - 1) : place + 2])):
        yield "coarse"
    if _is_unsettled(grid, row):
        yield "unsettled"


def _is_unsettled(grid: Grid, row: Row) -> bool:
    """Whether leaving one seed out changes the choice; of two seeds one would be left, which says nothing.

    Any other point of the grid wins soonest without the seed that speaks most for the chosen one against it.
    """
    assert row.rate is not None
    choice = row.setting, row.rate
    sign = 1 if grid.measure.direction == "up" else -1

    def worth(seed: int, setting: int, rate: float) -> float:
        score = row.results[seed, setting, rate].selection
        return -math.inf if score is None else sign * score

    seeds = row.complete if row.cell.kept is None else []  # what is kept hangs on no seed here
    for point in product(range(len(row.settings)), row.rates) if len(seeds) > 2 else ():
        most = max(seeds, key=lambda seed: worth(seed, *choice) - worth(seed, *point))
        kept = [seed for seed in seeds if seed != most]
        if row.own_choice(grid.measure, kept) not in (None, choice):
            return True
    return False


def epochs_to(results: Iterable[Result], measure: Measure) -> float | None:
    """Return the epochs until the mean validation progress of some seeds first reaches 0.9, or None.

    It is interpolated between two measurements; what is there at the first already has nothing to be interpolated from.
    A seed has progress 0 at each measurement after it diverged, and where its score is not finite.
    """
    results = list(results)
    series = [before_diverging(result) for result in results]
    curves = [[0.0 if score is None else measure.progress(score) for score in scores] for scores in series]
    means = [statistics.fmean(measured) for measured in zip_longest(*curves, fillvalue=0.0)]
    first = next((i for i, mean in enumerate(means) if mean >= GOAL), 0)
    if first == 0:
        return None
    begin, end = max(map(measured_at, results), key=len)[first - 1 : first + 1]
    before, now = means[first - 1 : first + 1]
    return begin + (end - begin) * (GOAL - before) / (now - before)


def measured_at(result: Result) -> list[float]:
    """Return the epochs after which validation was measured: not whole ones where it was within an epoch."""
    if result.validated and result.epoch_steps:
        return [steps / result.epoch_steps for steps in result.validated]
    count = len(result.series.get("validation", []))
    # Where a recipe counts steps, the last epoch may be a part of one.
    ended = result.steps / result.epoch_steps if result.epoch_steps else math.inf
    return [min(float(epoch), ended) for epoch in range(1, count + 1)]


def before_diverging(result: Result) -> list[float | None]:
    """Return a training's validation scores, without the last epoch's where a weight may have diverged in it."""
    scores = result.series.get("validation", [])
    if result.outcome != "diverged" or result.diverged_at is not None:  # after such a loss nothing is measured
        return scores
    whole = len(result.series.get("loss", [])) - 1
    within = [steps for steps in result.validated if steps <= whole * result.epoch_steps]
    return scores[: len(within) if result.validated else whole]


def _versus(grid: Grid, row: Row) -> Interval | None:
    """Return the mean of the differences to the baseline, paired by seed, signed so that + is better."""
    base = next((other for other in grid.rows if other.label == grid.baseline), None)
    if base is None or base is row:
        return None
    ours, theirs = row.chosen(), base.chosen()
    scores, others = row.scores(), base.scores()
    sign = 1 if grid.measure.direction == "up" else -1
    paired = sorted(set(scores) & set(others))
    if not paired:
        return None
    all_trained = all(ours[seed].trained and theirs[seed].trained for seed in paired)
    return over_seeds([sign * (scores[seed] - others[seed]) for seed in paired], all_trained)


def _spread(row: Row) -> float | None:
    scores = row.scores().values()
    return statistics.stdev(scores) if len(scores) > 1 else None


def _is_wide(spread: float | None, spreads: list[float | None]) -> bool:
    known = [other for other in spreads if other is not None]
    return spread is not None and spread > 4 * statistics.median(known) > 0


def _notes(grid: Grid, rows: list[TableRow]) -> Iterator[str]:
    yield from rank_notes(rows, grid.measure.name)
    if grid.protocol == "tuned":
        of_fresh = any(row.reads_fresh for row in grid.rows)
        chose, shown = (" of the grid's seeds", "that of fresh seeds, ") if of_fresh else ("", "")
        yield f"rate: highest mean validation score{chose}; the score is {shown}on test, after the last step"
    yield from _kept_notes(grid)
    marks = {**RATE_MARKS, "spread": "varies over seeds more than 4 times as much as the median norm"}
    for mark, meaning in marks.items():
        if marked := ", ".join(repr(row.norm) for row in rows if mark in row.flags):
            yield f"{mark}: {meaning}: {marked}"
    yield from _failed_note(rows)
    for row in grid.rows:
        if len(row.settings) > 1:
            yield f"{row.label!r}: chosen on validation {assignments(row.settings[row.setting])}"
    yield from published_notes(grid)


def _no_baseline(grid: Grid) -> Iterator[str]:
    if not any(row.label == grid.baseline for row in grid.rows):
        yield f"the baseline {grid.baseline!r} has no results here"


def _same_seeds(grid: Grid) -> Iterator[str]:
    """Say where the seeds that are shown chose the rates."""
    if grid.same_seeds and grid.rows:
        there = sum(len(row.fresh_at(row.rate, row.setting).keys() & row.wants_fresh) for row in grid.rows)
        asked = any(row.wants_fresh for row in grid.rows)
        wanted = sum(len(row.wants_fresh or row.complete) for row in grid.rows)
        choices = len(grid.rates) * max(len(row.settings) for row in grid.rows)
        yield (
            "same-seeds: the scores are those of the seeds that chose the rates, which flatters a norm by up to "
            f"{flattery(choices, grid.seeds):.1f} standard deviations of a seed; fresh seeds: "
            + (f"{there} of {wanted} trials" if asked else "none")
        )


def _kept_notes(grid: Grid) -> Iterator[str]:
    """Say where a rate is not the grid's own choice."""
    for row in grid.rows:
        own = row.own_choice(grid.measure) if row.cell.kept is not None else None
        if own is not None and own != (row.setting, row.rate):
            other = assignments({**row.settings[own[0]], "rate": own[1]})
            yield f"{row.label!r}: its rate is kept from an earlier choice; this grid would choose {other}"


def _failed_note(rows: list[TableRow]) -> Iterator[str]:
    """Say for each norm that failed at some seeds what share of all seeds may fail."""
    shares = []
    for row in rows:
        if failed := int(row.values["failed"].number or 0):
            share = clopper_pearson(failed, row.seeds)
            shares.append(f"{row.norm!r} {100 * share.centre:.0f}% [{100 * share.low:.0f}…{100 * share.high:.0f}]")
    if shares:
        yield f"failed: the share of seeds, with its 95% interval: {', '.join(shares)}"

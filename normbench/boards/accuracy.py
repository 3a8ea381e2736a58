"""The accuracy board: each norm at the rate chosen on validation, reported on test."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator

from normbench.boards.grid import Grid, Row, over_seeds, seed_note
from normbench.boards.standing import rank_notes, ranked
from normbench.spelling import assignments
from normbench.stats.intervals import Interval, clopper_pearson
from normbench.store.records import Result
from normbench.tables.table import Column, Table, TableRow, Value, flags_of
from normbench.texts import visible
from normbench.trials import Measure

#: Validation progress that "epochs to" counts to.
GOAL = 0.9


def accuracy(grid: Grid) -> Table:
    """Return the accuracy board of a grid, its norms by their mean test score."""
    sign = 1 if grid.measure.direction == "up" else -1
    spreads = [_spread(row) for row in grid.rows]
    rows = ranked(
        [_row(grid, row, wide=_is_wide(spread, spreads)) for row, spread in zip(grid.rows, spreads, strict=True)],
        [{seed: sign * score for seed, score in row.scores().items()} for row in grid.rows],
    )
    return Table(
        board="accuracy",
        **grid.head,
        columns=_columns(grid),
        rows=rows,
        apart=grid.apart,
        notes=[*grid.notes, *seed_note(grid.seeds), *_notes(grid, rows)],
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
        columns.append(Column("epochs_to", "epochs\nto .9", "epochs", 1, "down"))
    columns.append(Column("failed", "failed", better="down", kind="text"))
    difference = "points" if percent else unit
    versus = f"vs {visible(grid.baseline)},\n± or (min…max)"
    columns.append(Column("vs_baseline", versus, difference, digits, "up", kind="signed", ends=True))
    if grid.published is not None:
        columns.append(Column("published", f"published\n{unit}".strip(), unit, digits, measure.direction))
    return columns


def _row(grid: Grid, row: Row, *, wide: bool) -> TableRow:
    chosen = row.chosen()
    failed = sum(not result.trained for result in chosen.values())
    edge = grid.protocol == "tuned" and len(grid.rates) > 1 and row.rate in (grid.rates[0], grid.rates[-1])
    values = {
        "accuracy": Value.of(over_seeds(row.scores().values(), all_trained=not failed)),
        "rate": Value(row.rate, mark="edge" if edge else ""),
        "vs_baseline": Value.of(_versus(grid, row)),
        "epochs_to": Value(epochs_to(chosen.values(), grid.measure)),
        "failed": Value(failed, text=f"{failed}/{len(chosen)}"),
        "published": Value(_published(grid, row)),
    }
    flags = [
        *["same-seeds"] * grid.same_seeds,
        *["spread"] * wide,
        *["edge"] * edge,
        *flags_of(values),
        *row.failure_flags,
    ]
    return TableRow(row.label, None, len(chosen), values, flags)


def _published(grid: Grid, row: Row) -> float | None:
    """Return the norm's figure from elsewhere, as scores are stored."""
    if grid.published is None or row.label not in grid.published.scores:
        return None
    return grid.published.scores[row.label] / (100 if grid.measure.unit == "%" else 1)


def epochs_to(results: Iterable[Result], measure: Measure) -> float | None:
    """Return the epochs until the mean validation progress of some seeds first reaches 0.9, or None.

    Between two epochs it is interpolated; before the first, progress is 0. A seed that diverged has progress 0 from
    then on, and an epoch whose score is not finite has none.
    """
    results = list(results)
    series = [result.series.get("validation", []) for result in results]
    curves = [[0.0 if score is None else measure.progress(score) for score in scores] for scores in series]
    longest = max((len(curve) for curve in curves), default=0)
    if not longest:
        return None
    # Where a recipe counts steps, the last epoch may be a part of one.
    ended = max((result.steps / result.epoch_steps for result in results if result.epoch_steps), default=longest)
    before = 0.0
    for epoch in range(longest):
        now = sum(curve[epoch] if epoch < len(curve) else 0.0 for curve in curves) / len(curves)
        if now >= GOAL:
            length = min(1.0, ended - epoch)
            return epoch + length * (GOAL - before) / (now - before)
        before = now
    return None


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
        on, of = ("the grid's seeds", "fresh seeds") if of_fresh else ("these seeds", "the same seeds")
        yield f"rate: highest mean validation score of {on}; the score is that of {of} on test, after the last step"
    yield from _fresh_notes(grid)
    if any("edge" in row.flags for row in rows):
        yield "edge: the chosen rate is an end of the grid; a better one may lie beyond"
    if any("spread" in row.flags for row in rows):
        wide = ", ".join(repr(row.norm) for row in rows if "spread" in row.flags)
        yield f"spread: {wide} varies over seeds more than 4 times as much as the median norm"
    yield from _failed_note(rows)
    for row in grid.rows:
        if len(row.settings) > 1:
            yield f"{row.label!r}: chosen on validation {assignments(row.settings[row.setting])}"
    yield from _published_notes(grid, rows)
    if not any(row.label == grid.baseline for row in grid.rows):
        yield f"the baseline {grid.baseline!r} has no results here"


def _fresh_notes(grid: Grid) -> Iterator[str]:
    """Say whether the seeds that are shown chose the rates, and where a rate is not the grid's own choice."""
    if grid.same_seeds:
        there = sum(len(row.fresh_at(row.rate, row.setting).keys() & row.wants_fresh) for row in grid.rows)
        asked = any(row.wants_fresh for row in grid.rows)
        wanted = sum(len(row.wants_fresh or row.complete) for row in grid.rows)
        yield (
            "same-seeds: scores are of the seeds that the rates were chosen on, which flatters a norm by up to .7 "
            "standard deviations of a seed; fresh seeds: " + (f"{there} of {wanted} trials" if asked else "none")
        )
    for row in grid.rows:
        own = row.own_choice(grid.measure)
        if row.cell.kept is not None and own is not None and own != (row.setting, row.rate):
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


def _published_notes(grid: Grid, rows: list[TableRow]) -> Iterator[str]:
    """Say where published figures are from, and which were not reproduced; one or two seeds can't tell."""
    if grid.published is None:
        return
    yield f"published: {grid.published.source}; {grid.published.setting}"
    if grid.condition:
        here = assignments(grid.condition)
        yield f"the published figures are for the task's own recipe, not for {here}, and are not compared"
        return
    scale, digits = (100, 2) if grid.measure.unit == "%" else (1, 3)
    for row in rows:
        theirs, ours = row.values["published"].number, row.values["accuracy"]
        if theirs is None or ours.low is None or ours.high is None or row.seeds < 3:
            continue
        if not ours.low <= theirs <= ours.high:
            spread = grid.published.spread.get(row.norm)
            runs = f" (a standard deviation of {spread:g} over runs)" if spread else ""
            yield (
                f"not reproduced: {row.norm!r}, published {scale * theirs:g}{runs}, lies outside of "
                f"{scale * ours.low:.{digits}f}…{scale * ours.high:.{digits}f} here"
            )

"""What a probe saw, against the step: of a vector one panel for each place. Or at one step, against the place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from normbench.boards.grid import Grid
from normbench.charts.looks import Look
from normbench.charts.panels import TOGETHER, Chart
from normbench.charts.traces import Traces, find
from normbench.charts.watched import Quantity, charts_of, exact
from normbench.errors import UsageError
from normbench.store import Store
from normbench.texts import visible


def charts(
    store: Store,
    grids: list[Grid],
    styles: Mapping[str, Look],
    word: str,
    rates: Sequence[float],
    site: int | None,
    step: int | None,
) -> list[Chart]:
    """Return a chart per grid of the series that a word names, PROBE.NAME.

    It has a panel for each place of a vector, or for one, `site`; or one panel, by place, at a `step`. Raises
    UsageError for a series, a place or a step that is not there, and for several places where each norm has a panel.
    """
    probe, _, name = word.partition(".")
    if not probe or not name or "(" in word:
        raise UsageError(f"series {word!r}: it takes PROBE.NAME, with the probe's name without parameters")
    traces = find(store, grids, probe, name)
    asked = f"site {site}" if site is not None else f"step {step}" if step is not None else ""
    if asked and not traces.places:
        raise UsageError(f"{asked}: {word} is one number at a step, and has no places")
    shown = _by_step(traces, word, site, grids) if step is None else [_by_place(traces, word, step)]
    drawn = charts_of([(grid, shown) for grid in grids], rates, styles)
    if not drawn and (rates or any(row.chosen() for grid in grids for row in grid.rows)):
        where = ", ".join(filter(None, [asked, *(f"rate {exact(rate)}" for rate in rates)]))
        raise UsageError(f"{where}{': ' * bool(where)}{word} has no finite value")
    return drawn


def _by_step(traces: Traces, word: str, site: int | None, grids: list[Grid]) -> list[Quantity]:
    if site is not None and not 0 <= site < traces.places:
        raise UsageError(f"site {site}: {word} has {traces.places} places, from 0 to {traces.places - 1}")
    places = range(traces.places or 1) if site is None else [site]
    if len(places) > 1 and any(len(grid.rows) > TOGETHER for grid in grids):
        raise UsageError(
            f"{word} has {traces.places} places, and of more than {TOGETHER} norms each has a panel of its own: choose "
            f"a site, from 0 to {traces.places - 1}, or a step"
        )
    label = visible(traces.label)
    return [Quantity(label, traces.by_step(one), f"place {one}" if traces.places else "") for one in places]


def _by_place(traces: Traces, word: str, step: int) -> Quantity:
    steps = traces.steps
    if step not in steps:
        nearest = min(steps, key=lambda one: abs(one - step))
        raise UsageError(f"step {step}: {word} has steps from {steps[0]} to {steps[-1]}; the nearest is {nearest}")
    return Quantity(visible(traces.label), traces.by_place(step), f"step {step}", marks_ends=False, x_label="place")

"""What a probe saw, against the step: of a vector one panel for each site."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from normbench.boards.grid import Grid
from normbench.charts.looks import Look
from normbench.charts.panels import TOGETHER, Chart
from normbench.charts.traces import find
from normbench.charts.watched import Quantity, charts_of
from normbench.errors import UsageError
from normbench.store import Store
from normbench.texts import visible


def charts(
    store: Store, grids: list[Grid], styles: Mapping[str, Look], word: str, rates: Sequence[float], site: int | None
) -> list[Chart]:
    """Return a chart per grid of the series that a word names, PROBE.NAME: a panel for each site, or for one of them.

    Raises UsageError for a series or a site that is not there, and for several sites where each norm has a panel.
    """
    probe, _, name = word.partition(".")
    traces = find(store, grids, probe, name)
    if site is not None and not traces.sites:
        raise UsageError(f"site {site}: {word} is one number at a step, and has no sites")
    if site is not None and not 0 <= site < traces.sites:
        raise UsageError(f"site {site}: {word} has {traces.sites} sites, from 0 to {traces.sites - 1}")
    sites = range(traces.sites or 1) if site is None else [site]
    if len(sites) > 1 and any(len(grid.rows) > TOGETHER for grid in grids):
        raise UsageError(
            f"{word} has {traces.sites} sites, and of more than {TOGETHER} norms each has a panel of its own: choose a "
            f"site, from 0 to {traces.sites - 1}"
        )
    label = visible(traces.label)
    shown = [Quantity(label, traces.by_step(one), f"site {one}" if traces.sites else "") for one in sites]
    drawn = charts_of([(grid, shown) for grid in grids], rates, styles)
    if site is not None and not drawn:
        raise UsageError(f"site {site}: {word} has no value there")
    return drawn

"""One series of a probe, of the trials that boards show; and what is said where there is none."""

from __future__ import annotations

import difflib
import math
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from normbench.boards.grid import Grid
from normbench.boards.watched import shown_traces
from normbench.errors import UsageError, unknown
from normbench.spelling import spelled
from normbench.store import Store
from normbench.store.records import Result, TraceRecord


@dataclass(frozen=True)
class Traces:
    """A series by trial, code and device; `label` names it with the probe's parameters.

    `sites` is how many values a step has, 0 where that is a number.
    """

    label: str
    sites: int
    found: Mapping[tuple[str, ...], tuple[list[int], list[list[float]]]]

    @property
    def steps(self) -> list[int]:
        """The steps at which any trial has values, in order."""
        return sorted({step for steps, _ in self.found.values() for step in steps})

    def by_step(self, site: int = 0) -> Callable[[Result], Mapping[int, float]]:
        """Return what gives a trial's values by step, at a site where there are several; none where it has no trace."""
        values = {
            of: {step: row[site] for step, row in zip(steps, rows, strict=True) if site < len(row)}
            for of, (steps, rows) in self.found.items()
        }
        return lambda result: values.get(_of(result), {})

    def by_site(self, step: int) -> Callable[[Result], Mapping[int, float]]:
        """Return what gives a trial's finite values at a step, by site; none where it has none."""
        values = {
            of: {site: value for site, value in enumerate(rows[steps.index(step)]) if math.isfinite(value)}
            for of, (steps, rows) in self.found.items()
            if step in steps
        }
        return lambda result: values.get(_of(result), {})


def find(store: Store, grids: Iterable[Grid], probe: str, name: str, *, any_params: bool = False) -> Traces:
    """Return a probe's series, of the last trace of each trial; of those with the parameters of the newest of them.

    With `any_params` of all: the parameters don't matter to the series. Raises UsageError where there is none: it names
    those that there are, or the command that makes it.
    """
    latest: dict[tuple[str, ...], TraceRecord] = {}
    known: set[str] = set()
    for trace in shown_traces(store, (result for grid in grids for row in grid.rows for result in row.shown)):
        known |= {f"{trace.probe}.{own}" for own in trace.series}
        if trace.probe == probe:
            latest.pop(trace.of[:4], None)  # so that the newest stands last
            latest[trace.of[:4]] = trace
    having = [trace for trace in latest.values() if name in trace.series]
    if not having:
        raise _none(store, probe, name, known, [trace.reason for trace in latest.values() if trace.reason])
    params = having[-1].probe_params
    series = {trace.of[:4]: trace.series[name] for trace in having if any_params or trace.probe_params == params}
    found = {of: (one.step, one.rows()) for of, one in series.items()}
    sites = max((len(row) for of, (_, rows) in found.items() if series[of].is_vector for row in rows), default=0)
    return Traces(f"{spelled(probe, params)}: {name}", sites, found)


def _of(result: Result) -> tuple[str, ...]:
    """Return what a result has in common with its traces."""
    return result.key, result.norm_print or "", result.task_print or "", result.device


def _none(store: Store, probe: str, name: str, known: set[str], reasons: list[str]) -> UsageError:
    """Return the refusal of a series that no trial has."""
    probes = {series.partition(".")[0] for series in known}
    if probe in probes or difflib.get_close_matches(probe, probes, cutoff=0.75):
        return unknown("series", f"{probe}.{name}", known, str(store.folder), f"there are {', '.join(sorted(known))}")
    if reasons:
        return UsageError(f"{store.folder}: probe {probe!r} applies to no trial there: {reasons[-1]}")
    command = next((run.command for run in reversed(store.runs()) if run.command[1:2] == ["run"]), ["", "run", "SUITE"])
    makes = shlex.join(["normbench", *command[1:], "--probe", probe])
    return UsageError(f"{store.folder}: no trace of probe {probe!r} there; this makes them: {makes}")

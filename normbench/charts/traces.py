"""One series of a probe, of the trials that boards show; and what is said where there is none."""

from __future__ import annotations

import itertools
import math
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import cast

from normbench import plugins
from normbench.boards.grid import Grid
from normbench.boards.watched import shown_traces
from normbench.errors import UsageError, unknown
from normbench.spelling import choice, spelled
from normbench.store import Store
from normbench.store.records import Number, Result, RunRecord, Series, TraceRecord
from normbench.suites import CURVE


@dataclass(frozen=True)
class Traces:
    """A series by trial, code and device; `label` names it with the probe's parameters.

    `places` is how many values a step has, 0 where that is a number.
    """

    label: str
    places: int
    found: Mapping[tuple[str, ...], Series]

    @property
    def steps(self) -> list[int]:
        """The steps at which any trial has values, in order."""
        return sorted({step for series in self.found.values() for step in series.step})

    def among(self, results: Iterable[Result]) -> Traces:
        """Return the traces of these trials; a network of another depth has other places."""
        found = {of: self.found[of] for result in results if (of := _of(result)) in self.found}
        return Traces(self.label, _places(found.values()), found)

    def by_step(self, place: int = 0) -> Callable[[Result], Mapping[int, float]]:
        """Return what gives a trial's values by step, at a place of a vector; none where it has no trace."""

        def values(result: Result) -> Mapping[int, float]:
            series = self.found.get(_of(result))
            if series is None:
                return {}
            if not series.is_vector:
                numbers = cast("list[Number]", series.value)
                return {} if place else dict(zip(series.step, map(float, numbers), strict=True))
            vectors = zip(series.step, cast("list[list[Number]]", series.value), strict=True)
            return {step: float(vector[place]) for step, vector in vectors if place < len(vector)}

        return values

    def by_place(self, step: int) -> Callable[[Result], Mapping[int, float]]:
        """Return what gives a trial's finite values at a step, by place; none where it has none."""

        def values(result: Result) -> Mapping[int, float]:
            series = self.found.get(_of(result))
            vector = series.value[series.step.index(step)] if series and step in series.step else []
            numbers = map(float, vector) if isinstance(vector, list) else [float(vector)]
            return {place: number for place, number in enumerate(numbers) if math.isfinite(number)}

        return values


@dataclass(frozen=True)
class Watched:
    """The last trace of each trial and probe that boards show, by `TraceRecord.of`; the newest stands last."""

    latest: Mapping[tuple[str, ...], TraceRecord]
    names: Mapping[str, set[str]]

    @classmethod
    def of(cls, store: Store, shown: Iterable[Result]) -> Watched:
        """Return the traces of trials that are shown; `names` are the series of each probe, of any of its traces."""
        latest: dict[tuple[str, ...], TraceRecord] = {}
        names: dict[str, set[str]] = {}
        for trace in shown_traces(store, shown):
            names.setdefault(trace.probe, set()).update(trace.series)
            key = (trace.probe, *trace.of[:4])
            latest.pop(key, None)  # so that the newest stands last
            latest[key] = trace
        return cls(latest, names)

    @cached_property
    def places(self) -> dict[tuple[str, str], int]:
        """How many values a step has of each series, 0 where that is a number; by probe and name, in this order."""
        found: dict[tuple[str, str], int] = {}
        for trace in self.latest.values():
            for name, series in trace.series.items():
                found[trace.probe, name] = max(_places([series]), found.get((trace.probe, name), 0))
        return dict(sorted(found.items()))

    def traces(self, probe: str, name: str, *, any_params: bool = False) -> Traces | None:
        """Return a probe's series, of the traces with the parameters of the newest; with `any_params` of all."""
        having = [trace for trace in self.latest.values() if trace.probe == probe and name in trace.series]
        if not having:
            return None
        params = having[-1].probe_params
        series = {trace.of[:4]: trace.series[name] for trace in having if any_params or trace.probe_params == params}
        return Traces(f"{spelled(probe, params)}: {name}", _places(series.values()), series)


def _places(every: Iterable[Series]) -> int:
    """Return how many values a step has at most, 0 where each is a number."""
    return max((len(value) for series in every for value in series.value if isinstance(value, list)), default=0)


def shown_in(grids: Iterable[Grid]) -> list[Result]:
    """Return the trials that boards show."""
    return [result for grid in grids for row in grid.rows for result in row.shown]


def find(store: Store, grids: Iterable[Grid], probe: str, name: str, *, any_params: bool = False) -> Traces:
    """Return a probe's series, of the last trace of each trial; of those with the parameters of the newest of them.

    With `any_params` of all: the parameters don't matter to the series. Raises UsageError where there is none: it names
    those of the probe, or says why it has none, or which command makes it.
    """
    shown = shown_in(grids)
    watched = Watched.of(store, shown)
    if (traces := watched.traces(probe, name, any_params=any_params)) is not None:
        return traces
    if known := watched.names.get(probe):
        note = "validation and test come with --probe curve" if probe == CURVE else ""
        raise unknown("series", name, known, f"{store.folder}: probe {probe!r}", note)
    reasons = [trace.reason for trace in watched.latest.values() if trace.probe == probe and trace.reason]
    raise _none(store, shown, probe, watched.names, reasons)


def _of(result: Result) -> tuple[str, ...]:
    """Return what a result has in common with its traces."""
    return result.key, result.norm_print or "", result.task_print or "", result.device


def _none(
    store: Store, shown: Iterable[Result], probe: str, traced: Iterable[str], reasons: Sequence[str]
) -> UsageError:
    """Return the refusal of a probe of which no trial has a series."""
    if reasons:
        return UsageError(f"{store.folder}: probe {probe!r} applies to no trial there: {reasons[-1]}")
    if any(probe == choice(word, "probes").name for result in shown for word in result.probes):
        return UsageError(f"{store.folder}: probe {probe!r} gave no series in any trial there")
    # A trial's line leaves out the probes that failed.
    made = {result.run for result in shown}
    if any(probe in _asked(run) for run in store.runs() if run.run in made):
        return UsageError(f"{store.folder}: probe {probe!r} failed in every trial there")
    every = {*traced, *plugins.current().probes}
    if probe not in every:
        return unknown("probe", probe, every, str(store.folder))
    command = next((run.command for run in reversed(store.runs()) if run.command[1:2] == ["run"]), ["", "run", "SUITE"])
    makes = shlex.join(["normbench", *command[1:], "--probe", probe])
    return UsageError(f"{store.folder}: no trace of probe {probe!r} there; this makes them: {makes}")


def _asked(run: RunRecord) -> set[str]:
    """Return the names of the probes that a run was asked for, by its suite and on its command line."""
    words = [word.removeprefix("--probe=") for word in run.command if word.startswith("--probe=")]
    words += [word for option, word in itertools.pairwise(run.command) if option == "--probe"]
    return {*run.suite.get("probes", {}), *(choice(word, "--probe").name for word in words)}

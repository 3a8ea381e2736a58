"""What a script or a notebook calls: run a suite, get a layer, register a norm."""

from __future__ import annotations

import inspect
import os
import warnings
from collections.abc import Callable, Collection, Sequence
from contextlib import closing
from dataclasses import dataclass
from html import escape
from numbers import Integral, Real
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints
from urllib.parse import quote

from normbench import bar, boards, execute, plugins, saving
from normbench.boards import frames
from normbench.boards.answer import answers, with_caution
from normbench.boards.grid import shown_trials
from normbench.boards.watched import shown_traces
from normbench.charts import pictures
from normbench.contract import ALL, Layout, Norm, Probe, Site, Task, Unsupported
from normbench.errors import UsageError, unknown
from normbench.execute import Progress, Request, Summary
from normbench.execute.prepare import Prepared
from normbench.execute.request import job_count, seconds
from normbench.plan import asked_norm
from normbench.spelling import WITH, Choice
from normbench.store import Store
from normbench.store.records import TraceRecord, TrialRecord
from normbench.tables import Table
from normbench.tables.html import as_html, notebook, paragraphs
from normbench.tables.text import terminal
from normbench.texts import visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame
    from torch import nn

    from normbench.compare.comparison import Comparison

Name = TypeVar("Name", str, str | Path)


class Leaderboard(Table):
    """A table that prints as the command line prints it, and that a notebook shows as one."""

    def __str__(self) -> str:
        return terminal([self])

    def _repr_html_(self) -> str:
        return notebook(as_html(self))


@dataclass(frozen=True)
class Page:
    """A report that was written: its path, which a notebook shows as a link."""

    path: Path

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        return str(self.path)

    def _repr_html_(self) -> str:
        # As a notebook's server has it: from the notebook's folder.
        link = quote(Path(os.path.relpath(self.path)).as_posix())
        return f'<a href="{escape(link)}" target="_blank">{escape(visible(str(self.path)))}</a>'


class Results:
    """What a results folder, or an export of one, holds; what `run` returns, of the tables of that run alone.

    `boards()` gives the tables, `trials()` the records, `traces()` what probes saw of these, `to_pandas()` a frame of
    either, `plot()` a picture, `compare()` a comparison with other results, `report()` a page. A notebook shows the
    tables. `only` are the tables that count, by `normbench.trials.Cell.table_id`, where not all do.
    Raises UsageError where nothing is stored.
    """

    def __init__(self, folder: str | Path, *, only: frozenset[str] | None = None) -> None:
        self.folder = Path(folder)
        self._only = only
        if not Store(self.folder).exists():
            raise UsageError(f"{folder}: no results there")

    def boards(self) -> list[Leaderboard]:
        """Return the leaderboards, as the command line prints them."""
        return [Leaderboard(**vars(table)) for table in boards.tables(Store(self.folder), only=self._only)]

    def trials(self) -> list[TrialRecord]:
        """Return the trials that the boards show, each as it was stored."""
        return shown_trials(Store(self.folder), self._only)

    def traces(self) -> list[TraceRecord]:
        """Return what probes saw of those trials: the last trace of each trial and probe, as it was stored."""
        return list({trace.of: trace for trace in shown_traces(Store(self.folder), self.trials())}.values())

    def to_pandas(self, of: Literal["trials", "traces"] = "trials") -> DataFrame:
        """Return the trials that the boards show, one per row, recipe values as columns. Needs normbench[pandas].

        Of "traces" a row is one number that a probe saw: `step` of the training, counted from 0; `site`, the place in
        a vector (that of a site, a linear or another: docs/probes.md), missing where a step has one number; `value`,
        which may be nan or infinite. The columns task, norm and probe have the parameters in brackets, where there are
        any; of the recipe there are the rate, and those values in which the trials differ. `trial` is their `key`.
        """
        if of not in ("trials", "traces"):
            raise unknown("frame", of, ("trials", "traces"), "to_pandas")
        return frames.of_traces(self.traces()) if of == "traces" else frames.of_trials(self.trials())

    def plot(
        self,
        kind: Literal["rates", "curves", "series", "against"] = "rates",
        *,
        series: str | None = None,
        against: str | None = None,
        rates: float | Sequence[float] = (),
        site: int | None = None,
        step: int | None = None,
    ) -> Figure:
        """Return a picture, as `normbench plot` draws it: a figure of matplotlib, which a notebook shows.

        "rates" is the score against the learning rate, "curves" loss and validation score by step, "series" what a
        probe saw (`series` is "PROBE.NAME"; of vectors, `site` is one place in them, or `step` one that is drawn by
        place), "against" the score against the recipe value `against`. Curves and series are at each norm's chosen
        rate, or at `rates`. Raises UsageError for what is not there.
        """
        _check_types(Results.plot, {name: value for name, value in locals().items() if name != "self"})
        at = [float(rate) for rate in (rates if isinstance(rates, Collection) else [rates])]
        asked: dict[str, Any] = {"series": series, "against": against, "at": at, "site": site, "step": step}
        return pictures.figure(Store(self.folder), kind, **asked, only=self._only)

    def compare(self, base: Results | str | Path, gates: dict[str, str] | None = None) -> Comparison:
        """Return whether anything is worse here than in `base`, as `normbench compare BASE HEAD` finds it.

        `gates` are how much worse a metric may be, like {"accuracy": "-0.5pt"}, in place of the suite's for it. All
        that both folders hold is compared. Raises UsageError for a folder without results, and for a gate that the
        seeds at hand can never fail.
        """
        from normbench.compare.folders import compare, gates_of

        _check_types(Results.compare, {"base": base, "gates": gates})
        folder = base.folder if isinstance(base, Results) else Results(base).folder
        ours, theirs = Store(folder), Store(self.folder)
        return compare(ours, theirs, gates_of(ours, theirs, gates or {}))

    def report(self, file: str | Path | None = None) -> Page:
        """Write the report of these results, and return where: one HTML file that opens without a network.

        Left out, `file` is a page beside the folder, as `normbench report` names it. Raises UsageError where it can't
        be written.
        """
        from normbench.report import check_suffix, default_file
        from normbench.report.page import page

        _check_types(Results.report, {"file": file})
        path = default_file(self.folder) if file is None else Path(file)
        check_suffix(path, "report:")
        written = page([self.folder], self._only)
        saving.save(path, written, "report:")
        return Page(path)

    def __repr__(self) -> str:
        return f"Results({str(self.folder)!r})"

    def __str__(self) -> str:
        return terminal(self.boards())

    def _repr_html_(self) -> str:
        shown = self.boards()
        return notebook(paragraphs(with_caution(answers(shown))), *map(as_html, shown))


def run(
    suite: str | Path,
    *,
    norms: str | Sequence[str] = (),
    seeds: int | Sequence[int] | None = None,
    settings: dict[str, Any] | None = None,
    plugin_files: str | Path | Sequence[str | Path] = (),
    out: str | Path | None = None,
    data_dir: str | Path | None = None,
    device: str = "auto",
    probes: str | Sequence[str] = (),
    executor: str = "processes",
    jobs: int | Literal["auto"] | None = None,
    per_gpu: int | None = None,
    timeout: float | str | None = None,
    address: str | None = None,
    checkpoint_every: float | None = None,
    fresh: bool = True,
    base: str | Path | None = None,
    throughput: bool = True,
    on_progress: Callable[[Progress], None] | None = None,
    progress: bool | None = None,
) -> Results:
    """Run what is not stored of a suite, by name or file, and return the results; see `normbench run --help`.

    `norms` replaces the suite's, as "name" or "name(param=value)", or adds to them, as "+name"; `settings` are recipe
    values, or `rates`.
    Once the grid is trained, `fresh` seeds are, at each norm's chosen rate, or at the one that the folder `base` chose.
    `throughput` off leaves out the throughput session, which takes 20 seconds or so for each task and condition.
    Trials run in worker processes, `jobs` at a time, whatever called this (a script needs no main guard); executor
    "serial" runs one after another in this process. A trial that takes longer than `timeout` (seconds, or "10m") is
    killed; `checkpoint_every` is in minutes. Results go to `out`, else to results/SUITE under the current folder.
    A bar shows the `progress` (left out: on a terminal, and in a notebook), unless `on_progress` is called for it.
    A warning names a norm or plugin that changed what all norms share, and was undone. Raises UsageError for mistakes.
    """
    _check_types(run, dict(locals()))
    if on_progress is not None and progress:
        raise UsageError("run: on_progress and progress=True: it takes one of them")
    request = Request(
        suite=str(suite),
        norms=_listed(norms),
        seeds=_seeds(seeds),
        settings={str(key): _plain(value, f"settings[{key!r}]") for key, value in (settings or {}).items()},
        plugin_files=[Path(file) for file in _listed(plugin_files)],
        out=Path(out) if out is not None else None,
        data_dir=Path(data_dir) if data_dir is not None else None,
        device=device,
        executor=executor,
        options=_options(jobs, per_gpu, timeout, address),
        checkpoint_every=checkpoint_every,
        probes=_listed(probes),
        fresh=fresh,
        base=Path(base) if base is not None else None,
        throughput=throughput,
    )
    prepared = execute.on_device(execute.prepare(request))
    summary = _executed(prepared, on_progress, progress)
    for warning in [*prepared.registry.notes, *summary.warnings]:
        warnings.warn(warning, stacklevel=2)
    return Results(summary.folder, only=prepared.tables)


def _executed(prepared: Prepared, on_progress: Callable[[Progress], None] | None, progress: bool | None) -> Summary:
    """Run what is prepared, with a bar where one is asked for, or where somebody looks and nothing else is called."""
    if not (bar.wanted() if progress is None and on_progress is None else progress):
        return execute.run(prepared, on_progress)
    with closing(bar.Bar()) as shown:
        return execute.run(prepared, shown.on_progress, shown.on_start, shown.on_session)


def layer(
    name: str,
    *,
    channels: int | None = None,
    layout: Layout | None = None,
    activation: str | None = None,
    site: Site | None = None,
    module: nn.Module | None = None,
    **params: Any,
) -> nn.Module:
    """Return one layer of a norm, for an input of `channels` in `layout` (NC, NCL, NCHW, the default, or NLC).

    `params` are the norm's parameters. `activation` names the one that a fused layer includes. A `site` in place of
    these three says all that a network may tell a layer, like `spatial` or `steps`. A norm that wraps a linear or a
    convolution is given it as `module`; one made of two, with a parameter `with`, returns it wrapped, and its layer
    behind that. Raises UsageError for a name or parameter that is not known.
    """
    from torch.nn import Sequential

    from normbench.train.place import built, check_site

    registry = plugins.current()
    _, asked = asked_norm(Choice(name, params, where="layer"), registry)
    parts = [(offered.thing, own) for offered, own in registry.parts(name, asked.params)]
    wraps = any(norm.placement == "weight" for norm, _ in parts)
    if (module is not None) != wraps:
        takes = "wraps a linear: give it as module=" if wraps else "wraps nothing: leave out module="
        raise UsageError(f"{asked.params.get(WITH, name)} {takes}")
    site = _site(site, channels, layout, activation)
    layers = []
    try:
        # What wraps the module comes first.
        for norm, own in reversed(parts):
            check_site(norm, site)
            wrapped = [module] if module is not None and norm.placement == "weight" else []
            layers.append(built(norm, site, own, *wrapped))
    except Unsupported as error:
        raise UsageError(str(error)) from None
    return layers[0] if len(layers) == 1 else Sequential(*layers)


def _site(site: object, channels: int | None, layout: Layout | None, activation: str | None) -> Site:
    """Return the site of a single layer. Raises UsageError where it is said twice, or not at all."""
    if site is None:
        if channels is None:
            raise UsageError("layer: it takes channels=, and perhaps layout= and activation=, or else site=")
        site = Site(channels, layout or "NCHW", activation)
    elif (channels, layout, activation) != (None, None, None):
        raise UsageError("layer: site= has channels, layout and activation; leave these out")
    elif not isinstance(site, Site):
        raise UsageError(f"layer: site is {site!r}; it is a normbench.Site(channels, layout, ...)")
    if site.layout not in ALL:
        raise unknown("layout", site.layout, ALL)
    return site


def register(thing: Norm | Task | Probe) -> None:
    """Register a norm, a task or a probe in this session, as a plugin would; the same name again replaces it."""
    plugins.register(thing)


def _plain(value: Any, where: str) -> Any:
    """Return a setting as TOML can spell it: numpy's and torch's become plain numbers. Raises UsageError."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(item, where) for item in value]
    if isinstance(value, dict):
        return {str(name): _plain(item, where) for name, item in value.items()}
    if isinstance(value, str | bool | int | float):
        return value
    raise UsageError(f"{where}: {value!r} is no number, text, true or false, nor a list or a table of these")


def _listed(names: Name | Sequence[Name]) -> list[Name]:
    return [names] if isinstance(names, str | Path) else list(names)


def _seeds(seeds: Any) -> int | list[int] | None:
    """Return a number of seeds, or a list of them, as Python's numbers where they were numpy's."""
    if hasattr(seeds, "tolist"):
        seeds = seeds.tolist()
    return seeds if seeds is None or isinstance(seeds, int) else [int(seed) for seed in seeds]


def _options(
    jobs: int | str | None, per_gpu: int | None, timeout: float | str | None, address: str | None
) -> dict[str, Any]:
    """Return those parameters of the executor that are given. Raises UsageError for a value that is not allowed."""
    if per_gpu is not None and per_gpu < 1:
        raise UsageError(f"per_gpu {per_gpu}: it is 1 or more")
    given = {
        "jobs": None if jobs is None else job_count(jobs, "jobs"),
        "per_gpu": per_gpu,
        "timeout": None if timeout is None else seconds(timeout, "timeout"),
        "address": address,
    }
    return {name: value for name, value in given.items() if value is not None}


def _check_types(function: Callable[..., Any], given: dict[str, Any]) -> None:
    """Raise UsageError where an argument is not of the type that a function's signature says."""
    # What is imported for type checkers alone is not there.
    hints, signature = get_type_hints(function, localns={"Figure": Any, "Comparison": Any}), inspect.signature(function)
    for name, value in given.items():
        if not _fits(value, hints[name]):
            if get_origin(hints[name]) is Literal and isinstance(value, str):
                raise unknown(name, value, get_args(hints[name]), function.__name__)
            wanted = signature.parameters[name].annotation
            raise UsageError(f"{function.__name__}: {name} is {value!r}; it takes {wanted}")


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of a type; numpy's numbers and arrays are numbers and sequences, too."""
    kind, args = get_origin(hint) or hint, get_args(hint)
    if kind in (Union, UnionType):
        return any(_fits(value, one) for one in args)
    if kind is Literal:
        return value in args
    if kind is Sequence:
        plain = isinstance(value, Collection) and not isinstance(value, str | dict)
        return plain and all(_fits(item, args[0]) for item in value)
    if kind in (int, float):
        return isinstance(value, Integral if kind is int else Real) and not isinstance(value, bool)
    return isinstance(value, kind)

"""`normbench show`: all that is stored of one trial."""

from __future__ import annotations

import itertools
import math
import operator
from bisect import bisect_left
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from normbench.cli import completion, folders, output
from normbench.errors import UsageError
from normbench.report.again import of_trial
from normbench.spelling import assignments, spelled
from normbench.store import Store
from normbench.store.records import UNKNOWN, EnvironmentRecord, Series, TraceRecord, TrialRecord
from normbench.texts import as_json, counted

#: From the lowest to the highest, and how many of them stand in a line, at most.
_BLOCKS, _COLUMNS = "▁▂▃▄▅▆▇█", 60


def command(
    trial: Annotated[str, typer.Argument(metavar="TRIAL", help="A trial's key, or its first characters.")],
    folder: Annotated[
        Path | None,
        typer.Option(
            "--in",
            metavar="DIR|FILE",
            help="The results folder, or an export.  [default: each below results, and the current folder]",
            show_default=False,
            autocompletion=completion.results,
        ),
    ] = None,
    json: output.JsonOption = False,
) -> None:
    """Show all that is stored of one trial; `normbench plan SUITE --trials` lists the keys."""
    store, record = _find(trial, folder)
    environment = store.environments().get(record.environment, UNKNOWN)
    traces = [trace for trace in store.traces() if (trace.key, trace.run) == (record.key, record.run)]
    if json:
        beside = {"environment": environment, "traces": traces}
        output.put(as_json(msgspec.to_builtins(record) | msgspec.to_builtins(beside)))
        return
    output.put_lines(f"{name:<12} {text}" for name, text in _lines(store, record, environment, traces))


def _find(key: str, folder: Path | None) -> tuple[Store, TrialRecord]:
    """Return the latest record of the trial whose key begins so, and its store."""
    places = [folder] if folder else [Path(), *sorted(folders.at_hand())]
    stores = [Store(path) for path in places]
    if folder:
        folders.require_runs(stores[0])
    begun = [(store, record) for store in stores for record in store.trials() if record.key.startswith(key)]
    for store in stores:
        output.warn_of_unreadable(store)
    if not begun:
        where = ", ".join(str(path) for path in places)
        raise UsageError(f"no trial {key!r} in {where}; normbench plan SUITE --trials lists the keys")
    keys = sorted({record.key for _, record in begun})
    if len(keys) > 1:
        raise UsageError(f"{key!r} begins the keys of {len(keys)} trials ({', '.join(keys[:3])}, ...); give more of it")
    return begun[-1]


def _lines(
    store: Store, record: TrialRecord, environment: EnvironmentRecord, traces: list[TraceRecord]
) -> list[tuple[str, str]]:
    measure = record.measure
    score = "none" if record.score is None else _score(record.score, measure.unit)
    validation = "none" if record.validation is None else _score(record.validation, measure.unit)
    outcome = record.outcome + (f" at step {record.diverged_at}" if record.diverged_at else "")
    until = " (to the end of the epoch in which it diverged)" if record.diverged_at else ""
    trained = f"{record.steps} steps{until} in {record.seconds:.2f} s, {record.threads} threads, {record.device}"
    lines = [
        ("trial", f"{record.key} in {store.folder}"),
        ("task", f"{spelled(record.task, record.task_params)} v{record.task_version}"),
        ("norm", spelled(record.norm, record.params)),
        ("recipe", assignments(record.recipe)),
        ("seed", str(record.seed)),
        ("outcome", f"{outcome}: {record.reason}" if record.reason else outcome),
        (measure.name, f"{score} on test, {validation} on validation (chance {_score(measure.chance, measure.unit)})"),
        ("trained", trained),
    ]
    lines += [("not decayed", _spared(record))] * bool(record.spared)
    for name, values in record.series.items():
        unit, steps = (measure.unit, record.validated) if name == "validation" else ("", [])
        lines += [(name, _series(values, unit, steps))] * bool(values)
    lines += [line for trace in traces if trace.probe == "curve" for line in _curve(trace.series.get("loss"))]
    lines += _in_column("probes", [_watched(trace) for trace in traces if trace.asked in record.probes])
    lines += [("not finite", ", ".join(f"{name} is {value}" for name, value in record.nonfinite.items()))] * bool(
        record.nonfinite
    )
    packages = ", ".join(f"{name} {version}" for name, version in environment.packages.items())
    hardware = environment.accelerator or environment.processor or "unknown"
    lines += [
        ("environment", f"{hardware}; Python {environment.python or 'unknown'}; {packages}"),
        ("code", f"norm {record.norm_print or 'not printable'}, task {record.task_print or 'not printable'}"),
        *_files(store, record),
        ("stored", f"{record.finished} by run {record.run}"),
        ("run it with", of_trial(store, record)),
    ]
    return lines


def _files(store: Store, record: TrialRecord) -> list[tuple[str, str]]:
    """Return the files that a trial was made from, one per line."""
    read = [source for stored in store.source_records() for source in stored.files if stored.sources == record.sources]
    named = [f"{source.path}  {source.sha256[:12]}  {source.at or 'elsewhere'}" for source in read]
    return _in_column("files", named)


def _in_column(name: str, texts: list[str]) -> list[tuple[str, str]]:
    """Return one line per text, the first of which has the name."""
    return list(zip([name, *[""] * len(texts)], texts, strict=False))


def _spared(record: TrialRecord) -> str:
    """Return what weight decay spares: how many parameters of each name, of norms and elsewhere."""
    listed = {
        where: ", ".join(f"{name} ({count})" for name, count in names.items()) for where, names in record.spared.items()
    }
    return "; ".join(f"{where}: {names}" for where, names in listed.items())


def _score(score: float, unit: str) -> str:
    return f"{100 * score:.2f}%" if unit == "%" else f"{score:.4f} {unit}".rstrip()


def _series(values: list[float | None], unit: str, steps: list[int]) -> str:
    """Return the values of a series, and after how many steps each was measured; without these one per epoch."""
    measured = f"after {', '.join(map(str, steps))} steps" if steps else "one per epoch"
    return " ".join("–" if value is None else _score(value, unit) for value in values) + f"  ({measured})"


def _curve(loss: Series | None) -> list[tuple[str, str]]:
    """Return the loss by step as a line of blocks, and one that says its ends and its scale."""
    if loss is None or not loss.step:
        return []
    values = [float(value) for value in loss.value if not isinstance(value, list)]
    steps = loss.step[-1] + 1
    means = _means(loss.step, values, min(_COLUMNS, steps))
    finite = [mean for mean in means if math.isfinite(mean)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    heights = [(mean - low) / ((high - low) or 1.0) for mean in means]
    drawn = [_BLOCKS[round(height * (len(_BLOCKS) - 1))] if math.isfinite(height) else "×" for height in heights]
    scale = [f"{_BLOCKS[0]} is {low:.3g}, {_BLOCKS[-1]} is {high:.3g}"] * bool(finite)
    lost = ["× is not finite"] * ("×" in drawn)
    where = f"in {counted(steps, 'step')}" if math.isfinite(values[-1]) else f"at step {steps}"
    ends = f"from {values[0]:.3g} to {values[-1]:.3g} {where}"
    return [("loss by step", "".join(drawn)), ("", "; ".join([ends, ", ".join(scale + lost)]))]


def _watched(trace: TraceRecord) -> str:
    """Return what a probe gave, and at how many steps; or why it does not apply."""
    if trace.reason:
        return f"{trace.asked}: does not apply: {trace.reason}"
    given = {name: series.step for name, series in trace.series.items() if (trace.probe, name) != ("curve", "loss")}
    looks = len(set().union(*given.values()))
    return f"{trace.asked}: {', '.join(given) or 'nothing'}; {counted(looks, 'look')}"


def _means(steps: list[int], values: list[float], columns: int) -> list[float]:
    """Return the mean of a thinned series in each of so many stretches of its steps; a value counts for those it ends.

    Where a stretch has no value of its own, it is part of what the next value is the mean of.
    """
    weights = [step - before for before, step in itertools.pairwise([-1, *steps])]
    lasts = [(column + 1) * (steps[-1] + 1) // columns - 1 for column in range(columns)]
    ends = [bisect_left(steps, last) + 1 for last in lasts]
    means = []
    for begin, end in itertools.pairwise([0, *ends]):
        own = slice(min(begin, end - 1), end)
        means.append(sum(map(operator.mul, values[own], weights[own])) / sum(weights[own]))
    return means

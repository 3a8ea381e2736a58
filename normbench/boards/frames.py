"""Records as frames of pandas, which is imported where one is made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from normbench.errors import UsageError
from normbench.spelling import spelled
from normbench.store.records import TraceRecord, TrialRecord

if TYPE_CHECKING:
    from pandas import DataFrame


def of_trials(trials: Sequence[TrialRecord]) -> DataFrame:
    """Return a frame with a trial per row, recipe values as columns."""
    pd = _pandas()
    rows = []
    for record in trials:
        row = msgspec.to_builtins(record)
        row.pop("measure")
        row |= {f"recipe.{name}": value for name, value in row.pop("recipe").items()}
        rows.append(row)
    return pd.DataFrame(rows)


def of_traces(traces: Sequence[TraceRecord]) -> DataFrame:
    """Return a frame with a number per row; see `normbench.Results.to_pandas`."""
    pd = _pandas()
    import numpy as np

    every = [(trace, name, series) for trace in traces for name, series in trace.series.items() if series.step]
    values = [np.array(series.rows()) for _, _, series in every]  # each (steps, sites)
    # First a row for each series, then that row for each of its numbers.
    columns = {name: [said(trace) for trace, _, _ in every] for name, said in _said(traces).items()}
    frame = pd.DataFrame({**columns, "series": [name for _, name, _ in every]})
    frame = frame.loc[np.repeat(np.arange(len(every)), [of.size for of in values])].reset_index(drop=True)
    none = np.zeros(0, dtype=int)
    places = [np.indices(of.shape).reshape(2, -1) for of in values]
    steps = [np.array(series.step)[at] for (_, _, series), (at, _) in zip(every, places, strict=True)]
    numbers = [np.full(of.size, not series.is_vector) for (_, _, series), of in zip(every, values, strict=True)]
    sites = np.concatenate([none, *(site for _, site in places)])
    frame["step"] = np.concatenate([none, *steps])
    frame["site"] = pd.arrays.IntegerArray(sites, np.concatenate([none.astype(bool), *numbers]))
    frame["value"] = np.concatenate([none.astype(float), *(of.ravel() for of in values)])
    first = ["trial", "task", "norm", "rate", "seed", "probe", "step", "site", "series", "value"]
    return frame[[*first, *(name for name in columns if name not in first)]]


def _said(traces: Sequence[TraceRecord]) -> dict[str, Callable[[TraceRecord], Any]]:
    """Return what gives each column that a trace says of itself: of the recipe the values that are not all the same."""
    names = dict.fromkeys(name for trace in traces for name in trace.recipe if name != "rate")
    varied = [name for name in names if len({repr(trace.recipe.get(name)) for trace in traces}) > 1]
    return {
        "trial": lambda trace: trace.key,
        "task": lambda trace: spelled(trace.task, trace.task_params),
        "norm": lambda trace: spelled(trace.norm, trace.params),
        "rate": lambda trace: trace.recipe.get("rate"),
        "seed": lambda trace: trace.seed,
        "probe": lambda trace: trace.asked,
        **{f"recipe.{name}": partial(_recipe_value, name) for name in varied},
    }


def _recipe_value(name: str, trace: TraceRecord) -> Any:
    return trace.recipe.get(name)


def _pandas() -> Any:
    try:
        import pandas as pd
    except ImportError:
        raise UsageError("to_pandas needs pandas: pip install 'normbench[pandas]'") from None
    return pd

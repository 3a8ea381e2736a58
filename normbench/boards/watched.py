"""What probes saw of the trials that boards show. No board reads it: it is drawn, and read from Python."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from normbench.boards.grid import made_alike
from normbench.store import Store
from normbench.store.records import Result, TraceRecord, TrialRecord


def shown_traces(store: Store, trials: Iterable[Result | TrialRecord]) -> Iterator[TraceRecord]:
    """Yield the traces of trials that are shown, made as they were, in the order in which they were stored.

    Of those that have `TraceRecord.of` in common the last counts.
    """
    # A trial may stand in two tables, whose latest runs used other code, or another device.
    shown: dict[str, list[Result | TrialRecord]] = {}
    for trial in trials:
        shown.setdefault(trial.key, []).append(trial)
    lists = store.sources()
    for trace in store.traces():
        for trial in shown.get(trace.key, ()):
            # Code that can't be hashed may be other code in each run.
            hashed = None not in (trace.norm_print, trace.task_print)
            if trace.device == trial.device and made_alike(trace, trial, lists) and (hashed or trace.run == trial.run):
                yield trace
                break

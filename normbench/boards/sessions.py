"""From a store to sessions: for each task and condition, each norm as the latest session measured it."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from normbench.stats.intervals import Interval, ratio_over_rounds
from normbench.store import Store
from normbench.store.records import EnvironmentRecord, RunRecord, SessionRecord, Timing
from normbench.texts import in_a_line
from normbench.trials import Cell

Trained: TypeAlias = Mapping[tuple[str, str], tuple[RunRecord, Cell]]


@dataclass(frozen=True)
class Figures:
    """One norm's rounds, in the latest session that measured it, and those of what it is compared to."""

    session: SessionRecord
    timing: Timing
    base: Timing

    def has_code_of(self, timing: Timing) -> bool:
        """Whether this was measured with the code that another session had: then a failure there does not undo it."""
        return timing.norm_print is not None and self.timing.has_code_of(timing)

    @property
    def ratio(self) -> Interval:
        """How many times the training samples a second of what it is compared to, over the rounds."""
        return ratio_over_rounds(self.base.train, self.timing.train)

    @property
    def train_samples_per_s(self) -> float:
        """Samples trained per second, over the rounds."""
        trained = self.session.steps * self.session.recipe.batch_size
        return statistics.median(trained / seconds for seconds in self.timing.train)

    @property
    def share(self) -> float | None:
        """The share of a training step that the norm takes, compared with no norm in the same round."""
        without = self.session.without
        if without is None or without.outcome != "measured" or without.norm_id == self.timing.norm_id:
            return None
        return 1 - statistics.median(a / b for a, b in zip(without.train, self.timing.train, strict=True))


@dataclass(frozen=True)
class Sessions:
    """One table's sessions put together: each norm as the latest measured it, and why others are not there.

    Both are by `Timing.norm_id`; `apart` has labels and reasons. `latest` is the latest session that has figures.
    `trained` has the latest run of each norm, by table and norm, and `environments` all that the store has.
    """

    latest: SessionRecord
    baseline: str
    figures: dict[str, Figures]
    apart: dict[str, tuple[str, str]]
    trained: Trained
    environments: Mapping[str, EnvironmentRecord]


def sessions(store: Store, only: frozenset[str] | None = None) -> dict[str, list[SessionRecord]]:
    """Return the sessions of each table, oldest first; `only` leaves out all but these tables."""
    of_tables: dict[str, list[SessionRecord]] = {}
    for session in store.sessions():
        if only is None or session.table_id in only:
            of_tables.setdefault(session.table_id, []).append(session)
    return of_tables


def gather_sessions(
    store: Store, only: frozenset[str] | None = None, baseline: str | None = None
) -> dict[str, Sessions]:
    """Return the sessions of each table put together, with ratios to a norm (left out: the sessions' own baseline).

    `only` leaves out all but these tables, by `Cell.table_id`.
    """
    stored = sessions(store, only)
    if not stored:
        return {}
    trained = {cell.row_id: (run, cell) for run in store.runs() for cell in run.cells}
    environments = store.environments()
    return {table: _together(measured, baseline, trained, environments) for table, measured in stored.items()}


def _together(
    measured: Sequence[SessionRecord],
    baseline: str | None,
    trained: Trained,
    environments: Mapping[str, EnvironmentRecord],
) -> Sessions:
    """Return the sessions of one table put together.

    A session's ratios can't be shown with the latest's if its device, its baseline, or the code of that or of the task
    is another: norms that only such sessions measured stand apart. So do those that were not measured in the same
    rounds as the norm asked for, or with other code of it.
    """
    latest = next((session for session in reversed(measured) if session.stopped != "failed"), measured[-1])
    figures: dict[str, Figures] = {}
    apart: dict[str, tuple[str, str]] = {}
    for session in measured:
        other = _why_other(session, latest)
        for timing in session.timings:
            failed = _why_not(session, timing)
            known = figures.get(timing.norm_id)
            if not other and not failed:
                figures[timing.norm_id] = Figures(session, timing, session.baseline)
                apart.pop(timing.norm_id, None)
            elif known is None or not (other or known.has_code_of(timing)):
                figures.pop(timing.norm_id, None)
                apart[timing.norm_id] = timing.label, failed or other
    if baseline not in (None, latest.baseline.label):
        figures, alone = _beside(figures, baseline)
        apart |= alone
    return Sessions(latest, baseline or latest.baseline.label, figures, apart, trained, environments)


def _beside(figures: dict[str, Figures], baseline: str) -> tuple[dict[str, Figures], dict[str, tuple[str, str]]]:
    """Return figures with ratios to another norm than the sessions' baseline, and the norms left out, with why."""
    latest = next((one for one in figures.values() if one.timing.label == baseline), None)
    kept: dict[str, Figures] = {}
    apart: dict[str, tuple[str, str]] = {}
    for row, one in figures.items():
        timings = one.session.timings
        base = next((each for each in timings if each.label == baseline and not _why_not(one.session, each)), None)
        if base is None:
            apart[row] = one.timing.label, f"not measured in the same rounds as {baseline!r}"
        elif latest is None or not latest.has_code_of(base):
            apart[row] = one.timing.label, f"measured with other code of {baseline!r}"
        else:
            kept[row] = Figures(one.session, one.timing, base)
    return kept, apart


def _why_not(session: SessionRecord, timing: Timing) -> str:
    """Return why a session has no figures of a norm, or nothing where it has."""
    if timing.outcome != "measured":
        return f"{timing.outcome}: {in_a_line(timing.reason) or 'no reason given'}"
    return f"the baseline {session.baseline.label!r} could not be measured" if session.stopped == "failed" else ""


def _why_other(session: SessionRecord, latest: SessionRecord) -> str:
    """Return why a session's ratios can't stand beside the latest's, or nothing where they can."""
    ours, theirs = session.baseline, latest.baseline
    if session.device != latest.device:
        return f"measured on {session.device} alone; the others on {latest.device}"
    if ours.norm_id != theirs.norm_id:
        return f"measured beside {ours.label!r}, not beside {theirs.label!r}"
    if not ours.has_code_of(theirs) or session.task_print != latest.task_print:
        edited = "the task" if ours.has_code_of(theirs) else repr(theirs.label)
        return f"measured with other code of {edited}"
    return ""

"""What a run stores, without training: a test says what each trial gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from normbench.execute.prepare import Prepared
from normbench.execute.run import run_record
from normbench.store.records import SCHEMA, Result, TrialRecord
from normbench.trials import Cell, Measure, Trial, shared

MEASURE = Measure(name="accuracy", unit="%", direction="up", chance=0.5, reference=1.0)


def store(prepared: Prepared, gave: Callable[[Trial], Any]) -> int:
    """Store what each wanted trial gave, stage by stage: its score, an outcome, or None where nothing is stored.

    Returns how many trials were stored.
    """
    record, done, stored = run_record(prepared), dict(prepared.stored.done), 0
    with prepared.store.writer() as writer:
        writer.append(record)
        seen: set[str] = set()
        while todo := [item for item in prepared.todo if item.trial.key not in seen]:
            for item in todo:
                seen.add(item.trial.key)
                given = gave(item.trial)
                if given is not None:
                    trial = record_of(item.cell, item.trial, given, record.run)
                    writer.append(trial)
                    done[trial.key] = Result(**shared(Result, trial))
                    stored += 1
            prepared = prepared.with_done(done)
    return stored


def record_of(cell: Cell, trial: Trial, given: Any, run: str) -> TrialRecord:
    """Return the line of a trial that gave a score, or had an outcome without one."""
    scored = {"outcome": given} if isinstance(given, str) else {"score": given, "validation": given}
    return TrialRecord(
        **{"outcome": "trained", **scored},
        schema=SCHEMA,
        key=trial.key,
        run=run,
        finished="2024-01-01T00:00:00+00:00",
        task=trial.task,
        task_version=trial.task_version,
        norm=trial.norm,
        recipe={"rate": trial.recipe.rate},
        seed=trial.seed,
        norm_print=cell.norm_print,
        task_print=cell.task_print,
        device="cpu",
        environment="made up",
        measure=MEASURE,
    )

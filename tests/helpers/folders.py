"""Small result folders made of scores: a test says what each seed gave at each rate, and looks at the boards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from normbench.boards import tables
from normbench.contract import Recipe
from normbench.store import Store
from normbench.store.records import SCHEMA, RunRecord, Series, SessionRecord, Timing, TraceRecord, TrialRecord
from normbench.tables import Table
from normbench.tables.table import TableRow
from normbench.trials import FRESH, Cell, Kept, Measure

#: A score of .5 or more is trained; progress .9 is at .82.
ACCURACY = Measure(name="accuracy", unit="%", direction="up", chance=0.1, reference=0.9)
#: A score of 3 or less is trained; progress .9 is at 2.2.
BITS = Measure(name="entropy", unit="bits", direction="down", chance=4.0, reference=2.0)


class Folder:
    """A results folder: `add` stores what a run would, `table` and `rows` read a board of it."""

    def __init__(self, path: Path) -> None:
        self.store = Store(path)
        self._runs = 0

    def add(
        self,
        norms: dict[str, Any],
        *,
        task: str = "spirals",
        task_version: int = 1,
        measure: Measure = ACCURACY,
        settings: tuple[dict[str, Any], ...] = ({},),
        condition: dict[str, Any] | None = None,
        protocol: str = "tuned",
        norm_print: str | None = "norm print",
        task_print: str | None = "task print",
        device: str = "cpu",
        baseline: str = "batchnorm",
        suite: dict[str, Any] | None = None,
        command: list[str] | None = None,
        started: str | None = None,
        fresh: dict[str, dict[float, list[Any]]] | None = None,
        kept: Kept | None = None,
    ) -> Store:
        """Store a run of norms, each a dict {rate: [what each seed gave]}, or a list of them, one a setting.

        What a seed gave is its score; or an outcome; or fields of a TrialRecord; or None where it is not stored.
        Validation scores equal those on test where they are not given. `fresh` is what fresh seeds of norms gave, at
        the first setting.
        """
        self._runs += 1
        fresh = fresh or {}
        grids = {norm: given if isinstance(given, list) else [given] for norm, given in norms.items()}
        columns = [column for given in grids.values() for grid in given for column in grid.items()]
        cells = [
            Cell(
                task=task,
                task_version=task_version,
                norm=norm,
                label=norm,
                recipe=Recipe(rate=0.1, batch_size=8, epochs=3, hold_out=protocol == "tuned", **condition or {}),
                condition=condition or {},
                rates=sorted({rate for rate, _ in columns}),
                settings=list(settings),
                seeds=list(range(max(len(seeds) for _, seeds in columns))),
                norm_print=norm_print,
                task_print=task_print,
                fresh=[FRESH + i for i in range(max(map(len, fresh.get(norm, {}).values()), default=0))],
                kept=kept,
            )
            for norm in norms
        ]
        run = RunRecord(
            schema=1,
            run=f"run {self._runs}",
            started=started or f"2024-01-01T00:00:{self._runs:02}+00:00",
            command=command or ["normbench", "run"],
            version="0",
            device=device,
            suite=suite or {},
            baseline=baseline,
            protocol=protocol,
            cells=cells,
        )
        with self.store.writer() as writer:
            writer.append(run)
            for cell in cells:
                for setting, grid in zip(settings, grids[cell.norm], strict=True):
                    for rate, seeds in grid.items():
                        for seed, given in enumerate(seeds):
                            if given is not None:
                                writer.append(_record(run, cell, rate, setting, seed, given, measure))
                for rate, seeds in fresh.get(cell.norm, {}).items():
                    for seed, given in zip(cell.fresh, seeds, strict=False):
                        if given is not None:
                            writer.append(_record(run, cell, rate, settings[0], seed, given, measure))
        return self.store

    def watch(self, probe: str, seen: Callable[[TrialRecord], dict[str, Series] | None], **params: Any) -> Store:
        """Store what a probe saw of each trial that is stored: series by name; None for a trial that it did not see."""
        of_trial = set(TrialRecord.__struct_fields__) & set(TraceRecord.__struct_fields__) - {"series", "reason"}
        trials = list(self.store.trials())
        with self.store.writer() as writer:
            for trial in trials:
                if (series := seen(trial)) is not None:
                    own = {name: getattr(trial, name) for name in of_trial}
                    writer.append(TraceRecord(**own, probe=probe, probe_params=params, series=series))
        return self.store

    def time(self, task: str, **speeds: float) -> None:
        """Store a session of nine rounds of a task: batchnorm, and norms so many times as fast."""
        base, *norms = (
            Timing(norm=norm, label=norm, norm_print="norm print", train=[1 / speed] * 9, evaluation=[0.5 / speed] * 9)
            for norm, speed in {"batchnorm": 1.0, **speeds}.items()
        )
        record = SessionRecord(
            schema=SCHEMA,
            session=f"session of {task}",
            started="2024-01-01T00:00:00+00:00",
            finished="2024-01-01T00:01:00+00:00",
            command=["normbench"],
            version="0",
            task=task,
            task_version=1,
            task_print="task print",
            recipe=Recipe(rate=0.1, batch_size=8, epochs=3),
            device="cpu",
            environment="environment 1",
            rounds=9,
            steps=20,
            batches=10,
            batch=100,
            stopped="precise",
            baseline=base,
            again=base,
            norms=norms,
        )
        with self.store.writer() as writer:
            writer.append(record)

    def table(self, board: str) -> Table:
        """Return the folder's only table of a board."""
        [table] = tables(self.store, (board,))
        return table

    def rows(self, board: str) -> dict[str, TableRow]:
        """Return the rows of the folder's only table of a board, by norm."""
        return {row.norm: row for row in self.table(board).rows}


def _record(
    run: RunRecord, cell: Cell, rate: float, setting: dict[str, Any], seed: int, given: Any, measure: Measure
) -> TrialRecord:
    trial = cell.trial(rate, setting, seed)
    fields = given if isinstance(given, dict) else {"outcome": given} if isinstance(given, str) else {"score": given}
    if fields.get("outcome") == "diverged":
        fields = {"score": measure.chance, **fields}
    if "score" in fields:
        outcome = "trained" if measure.trained(fields["score"]) else "not-trained"
        fields = {"outcome": outcome, "validation": fields["score"] if cell.recipe.hold_out else None, **fields}
    stored = {
        "schema": SCHEMA,
        "key": trial.key,
        "run": run.run,
        "finished": run.started,
        "task": trial.task,
        "task_version": trial.task_version,
        "norm": trial.norm,
        "recipe": msgspec.to_builtins(trial.recipe),
        "seed": seed,
        "norm_print": cell.norm_print,
        "task_print": cell.task_print,
        "device": run.device,
        "environment": "environment 1",
        "measure": measure,
    }
    return TrialRecord(**{**stored, **fields})


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """Return an empty results folder."""
    return Folder(tmp_path / "results")


@pytest.fixture
def head(tmp_path: Path) -> Folder:
    """Return a second empty results folder, to hold against the first."""
    return Folder(tmp_path / "head")


@pytest.fixture
def bits() -> Measure:
    """Return a measure of which less is better."""
    return BITS

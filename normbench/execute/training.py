"""Training what is not done: trials cut into packs, handed to an executor, and stored as their outcomes come."""

from __future__ import annotations

import itertools
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from normbench import contract, plugins
from normbench.errors import UsageError
from normbench.execute import environment
from normbench.records import (
    FAILED,
    FINAL,
    SCHEMA,
    Cell,
    Made,
    Measure,
    Outcome,
    Pack,
    RunRecord,
    SessionRecord,
    Trial,
    TrialRecord,
    without_nonfinite,
)
from normbench.store import Store, Writer
from normbench.suites import spelled
from normbench.surroundings import listed

if TYPE_CHECKING:
    from normbench.execute.run import Prepared, Work


@dataclass(frozen=True)
class Progress:
    """Handed to `on_progress` after each trial: how many of how many are done, the trial, and what it gave."""

    done: int
    total: int
    cell: Cell
    key: str
    outcome: Outcome
    measure: Measure


@dataclass
class Summary:
    """What a run did: trials run, outcomes that were failures of the run, not of a layer, and what is to be said."""

    folder: Path
    ran: int = 0
    stored_before: int = 0
    failed: list[Outcome] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    sessions: list[SessionRecord] = field(default_factory=list)


class Training:
    """Hands what is not done to the executor, and stores each outcome as it comes."""

    def __init__(
        self,
        prepared: Prepared,
        writer: Writer,
        record: RunRecord,
        summary: Summary,
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self._prepared, self._writer, self._record = prepared, writer, record
        self._summary, self._on_progress = summary, on_progress
        self._environment = ""
        self._cells = {item.trial.key: item.cell for item in prepared.todo}
        self._measures = {cell.task: Measure.of(prepared.registry.task(cell.task)) for cell in prepared.cells}

    def run(self) -> None:
        """Try one step of every norm, and train; return when all is stored."""
        asked, todo = self._prepared.executor, self._prepared.todo
        executor = self._prepared.registry.executor(asked.name)
        dry = _packs(self._prepared, _first_of_cells(todo), dry=True)
        contract.function(executor.run)(itertools.chain(dry, _packs(self._prepared, todo)), self._take, **asked.params)
        self._begin()
        with suppress(OSError):  # where it is not empty
            _checkpoints(self._prepared.store).rmdir()

    def _begin(self) -> None:
        """Store the run, once: where the very first steps fail there is none."""
        if not self._environment:
            self._environment = self._writer.environment(environment.describe(self._prepared.device))
            self._writer.append(self._record)

    def _take(self, outcome: Outcome) -> None:
        key = outcome.trial.key
        cell = self._cells[key]
        if outcome.dry:
            on = spelled(cell.task, cell.task_params)
            raise UsageError(f"norm {cell.label!r} on {on}, in the first step: {outcome.reason}")
        self._begin()
        measure, summary = self._measures[cell.task], self._summary
        probes = self._prepared.request.probes
        made = outcome.made or Made(norm_print=cell.norm_print, task_print=cell.task_print)
        key_of_files = self._writer.sources(made.files)
        record = _trial_record(outcome, made, key_of_files, self._record, self._environment, measure, probes)
        self._writer.append(record)
        if outcome.outcome in FINAL:  # what failed may be tried again, and go on
            for checkpoint in _checkpoints(self._prepared.store).glob(f"{key}-*"):
                shutil.rmtree(checkpoint, ignore_errors=True)
        summary.ran += 1
        if outcome.outcome in FAILED:
            summary.failed.append(outcome)
        if outcome.changed:
            warning = _warning(cell, outcome.changed)
            if warning not in summary.warnings:
                summary.warnings.append(warning)
        if self._on_progress is not None:
            done = summary.stored_before + summary.ran
            self._on_progress(Progress(done, len(self._prepared.work), cell, key, outcome, measure))


def _packs(prepared: Prepared, todo: list[Work], *, dry: bool = False) -> Iterator[Pack]:
    """Cut the trials into packs: of one, as long as `train` has no lanes."""
    request = prepared.request
    here = prepared.registry.executor(prepared.executor.name).in_process
    registered = b"" if here else plugins.registered()
    common: dict[str, Any] = {
        "device": prepared.device,
        "data_dir": str(prepared.data_dir),
        "probes": tuple(request.probes),
        "plugin_files": tuple(str(file.absolute()) for file in request.plugin_files),
        "dry": dry,
        "checkpoint_every": math.inf if request.checkpoint_every is None else 60 * request.checkpoint_every,
    }
    for item in todo:
        used = _plugins(prepared, item.trial)
        yield Pack(
            trials=(item.trial,),
            plugins=() if here else tuple(used),
            cell=_cell(item, used, dry),
            registered=registered if plugins.SESSION in used else b"",
            checkpoint="" if dry else _checkpoint(prepared, item),
            **common,
        )


def _plugins(prepared: Prepared, trial: Trial) -> dict[str, plugins.Plugin]:
    """Return the plugins that a trial's norm, task and probes come from, by name: the norm's first."""
    registry = prepared.registry
    probes = [registry.probes[name] for name in prepared.request.probes]
    offered: list[plugins.Offered[Any]] = [registry.norms[trial.norm], registry.tasks[trial.task], *probes]
    return {one.plugin.name: one.plugin for one in offered}


def _cell(item: Work, used: dict[str, plugins.Plugin], dry: bool) -> str:
    """Return which packs a worker may train after this one: see `Pack`."""
    if all(plugin.built_in for plugin in used.values()):
        return ""
    cell, norm = item.cell, next(iter(used.values()))
    # What a first step leaves behind is not for the trials either; ranks take too long to start anew for that.
    apart = dry and item.trial.recipe.ranks == 1
    return msgspec.json.encode((apart, cell.table, "" if norm.built_in else cell.row)).decode()


def _warning(cell: Cell, changed: Sequence[str]) -> str:
    """Say what a norm's training changed."""
    where = spelled(cell.task, cell.task_params)
    return f"training norm {cell.label!r} on {where} changed {listed(changed)}, which was put back after each trial"


def _checkpoints(store: Store) -> Path:
    """Return the folder where trainings are saved while they go on."""
    return store.folder.absolute() / "checkpoints"


def _checkpoint(prepared: Prepared, item: Work) -> str:
    """Return the folder of a trial's checkpoint: where one is asked for, or one was left behind by the same code."""
    cell = item.cell
    if cell.norm_print is None or cell.task_print is None:
        return ""
    name = "-".join([item.trial.key, cell.norm_print, cell.task_print, environment.kind(prepared.device)])
    folder = _checkpoints(prepared.store) / name
    return str(folder) if prepared.request.checkpoint_every is not None or folder.exists() else ""


def _first_of_cells(work: list[Work]) -> list[Work]:
    """Return the first trial of each cell, and of each of its tuned settings."""

    def group(item: Work) -> tuple[str, str, contract.Recipe]:
        return item.cell.table, item.cell.row, msgspec.structs.replace(item.trial.recipe, rate=item.cell.recipe.rate)

    return list({group(item): item for item in reversed(work)}.values())[::-1]


def run_record(prepared: Prepared) -> RunRecord:
    """Return the line of a run that begins now."""
    started = datetime.now(UTC)
    return RunRecord(
        schema=SCHEMA,
        run=environment.new_id(started),
        **environment.origin(started),
        device=environment.kind(prepared.device),
        suite=msgspec.to_builtins(prepared.suite),
        baseline=prepared.baseline,
        protocol=prepared.suite.protocol,
        cells=prepared.cells,
        looks=list(prepared.request.looks),
        data_dir=prepared.data_dir_digest,
    )


def _trial_record(
    outcome: Outcome, made: Made, sources: str, run: RunRecord, env: str, measured: Measure, probes: Sequence[str]
) -> TrialRecord:
    trial = outcome.trial
    series, flags = without_nonfinite(outcome.series)
    return TrialRecord(
        schema=SCHEMA,
        key=trial.key,
        run=run.run,
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        task=trial.task,
        task_version=trial.task_version,
        task_params=trial.task_params,
        norm=trial.norm,
        params=trial.params,
        recipe=msgspec.to_builtins(trial.recipe),
        seed=trial.seed,
        norm_print=made.norm_print,
        task_print=made.task_print,
        sources=sources,
        data=outcome.data,
        device=run.device,
        environment=env,
        outcome=outcome.outcome,
        reason=outcome.reason,
        score=outcome.score,
        validation=outcome.validation,
        diverged_at=outcome.diverged_at,
        measure=measured,
        series=series,
        nonfinite=flags,
        probes=list(probes),
        steps=outcome.steps,
        epoch_steps=outcome.epoch_steps,
        lanes=outcome.lanes,
        threads=trial.recipe.threads,
        ranks=trial.recipe.ranks,
        device_batch=trial.recipe.device_batch,
        sync_ranks=trial.recipe.sync_ranks or trial.recipe.ranks,
        seconds=round(outcome.seconds, 4),
        eval_batch=outcome.eval_batch,
    )

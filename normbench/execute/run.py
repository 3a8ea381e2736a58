"""A run: trains what is not done, and stores each outcome as it comes; then measures throughput."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from normbench import contract, environment, plan
from normbench.errors import Lost, UsageError
from normbench.execute.packs import checkpoints, first_of_cells, packs
from normbench.execute.prepare import Prepared, again, in_order
from normbench.plan import Wanted
from normbench.recipe import OF_DATA
from normbench.spelling import spelled
from normbench.store import Writer
from normbench.store.records import (
    SCHEMA,
    Result,
    RunRecord,
    Series,
    SessionRecord,
    TraceRecord,
    TrialRecord,
    nonfinite,
)
from normbench.surroundings import listed
from normbench.throughput.wanted import OnSession, measure_all
from normbench.trials import FAILED, FINAL, Cell, Made, Measure, Outcome, RowId, Trace, Trial, shared


def run(
    prepared: Prepared,
    on_progress: Callable[[Progress], None] | None = None,
    on_start: Callable[[Prepared], None] | None = None,
    on_session: OnSession | None = None,
) -> Summary:
    """Run what is not done, storing each outcome as it comes. Running again finishes the rest.

    `on_start` is called with the plan once the folder is held, `on_progress` after each trial. Throughput comes last,
    when nothing else runs; `on_session` is called before each session and after each of its rounds.

    One step of every norm is tried first. Raises UsageError for a mistake that only shows here (a layer that raises, a
    data folder without the data), DiskFullError where nothing more can be stored, KeyboardInterrupt; in each case what
    was finished is stored.
    """
    with prepared.store.writer() as writer:
        if prepared.store.size() != prepared.size:  # another run has stored something since
            prepared = again(prepared, prepared.device)
        prepared, other = _on_this_data(prepared)
        record = run_record(prepared)
        summary = Summary(prepared.store.folder, stored_before=prepared.planned - prepared.left)
        if other:
            summary.warnings.append(
                f"{other} stored trials were trained on other data than {prepared.data_dir} has, and again now"
            )
        if on_start is not None and (prepared.left or prepared.sessions):
            on_start(prepared)
        if prepared.left:
            Run(prepared, writer, record, summary, on_progress).run()
        else:
            writer.append(record)
        summary.sessions += measure_all(prepared.sessions, writer, prepared.workplace, prepared.effort, on_session)
    return summary


def _on_this_data(prepared: Prepared) -> tuple[Prepared, int]:
    """Return the plan with those trials to do again that were trained on other data than this folder has; how many.

    The data is loaded only where a run that stored one of them had another data folder.
    """
    folders = {run.run: run.data_dir for run in prepared.store.runs()}
    done = prepared.stored.done
    doubtful = {
        trial.key: trial
        for cell in prepared.cells
        for trial in cell.every()
        if (stored := done.get(trial.key)) and stored.data and folders.get(stored.run) != prepared.data_dir_digest
    }
    if not doubtful:
        return prepared, 0
    samples = {_data_of(trial): trial for trial in doubtful.values()}
    try:
        with closing(prepared.workplace.stream("normbench.train.data:digests", list(samples.values()))) as computed:
            digests = dict(zip(samples, computed, strict=True))
    except Lost as lost:
        raise UsageError(f"{prepared.data_dir}: the data can't be loaded: {lost.reason}") from None
    other = {key for key, trial in doubtful.items() if done[key].data != digests[_data_of(trial)]}
    shown = sum(item.trial.key in other for item in prepared.work)
    return prepared.with_done({key: one for key, one in done.items() if key not in other}), shown


def _data_of(trial: Trial) -> str:
    """Return what identifies a trial's data in one folder: all that its loading may depend on."""
    of = (trial.task, trial.task_params, [getattr(trial.recipe, name) for name in OF_DATA])
    return msgspec.json.encode(of, order="sorted").decode()


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
    """What a run did: trials run, outcomes that were failures of the run and not of a layer, and warnings.

    `notes` say for a probe and a norm, each as it is shown, why the first does not apply.
    """

    folder: Path
    ran: int = 0
    stored_before: int = 0
    failed: list[Outcome] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    notes: dict[tuple[str, str], str] = field(default_factory=dict)
    sessions: list[SessionRecord] = field(default_factory=list)


class Run:
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
        self._cells: dict[str, Cell] = {}
        self._done = dict(prepared.stored.done)

    def run(self) -> None:
        """Try one step of every norm, and train stage by stage; return when all is stored."""
        asked = self._prepared.executor
        execute = contract.function(self._prepared.registry.executor(asked.name).run)
        tried: set[RowId] = set()
        while todo := self._wanted():
            self._cells |= {trial.key: cell for cell, trial, _ in todo}
            dry = first_of_cells([one for one in todo if one[0].row_id not in tried])
            tried |= {cell.row_id for cell, _, _ in todo}
            packed = (packs(self._prepared, dry, dry=True), packs(self._prepared, todo))
            execute(itertools.chain(*packed), self._take, **asked.params)
            self._prepared = self._prepared.with_done(self._done)
            # Fresh seeds may be stored already where the rate is that they were trained at.
            self._summary.stored_before = self._prepared.planned - self._prepared.left - self._summary.ran
        self._begin()
        with suppress(OSError):  # where it is not empty
            checkpoints(self._prepared.store).rmdir()

    def _wanted(self) -> list[Wanted]:
        """Return what is still to be trained, and was not handed to the executor before."""
        stored = self._prepared.stored
        wanted = plan.wanted(self._prepared.cells, self._done, stored.others)
        return in_order(one for one in wanted if one[1].key not in self._cells)

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
        summary = self._summary
        measure = Measure.of(self._prepared.registry.task(cell.task), cell.task_params)
        made = outcome.made or Made(norm_print=cell.norm_print, task_print=cell.task_print)
        key_of_files = self._writer.sources(made.files)
        failed = {trace.asked for trace in outcome.traces if trace.ended == "error"}
        probes = [probe for probe in self._prepared.request.probes if probe not in failed]
        record = _trial_record(outcome, made, key_of_files, self._record, self._environment, measure, probes)
        for trace in outcome.traces:
            if trace.ended != "error":
                self._writer.append(_trace_record(trace, record))
        self._writer.append(record)
        self._done[key] = Result(**shared(Result, record))  # whatever it gave: it is tried once by a run
        if outcome.outcome in FINAL:  # what failed may be tried again, and go on
            for checkpoint in checkpoints(self._prepared.store).glob(f"{key}-*"):
                shutil.rmtree(checkpoint, ignore_errors=True)
        summary.ran += 1
        if outcome.outcome in FAILED:
            summary.failed.append(outcome)
        self._note(outcome, cell)
        if self._on_progress is not None:
            done = summary.stored_before + summary.ran
            self._on_progress(Progress(done, self._prepared.planned, cell, key, outcome, measure))

    def _note(self, outcome: Outcome, cell: Cell) -> None:
        """Note what a trial changed, and which probes failed or do not apply."""
        summary, key = self._summary, outcome.trial.key
        if outcome.changed:
            on, changed = spelled(cell.task, cell.task_params), listed(outcome.changed)
            warning = f"training norm {cell.label!r} on {on} changed {changed}, which was put back after each trial"
            if warning not in summary.warnings:
                summary.warnings.append(warning)
        for trace in outcome.traces:
            probe, reason = trace.asked, trace.reason
            if trace.ended == "error":
                warning = f"probe {probe!r} failed, and has no trace of trial {key} ({cell.label}): {reason}"
                summary.warnings.append(warning)
            elif trace.ended == "unsupported":
                note = f"probe {probe!r} does not apply to norm {cell.label!r}: {reason}"
                summary.notes.setdefault((probe, cell.label), note)


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


def _trace_record(trace: Trace, record: TrialRecord) -> TraceRecord:
    """Return the line of what a probe saw of a trial, which says of it what the trial's own line does."""
    series = {name: Series.of(points) for name, points in trace.series.items()}
    return TraceRecord(**shared(TraceRecord, record, trace) | {"series": series})


def _trial_record(
    outcome: Outcome, made: Made, sources: str, run: RunRecord, env: str, measured: Measure, probes: Sequence[str]
) -> TrialRecord:
    """Return a trial's line: what the trial, its code and its outcome say, by the same names, and what it ran with."""
    trial, recipe = outcome.trial, outcome.trial.recipe
    rounded = {"recipe": msgspec.to_builtins(recipe), "seconds": round(outcome.seconds, 4)}
    return TrialRecord(
        **shared(TrialRecord, trial, made, outcome) | rounded,
        schema=SCHEMA,
        key=trial.key,
        run=run.run,
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        sources=sources,
        device=run.device,
        environment=env,
        measure=measured,
        nonfinite=nonfinite(outcome.series, outcome.figures),
        probes=list(probes),
        threads=recipe.threads,
        ranks=recipe.ranks,
        device_batch=recipe.device_batch,
        sync_ranks=recipe.sync_ranks or recipe.ranks,
    )

"""A run: what is asked for, less what is stored, cut into packs, executed, and stored as it comes."""

from __future__ import annotations

import dataclasses
import os
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import platformdirs

from normbench import contract, plan, plugins, suites
from normbench.errors import UsageError
from normbench.execute import environment
from normbench.execute.sessions import SECONDS, OnSession, Session, measure_all, missing, printed, sessions
from normbench.plugins import Registry
from normbench.records import (
    FAILED,
    FINAL,
    SCHEMA,
    Cell,
    Measure,
    Outcome,
    Pack,
    Result,
    RunRecord,
    SessionRecord,
    Trial,
    TrialRecord,
    without_nonfinite,
)
from normbench.store import Store, Writer
from normbench.suites import Suite


@dataclass(frozen=True)
class Request:
    """What a user asks to run; the fields are the options of `normbench run`."""

    suite: str
    norms: Sequence[str] = ()
    seeds: str | None = None
    settings: Sequence[str] = ()
    plugin_files: Sequence[Path] = ()
    out: Path | None = None
    data_dir: Path | None = None
    device: str = "auto"
    probes: Sequence[str] = ()
    retry: bool = False
    executor: str = "serial"
    throughput: bool = True
    seconds: float = SECONDS


@dataclass(frozen=True)
class Work:
    """One trial of a plan: its cell, itself, and the stored result that makes it done, or that was not final."""

    cell: Cell
    trial: Trial
    stored: Result | None
    done: bool


@dataclass
class Prepared:
    """A request, resolved: the plan held against the store; `sessions` are what is left of `asked_sessions`."""

    request: Request
    suite: Suite
    registry: Registry
    store: Store
    cells: list[Cell]
    baseline: str
    device: str
    work: list[Work]
    asked_sessions: list[Session]
    sessions: list[Session]

    @property
    def tables(self) -> frozenset[str]:
        """The tables that this run's trials stand in."""
        return frozenset(cell.table for cell in self.cells)

    @property
    def todo(self) -> list[Work]:
        """The trials that are not done."""
        return [item for item in self.work if not item.done]


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
    """What a run did: trials run and outcomes that were failures of the run, not of a layer."""

    folder: Path
    ran: int = 0
    stored_before: int = 0
    failed: list[Outcome] = field(default_factory=list)
    sessions: list[SessionRecord] = field(default_factory=list)


def prepare(request: Request) -> Prepared:
    """Resolve a request and hold it against what is stored; trains nothing, and imports no torch.

    Raises UsageError for whatever in the request can't be.
    """
    registry = plugins.current(tuple(request.plugin_files))
    suite, where = find_suite(request.suite, registry)
    suite = suites.changed(suite, norms=request.norms, seeds=request.seeds, settings=request.settings)
    for name in request.probes:
        registry.probe(name, "--probe")
    registry.executor(request.executor, "--executor")
    data_dir(request.data_dir)
    norms_where = "--norm" if request.norms else ""
    cells = [printed(cell, registry) for cell in plan.cells(suite, registry, where, norms_where)]
    store = Store(request.out or Path("results") / suite.name)
    if store.folder.is_file():
        raise UsageError(f"--out {store.folder}: a file, which is not written to; name a folder")
    device = environment.likely(request.device)
    work = list(_held_against(store, cells, environment.kind(device), request))
    baseline = plan.baseline(suite, registry, where)
    asked = sessions(cells, baseline, registry, where) if request.throughput else []
    left = missing(asked, store, environment.kind(device), retry=request.retry)
    return Prepared(request, suite, registry, store, cells, baseline, device, work, asked, left)


def settled(prepared: Prepared) -> Prepared:
    """Return the plan for the device that torch sees here; `prepare` guessed it, so that no mistake waits for torch.

    Raises UsageError for a device that is not there.
    """
    device = environment.resolve(prepared.request.device)
    if device == prepared.device:
        return prepared
    return prepare(dataclasses.replace(prepared.request, device=device))


def run(
    prepared: Prepared,
    on_progress: Callable[[Progress], None] | None = None,
    on_start: Callable[[], None] | None = None,
    on_session: OnSession | None = None,
) -> Summary:
    """Run what is not done, storing each outcome as it comes. Running again finishes the rest.

    `on_start` is called once the folder is held, `on_progress` after each trial. Throughput comes last, when nothing
    else runs; `on_session` is called before each session and after each of its rounds.

    One step of every norm is tried first. Raises UsageError for a mistake that only shows here (a layer that raises, a
    data folder without the data), DiskFullError where nothing more can be stored, KeyboardInterrupt; in each case what
    was finished is stored.
    """
    todo = prepared.todo
    summary = Summary(prepared.store.folder, stored_before=len(prepared.work) - len(todo))
    with prepared.store.writer() as writer:
        record = _run_record(prepared)
        if on_start is not None and (todo or prepared.sessions):
            on_start()
        if todo:
            from normbench.train import dry_run

            dry_run(_packs(prepared, _first_of_cells(todo)))
        writer.append(record)
        if todo:
            _train(prepared, writer, record, summary, on_progress)
        summary.sessions += measure_all(
            prepared.sessions,
            writer,
            registry=prepared.registry,
            device=prepared.device,
            data_dir=str(data_dir(prepared.request.data_dir)),
            seconds=prepared.request.seconds,
            on_session=on_session,
        )
    return summary


def _train(
    prepared: Prepared,
    writer: Writer,
    record: RunRecord,
    summary: Summary,
    on_progress: Callable[[Progress], None] | None,
) -> None:
    """Train what is not done, and store each outcome as it comes."""
    env = writer.environment(environment.describe(prepared.device))
    cells = {item.trial.key: item.cell for item in prepared.todo}
    measures = {cell.task: Measure.of(prepared.registry.task(cell.task)) for cell in prepared.cells}

    def on_outcome(outcome: Outcome) -> None:
        key = outcome.trial.key
        cell = cells[key]
        writer.append(_trial_record(outcome, cell, record, env, measures[cell.task], prepared.request.probes))
        summary.ran += 1
        if outcome.outcome in FAILED:
            summary.failed.append(outcome)
        if on_progress is not None:
            done = summary.stored_before + summary.ran
            on_progress(Progress(done, len(prepared.work), cell, key, outcome, measures[cell.task]))

    executor = prepared.registry.executor(prepared.request.executor)
    contract.function(executor.run)(_packs(prepared, prepared.todo), on_outcome)


def find_suite(name: str, registry: Registry) -> tuple[Suite, str]:
    """Return a suite by its name, or by the path of its file, and what to call it in messages."""
    path = Path(name)
    if path.suffix == ".toml" or "/" in name or os.sep in name:
        return suites.read(path), f"suite {path.name}"
    return suites.read(registry.suite(name)), f"suite {name}"


def seconds_left(work: Iterable[Work]) -> float | None:
    """Return the time that the trials not done should take, from what like ones took, or None where none is stored.

    A trial takes what its cell's trials took in the median, else what its task's did, else what all did.
    """
    items = list(work)
    took: dict[Any, list[float]] = {}
    for item in items:
        if item.stored is not None:
            for group in _groups(item.cell, item.trial):
                took.setdefault(group, []).append(item.stored.seconds / _length(item.trial))
    if not took:
        return None
    median = {group: statistics.median(seconds) for group, seconds in took.items()}
    total = 0.0
    for item in items:
        if not item.done:
            like = [median[group] for group in _groups(item.cell, item.trial) if group in median]
            if not like:
                return None
            total += like[0] * _length(item.trial)
    return total


def _groups(cell: Cell, trial: Trial) -> Iterator[tuple[str, ...]]:
    counted = "steps" if trial.recipe.steps else "epochs"
    yield counted, cell.table, cell.row
    yield counted, cell.table
    yield counted, cell.task
    yield (counted,)


def _length(trial: Trial) -> int:
    return trial.recipe.steps or trial.recipe.epochs


def _held_against(store: Store, cells: list[Cell], device: str, request: Request) -> Iterator[Work]:
    wanted = [(cell, trial) for cell in cells for trial in cell.trials()]
    # A seed of every norm before the next seed: an interrupted run leaves boards that compare like with like.
    order = {seed: i for i, seed in enumerate(dict.fromkeys(trial.seed for _, trial in wanted))}
    wanted.sort(key=lambda pair: order[pair[1].seed])
    prints_of = {trial.key: (cell.norm_print, cell.task_print) for cell, trial in wanted}
    stored: dict[str, Result] = {}
    for result in store.results():
        if result.device == device and prints_of.get(result.key) == (result.norm_print, result.task_print):
            stored[result.key] = result
    for cell, trial in wanted:
        yield _work(cell, trial, stored.get(trial.key), request)


def _work(cell: Cell, trial: Trial, found: Result | None, request: Request) -> Work:
    if found is None or None in (cell.norm_print, cell.task_print):
        return Work(cell, trial, None, done=False)
    final = found.outcome in FINAL or (found.outcome in ("oom", "timeout") and not request.retry)
    probed = found.outcome == "unsupported" or set(request.probes) <= set(found.probes)
    return Work(cell, trial, found, done=final and probed)


def _packs(prepared: Prepared, todo: list[Work]) -> Iterator[Pack]:
    """Cut the trials into packs: of one, as long as `train` has no lanes."""
    request = prepared.request
    for item in todo:
        yield Pack(
            trials=(item.trial,),
            device=prepared.device,
            data_dir=str(data_dir(request.data_dir)),
            probes=tuple(request.probes),
            plugin_files=tuple(str(file) for file in request.plugin_files),
        )


def _first_of_cells(work: list[Work]) -> list[Work]:
    """Return the first trial of each cell, and of each of its tuned settings."""

    def group(item: Work) -> tuple[str, str, contract.Recipe]:
        return item.cell.table, item.cell.row, msgspec.structs.replace(item.trial.recipe, rate=item.cell.recipe.rate)

    return list({group(item): item for item in reversed(work)}.values())[::-1]


def data_dir(given: Path | None) -> Path:
    """Return the folder of data: as given, else NORMBENCH_DATA, else in the user's cache folder."""
    if given is not None:
        if not given.is_dir():
            raise UsageError(f"--data-dir {given}: there is no such folder")
        return given
    from_environment = os.environ.get("NORMBENCH_DATA")
    if not from_environment:
        return platformdirs.user_cache_path("normbench") / "data"
    if not Path(from_environment).is_dir():
        raise UsageError(f"NORMBENCH_DATA={from_environment}: there is no such folder")
    return Path(from_environment)


def _run_record(prepared: Prepared) -> RunRecord:
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
    )


def _trial_record(
    outcome: Outcome, cell: Cell, run: RunRecord, env: str, measured: Measure, probes: Sequence[str]
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
        norm_print=cell.norm_print,
        task_print=cell.task_print,
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
        seconds=round(outcome.seconds, 4),
    )

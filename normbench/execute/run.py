"""A run: what is asked for, less what is stored, cut into packs, executed, and stored as it comes."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
import re
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import platformdirs

from normbench import contract, plan, plugins, prints, suites
from normbench.errors import Lost, UsageError
from normbench.execute import environment
from normbench.execute.calls import Workplace
from normbench.execute.sessions import AFTER_RUN, OnSession, Session, measure_all, missing, printed, sessions
from normbench.execute.training import Progress, Summary, Training, run_record
from normbench.plugins import Registry
from normbench.recipe import OF_DATA
from normbench.records import (
    FINAL,
    Cell,
    Result,
    Trial,
)
from normbench.sources import AtHand, require_unedited
from normbench.store import Store
from normbench.suites import Choice, Suite
from normbench.throughput import Effort


@dataclass(frozen=True)
class Request:
    """What a user asks to run; the fields are the options of `normbench run`.

    `options` are parameters of the executor that have an option of their own, like --jobs; `checkpoint_every` is in
    minutes. `gates` replace those of the suite; `looks` are the numbers of seeds at which --until decided looks.
    """

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
    executor: str = "processes"
    options: Mapping[str, Any] = field(default_factory=dict)
    checkpoint_every: float | None = None
    throughput: bool = True
    seconds: float = AFTER_RUN.seconds
    gates: Mapping[str, str] = field(default_factory=dict)
    looks: Sequence[int] = ()


@dataclass(frozen=True)
class Work:
    """One trial of a plan: its cell, itself, and the stored result that makes it done, or that was not final.

    `edited` is the path of a file for which a stored result does not count: it is not what it was.
    """

    cell: Cell
    trial: Trial
    stored: Result | None
    done: bool
    edited: str = ""


@dataclass
class Prepared:
    """A request, resolved: the plan held against the store; `sessions` are what is left of `asked_sessions`.

    `size` is that of the store when it was read, in bytes.
    """

    request: Request
    suite: Suite
    registry: Registry
    store: Store
    cells: list[Cell]
    baseline: str
    device: str
    executor: Choice
    work: list[Work]
    asked_sessions: list[Session]
    sessions: list[Session]
    size: int

    @property
    def data_dir(self) -> Path:
        """The folder of data, wherever a worker is."""
        return data_dir(self.request.data_dir).absolute()

    @property
    def workplace(self) -> Workplace:
        """Where throughput is measured, and fingerprints are taken."""
        files = tuple(self.request.plugin_files)
        return Workplace(self.registry, self.device, self.data_dir, self.executor, files)

    @property
    def effort(self) -> Effort:
        """When a session at the end of the run may end."""
        return dataclasses.replace(AFTER_RUN, seconds=self.request.seconds)

    @property
    def data_dir_digest(self) -> str:
        """A hash of the data folder's path: runs of one folder need not load the data to see that it is the same."""
        return hashlib.sha256(os.fsencode(self.data_dir.resolve())).hexdigest()[:8]

    @property
    def tables(self) -> frozenset[str]:
        """The tables that this run's trials stand in."""
        return frozenset(cell.table for cell in self.cells)

    @property
    def at_once(self) -> int:
        """How many trials should run at a time; a guess where that is left to the executor."""
        params = {**self.registry.executor(self.executor.name).params, **self.executor.params}
        jobs: int = params.get("jobs", 1)
        recipe = self.cells[0].recipe
        if jobs or environment.kind(self.device) != "cpu":
            return max(1, jobs)
        return max(1, environment.cores() // (recipe.devices * recipe.threads))

    @property
    def on_prints_alone(self) -> int:
        """How many trials are done by their code prints alone: of plugins, stored before files were recorded."""
        norms, tasks = self.registry.norms, self.registry.tasks
        done = [item.cell for item in self.work if item.done and item.stored is not None and not item.stored.sources]
        return sum(norms[cell.norm].plugin.has_files or tasks[cell.task].plugin.has_files for cell in done)

    @property
    def anew(self) -> list[str]:
        """What is to be said of norms that are trained anew: by every run, or as a file that they read was edited."""
        norms = {cell.norm for cell in self.cells if cell.norm_print is None}
        edited = dict.fromkeys((item.cell.label, item.edited) for item in self.work if item.edited)
        return [
            *(
                f"norm {name!r} is trained anew by every run: {_unprinted(name, self.registry)}"
                for name in sorted(norms)
            ),
            *(f"norm {label!r} is trained again: {file} is not what it was" for label, file in edited),
        ]

    @property
    def todo(self) -> list[Work]:
        """The trials that are not done."""
        return [item for item in self.work if not item.done]


def prepare(
    request: Request, *, suite: Suite | None = None, narrowed: Callable[[Cell], Cell | None] | None = None
) -> Prepared:
    """Resolve a request and hold it against what is stored; trains nothing, and imports no torch.

    `suite` is one that is resolved already; `narrowed` gives what is wanted of each cell, None for nothing.

    Raises UsageError for whatever in the request can't be.
    """
    plugins.refresh(request.plugin_files)
    prints.read_anew()
    registry = plugins.current(tuple(request.plugin_files))
    where = f"suite {request.suite}"
    if suite is None:
        suite, where = find_suite(request.suite, registry)
        suite = suites.changed(
            suite, norms=request.norms, seeds=request.seeds, settings=request.settings, gates=request.gates
        )
    for name in request.probes:
        registry.probe(name, "--probe")
    if request.checkpoint_every is not None and not 0 <= request.checkpoint_every < math.inf:
        raise UsageError(f"--checkpoint-every {request.checkpoint_every}: it is 0 or more minutes")
    executor = executor_of(request, registry)
    data_dir(request.data_dir)
    norms_where = "--norm" if request.norms else ""
    cells = [printed(cell, registry) for cell in plan.cells(suite, registry, where, norms_where)]
    if registry.executor(executor.name).in_process:
        require_unedited(one for cell in cells for one in (registry.norms[cell.norm], registry.tasks[cell.task]))
    if narrowed is not None:
        cells = [cell for cell in map(narrowed, cells) if cell is not None]
    store = Store(request.out or Path("results") / suite.name)
    if store.is_file():
        raise UsageError(f"--out {store.folder}: a file, which is not written to; name a folder")
    device = environment.likely(request.device)
    _check_nodes(cells, executor, registry)
    size, at_hand = store.size(), AtHand(registry, store.sources())
    work = list(_held_against(store, cells, environment.kind(device), request, at_hand))
    baseline = plan.baseline(suite, registry, where)
    asked = sessions(cells, baseline, registry, where) if request.throughput else []
    left = missing(asked, store, environment.kind(device), at_hand, retry=request.retry)
    return Prepared(request, suite, registry, store, cells, baseline, device, executor, work, asked, left, size)


def _unprinted(name: str, registry: Registry) -> str:
    """Say why a norm has no print."""
    for parameter, default in registry.norm(name).params.items():
        if callable(default) and not isinstance(default, type):
            return (
                f"the default of its parameter {parameter!r} is a {type(default).__name__}, and not a value or a name"
            )
    return "its source can't be read, or depends on objects that read differently in every process"


def settled(prepared: Prepared) -> Prepared:
    """Return the plan for the device that torch sees here; `prepare` guessed it, so that no mistake waits for torch.

    Raises UsageError for a device that is not there.
    """
    device = environment.resolve(prepared.request.device)
    return prepared if device == prepared.device else _again(prepared, device)


def _again(prepared: Prepared, device: str) -> Prepared:
    """Return the plan held against the store as it is now, for a device."""
    request = dataclasses.replace(prepared.request, device=device)
    cells = {(cell.table, cell.row): cell for cell in prepared.cells}

    def narrowed(cell: Cell) -> Cell | None:
        planned = cells.get((cell.table, cell.row))
        code = {"norm_print": cell.norm_print, "task_print": cell.task_print}
        return planned and msgspec.structs.replace(planned, **code)

    return prepare(request, suite=prepared.suite, narrowed=narrowed)


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
            prepared = _again(prepared, prepared.device)
        prepared, other = _on_this_data(prepared)
        todo, record = prepared.todo, run_record(prepared)
        summary = Summary(prepared.store.folder, stored_before=len(prepared.work) - len(todo))
        if other:
            summary.warnings.append(
                f"{other} stored trials were trained on other data than {prepared.data_dir} has, and again now"
            )
        if on_start is not None and (todo or prepared.sessions):
            on_start(prepared)
        if todo:
            Training(prepared, writer, record, summary, on_progress).run()
        else:
            writer.append(record)
        summary.sessions += measure_all(prepared.sessions, writer, prepared.workplace, prepared.effort, on_session)
    return summary


def _on_this_data(prepared: Prepared) -> tuple[Prepared, int]:
    """Return the plan with those trials to do again that were trained on other data than this folder has; how many.

    The data is loaded only where a run that stored one of them had another data folder.
    """
    folders = {run.run: run.data_dir for run in prepared.store.runs()}
    doubtful = [
        item
        for item in prepared.work
        if item.done and item.stored and item.stored.data and folders.get(item.stored.run) != prepared.data_dir_digest
    ]
    if not doubtful:
        return prepared, 0
    samples = {_data_of(item.trial): item.trial for item in doubtful}
    try:
        with closing(prepared.workplace.stream("normbench.train.data:digests", list(samples.values()))) as found:
            digests = dict(zip(samples, found, strict=True))
    except Lost as lost:
        raise UsageError(f"{prepared.data_dir}: the data can't be loaded: {lost.reason}") from None
    other = {item.trial.key for item in doubtful if item.stored and item.stored.data != digests[_data_of(item.trial)]}
    work = [dataclasses.replace(item, done=False) if item.trial.key in other else item for item in prepared.work]
    return dataclasses.replace(prepared, work=work), len(other)


def _data_of(trial: Trial) -> str:
    """Return what identifies a trial's data in one folder: all that its loading may depend on."""
    of = (trial.task, trial.task_params, [getattr(trial.recipe, name) for name in OF_DATA])
    return msgspec.json.encode(of, order="sorted").decode()


def _check_nodes(cells: Sequence[Cell], executor: Choice, registry: Registry) -> None:
    """Refuse trials on several machines where the executor has one."""
    able = [name for name, offered in registry.executors.items() if offered.thing.several_nodes]
    if executor.name in able:
        return
    for nodes in {setting.get("num_nodes", cell.recipe.num_nodes) for cell in cells for setting in cell.settings}:
        if nodes > 1:
            others = f"; {' or '.join(able)} on several" if able else ""
            raise UsageError(f"num_nodes is {nodes}: --executor {executor.name} trains on one machine{others}")


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


def _held_against(store: Store, cells: list[Cell], device: str, request: Request, at_hand: AtHand) -> Iterator[Work]:
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
        found = stored.get(trial.key)
        file = at_hand.edited(found.sources) if found else None
        yield Work(cell, trial, None, False, file) if file else _work(cell, trial, found, request)


def _work(cell: Cell, trial: Trial, found: Result | None, request: Request) -> Work:
    if found is None or None in (cell.norm_print, cell.task_print):
        return Work(cell, trial, None, done=False)
    final = found.outcome in FINAL or (found.outcome in ("oom", "timeout") and not request.retry)
    probed = found.outcome == "unsupported" or set(request.probes) <= set(found.probes)
    return Work(cell, trial, found, done=final and probed)


def executor_options(
    jobs: int | str | None = None,
    per_gpu: int | None = None,
    timeout: float | str | None = None,
    address: str | None = None,
) -> dict[str, Any]:
    """Return parameters of an executor as the options of `normbench run` give them; those that are None are left out.

    `jobs` is a number or "auto", `timeout` seconds or a time like 90s, 10m, 2h. Raises UsageError for what is neither.
    """
    given = {
        "jobs": None if jobs is None else _jobs(jobs),
        "per_gpu": per_gpu,
        "timeout": None if timeout is None else _time(timeout),
        "address": address,
    }
    if per_gpu is not None and per_gpu < 1:
        raise UsageError(f"--per-gpu {per_gpu}: it is 1 or more")
    return {name: value for name, value in given.items() if value is not None}


def _jobs(jobs: int | str) -> int:
    """Return a number of jobs; 0 for auto."""
    if jobs == "auto":
        return 0
    if not str(jobs).isdecimal() or int(jobs) < 1:
        raise UsageError(f"--jobs {jobs}: it is auto, or a number of 1 or more")
    return int(jobs)


def _time(text: float | str) -> float:
    """Return a time in seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+) *([smh]?)", str(text).strip())
    seconds = float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]] if match else 0.0
    if seconds <= 0:
        raise UsageError(f"--timeout {text}: a time is a number of seconds, or like 90s, 10m, 2h")
    return seconds


def executor_of(request: Request, registry: Registry) -> Choice:
    """Return the executor that is asked for, with its parameters checked. Raises UsageError for what can't be."""
    asked = suites.choice(request.executor, "--executor")
    executor = registry.executor(asked.name, "--executor")
    for name in request.options:
        if name not in executor.params:
            raise UsageError(f"--{name.replace('_', '-')}: the executor {asked.name} has no such option")
    params = contract.checked(executor.params, {**asked.params, **request.options}, f"--executor {asked.name}")
    return msgspec.structs.replace(asked, params=params)


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

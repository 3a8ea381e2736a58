"""A request, resolved: the plan, what of it is stored already, and so what is left to do. No torch."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from normbench import environment, plan, plugins, prints, suites
from normbench.calls import Workplace
from normbench.errors import UsageError
from normbench.execute.request import Request, executor_of, find_suite
from normbench.prints import with_prints
from normbench.registry import Registry
from normbench.sources import AtHand, require_unedited
from normbench.spelling import Choice
from normbench.store import Store
from normbench.store.records import Result
from normbench.suites import Suite
from normbench.throughput.entry import Effort
from normbench.throughput.wanted import AFTER_RUN, Session, missing, sessions
from normbench.trials import FINAL, Cell, Trial


@dataclass(frozen=True)
class Work:
    """One trial of a plan: its cell, itself, and the stored result that makes it done, or that was not final.

    `edited` is the path of a file that was changed since, so that a stored result does not count.
    """

    cell: Cell
    trial: Trial
    stored: Result | None
    done: bool
    edited: str = ""


@dataclass
class Prepared:
    """A request, resolved: the plan compared with the store; `sessions` are what is left of `asked_sessions`.

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
        return self.request.data_folder()

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
        return frozenset(cell.table_id for cell in self.cells)

    @property
    def at_once(self) -> int:
        """How many trials should run at a time; a guess where that is left to the executor."""
        executor = self.registry.executor(self.executor.name)
        jobs: int = {**executor.params, **self.executor.params}.get(executor.jobs, 1)
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
        """Which norms are trained anew, and why: by every run, or because a file that they read was edited."""
        norms = {cell.norm for cell in self.cells if cell.norm_print is None}
        edited = dict.fromkeys((item.cell.label, item.edited) for item in self.work if item.edited)
        unprinted = [(name, _unprinted(name, self.registry)) for name in sorted(norms)]
        anew = [f"norm {name!r} is trained anew by every run: {why}" for name, why in unprinted]
        return anew + [f"norm {label!r} is trained again: {file} was changed since" for label, file in edited]

    @property
    def todo(self) -> list[Work]:
        """The trials that are not done."""
        return [item for item in self.work if not item.done]


def prepare(
    request: Request, *, suite: Suite | None = None, narrowed: Callable[[Cell], Cell | None] | None = None
) -> Prepared:
    """Resolve a request and compare it with what is stored; trains nothing, and imports no torch.

    `suite` is one that is resolved already; `narrowed` returns the part of a cell that is wanted, or None.

    Raises UsageError for whatever the request asks that is not possible.
    """
    plugins.refresh(request.plugin_files)
    prints.read_anew()
    registry = plugins.current(tuple(request.plugin_files))
    where = f"suite {request.suite}"
    if suite is None:
        suite, where = find_suite(request.suite, registry)
        suite = suites.changed(
            suite,
            norms=request.norms,
            seeds=request.seeds,
            settings=request.settings,
            gates=request.gates,
            words=request.words,
        )
    for i, name in enumerate(request.probes):
        registry.probe(name, request.words("probes", i))
    if request.checkpoint_every is not None and not 0 <= request.checkpoint_every < math.inf:
        raise UsageError(f"{request.words('checkpoint_every')} {request.checkpoint_every}: it is 0 or more minutes")
    executor = executor_of(request, registry)
    request.data_folder()
    asked_by = [request.words("norms", i) for i in range(len(request.norms))]
    cells = [with_prints(cell, registry) for cell in plan.cells(suite, registry, where, asked_by)]
    if registry.executor(executor.name).in_process:
        require_unedited(one for cell in cells for one in (registry.norms[cell.norm], registry.tasks[cell.task]))
    if narrowed is not None:
        cells = [cell for cell in map(narrowed, cells) if cell is not None]
    store = Store(request.out or Path("results") / suite.name)
    if store.is_file():
        raise UsageError(f"{request.words('out')} {store.folder}: a file, which is not written to; name a folder")
    device = environment.likely(request.device)
    _check_nodes(cells, executor, registry)
    size, at_hand = store.size(), AtHand(registry, store.sources())
    work = list(_compared(store, cells, environment.kind(device), request, at_hand))
    baseline = plan.baseline(suite, registry, where)
    asked = sessions(cells, baseline, registry, where) if request.throughput else []
    left = missing(asked, store, environment.kind(device), at_hand, retry=request.retry)
    return Prepared(request, suite, registry, store, cells, baseline, device, executor, work, asked, left, size)


def _unprinted(name: str, registry: Registry) -> str:
    """Say why a norm has no print."""
    for parameter, default in registry.norm(name).params.items():
        if callable(default) and not isinstance(default, type):
            kind = type(default).__name__
            return f"the default of its parameter {parameter!r} is a {kind}, and not a value or a name"
    return "its source can't be read, or depends on objects that read differently in every process"


def on_device(prepared: Prepared) -> Prepared:
    """Return the plan for the device that torch sees here; `prepare` guessed it, so that no mistake waits for torch.

    Raises UsageError for a device that is not there.
    """
    device = environment.resolve(prepared.request.device)
    return prepared if device == prepared.device else again(prepared, device)


def again(prepared: Prepared, device: str) -> Prepared:
    """Return the plan compared with the store as it is now, for a device."""
    request = dataclasses.replace(prepared.request, device=device)
    cells = {(cell.table_id, cell.norm_id): cell for cell in prepared.cells}

    def narrowed(cell: Cell) -> Cell | None:
        planned = cells.get((cell.table_id, cell.norm_id))
        code = {"norm_print": cell.norm_print, "task_print": cell.task_print}
        return planned and msgspec.structs.replace(planned, **code)

    return prepare(request, suite=prepared.suite, narrowed=narrowed)


def _check_nodes(cells: Sequence[Cell], executor: Choice, registry: Registry) -> None:
    """Refuse trials on several machines where the executor has one."""
    able = [name for name, offered in registry.executors.items() if offered.thing.several_nodes]
    if executor.name in able:
        return
    for nodes in {setting.get("num_nodes", cell.recipe.num_nodes) for cell in cells for setting in cell.settings}:
        if nodes > 1:
            others = f"; {' or '.join(able)} on several" if able else ""
            raise UsageError(f"num_nodes is {nodes}: the executor {executor.name} trains on one machine{others}")


def seconds_left(work: Iterable[Work]) -> float | None:
    """Return the time that the trials not done should take, from what similar trials took; None where none is stored.

    A trial takes the median of its norm's trials in its table, else of the table's, else of the task's, else of all.
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
            similar = [median[group] for group in _groups(item.cell, item.trial) if group in median]
            if not similar:
                return None
            total += similar[0] * _length(item.trial)
    return total


def _groups(cell: Cell, trial: Trial) -> Iterator[tuple[str, ...]]:
    counted = "steps" if trial.recipe.steps else "epochs"
    yield counted, cell.table_id, cell.norm_id
    yield counted, cell.table_id
    yield counted, cell.task
    yield (counted,)


def _length(trial: Trial) -> int:
    return trial.recipe.steps or trial.recipe.epochs


def _compared(store: Store, cells: list[Cell], device: str, request: Request, at_hand: AtHand) -> Iterator[Work]:
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
        kept = stored.get(trial.key)
        file = at_hand.edited(kept.sources) if kept else None
        yield Work(cell, trial, None, False, file) if file else _work(cell, trial, kept, request)


def _work(cell: Cell, trial: Trial, stored: Result | None, request: Request) -> Work:
    if stored is None or None in (cell.norm_print, cell.task_print):
        return Work(cell, trial, None, done=False)
    final = stored.outcome in FINAL or (stored.outcome in ("oom", "timeout") and not request.retry)
    probed = stored.outcome == "unsupported" or set(request.probes) <= set(stored.probes)
    return Work(cell, trial, stored, done=final and probed)

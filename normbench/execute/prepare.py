"""A request, resolved: the plan, what of it is stored already, and so what is left to do. No torch."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from normbench import environment, plan, plugins, prints, suites
from normbench.calls import Workplace
from normbench.contract import Norm
from normbench.errors import UsageError
from normbench.execute.kept import as_chosen
from normbench.execute.request import Request, executor_of, plugins_of, suite_file
from normbench.plan import Stage, Wanted
from normbench.prints import with_prints
from normbench.registry import Registry
from normbench.sources import AtHand, require_unedited
from normbench.spelling import Choice
from normbench.store import RESULTS, Store
from normbench.store.records import Result
from normbench.suites import Suite
from normbench.throughput.entry import Effort
from normbench.throughput.wanted import AFTER_RUN, Session, missing, sessions
from normbench.trials import FINAL, Cell, RowId, Trial


@dataclass(frozen=True)
class Work:
    """One trial of a plan: its cell, itself, and the stored result that makes it done, or that was not final.

    `edited` is the path of a file that was changed since, so that a stored result does not count.
    """

    cell: Cell
    trial: Trial
    stage: Stage
    stored: Result | None
    done: bool
    edited: str = ""


@dataclass(frozen=True)
class Stored:
    """What is stored of cells: by key the latest result of their code and device, and the file that was changed since.

    `done` are the results that need no training, and whatever the `others` gave: seeds of earlier runs, by row, which
    boards count as well.
    """

    latest: dict[str, tuple[Result, str | None]]
    done: dict[str, Result]
    others: dict[RowId, set[int]]


@dataclass
class Prepared:
    """A request, resolved: the plan compared with the store; `sessions` are what is left of `asked_sessions`.

    `work` are the trials that are known; `coming` are the fresh seeds whose rate is not, each with its cell. `size` is
    that of the store when it was read, in bytes.
    """

    request: Request
    suite: Suite
    registry: Registry
    store: Store
    cells: list[Cell]
    baseline: str
    device: str
    executor: Choice
    stored: Stored
    work: list[Work]
    coming: list[tuple[Cell, int]]
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
        done = [item.cell for item in self.work if item.done and item.stored is not None and not item.stored.sources]
        return sum(any(one.plugin.has_files for one in self.registry.behind(cell)) for cell in done)

    @property
    def anew(self) -> list[str]:
        """Which norms are trained anew, and why: by every run, or because a file that they read was edited."""
        norms = [
            part
            for cell in self.cells
            if cell.norm_print is None
            for part in self.registry.parts(cell.norm, cell.params)
        ]
        unprinted = {norm.thing.name: norm.thing for norm, params in norms if prints.norm_print(norm, params) is None}
        edited = dict.fromkeys((item.cell.label, item.edited) for item in self.work if item.edited)
        anew = [
            f"norm {name!r} is trained anew by every run: {_unprinted(unprinted[name])}" for name in sorted(unprinted)
        ]
        return anew + [f"norm {label!r} is trained again: {file} was changed since" for label, file in edited]

    @property
    def todo(self) -> list[Work]:
        """The trials that are not done, and known."""
        return [item for item in self.work if not item.done]

    @property
    def left(self) -> int:
        """How many trials are to be run."""
        return len(self.todo) + len(self.coming)

    @property
    def planned(self) -> int:
        """How many trials there are, done or not."""
        return len(self.work) + len(self.coming)

    def with_done(self, done: dict[str, Result]) -> Prepared:
        """Return the plan where these results, by key, need no training."""
        stored = dataclasses.replace(self.stored, done=done)
        return dataclasses.replace(self, stored=stored, **_compared(self.cells, stored))


def prepare(
    request: Request, *, suite: Suite | None = None, narrowed: Callable[[Cell], Cell | None] | None = None
) -> Prepared:
    """Resolve a request and compare it with what is stored; trains nothing, and imports no torch.

    `suite` is one that is resolved already; `narrowed` returns the part of a cell that is wanted, or None.

    Raises UsageError for whatever the request asks that is not possible.
    """
    prints.read_anew()
    registry = _loaded(request.plugin_files)
    where = f"suite {request.suite}"
    if suite is None:
        file, where = suite_file(request.suite, registry)
        suite = suites.changed(
            suites.read(file),
            norms=request.norms,
            seeds=request.seeds,
            settings=request.settings,
            gates=request.gates,
            words=request.words,
        )
        files = [*request.plugin_files, *plugins_of(suite, file, registry, where)]
        request, registry = dataclasses.replace(request, plugin_files=files), _loaded(files)
    asked_by = [request.words("probes", i) for i in range(len(request.probes))]
    probes = plan.probes(suite, request.probes, asked_by, registry, where)
    request = dataclasses.replace(request, probes=probes)
    if request.checkpoint_every is not None and not 0 <= request.checkpoint_every < math.inf:
        raise UsageError(f"{request.words('checkpoint_every')} {request.checkpoint_every}: it is 0 or more minutes")
    executor = executor_of(request, registry)
    request.data_folder()
    # Those that are added stand behind the suite's own.
    asked_by = [f"{where}: norms"] * (len(suite.norms) - len(request.norms))
    asked_by += [request.words("norms", i) for i in range(len(request.norms))]
    planned = plan.cells(suite, registry, where, asked_by, fresh=request.fresh)
    cells = [with_prints(cell, registry) for cell in planned]
    if request.base is not None:
        cells = as_chosen(cells, request.base, request.words)
    if registry.executor(executor.name).in_process:
        require_unedited(one for cell in cells for one in registry.behind(cell))
    if narrowed is not None:
        cells = [cell for cell in map(narrowed, cells) if cell is not None]
    store = Store(request.out or RESULTS / suite.name)
    if store.is_file():
        raise UsageError(f"{request.words('out')} {store.folder}: a file, which is not written to; name a folder")
    device = environment.likely(request.device)
    _check_nodes(cells, executor, registry)
    size, at_hand = store.size(), AtHand(registry, store.sources())
    stored = _stored(store, cells, environment.kind(device), request, at_hand)
    baseline = plan.baseline(suite, registry, where)
    asked = sessions(cells, baseline, registry, where) if request.throughput else []
    left = missing(asked, store, environment.kind(device), at_hand, retry=request.retry)
    return Prepared(
        request=request,
        suite=suite,
        registry=registry,
        store=store,
        cells=cells,
        baseline=baseline,
        device=device,
        executor=executor,
        stored=stored,
        **_compared(cells, stored),
        asked_sessions=asked,
        sessions=left,
        size=size,
    )


def _loaded(files: Sequence[Path]) -> Registry:
    """Return the registry with plugins' files, each as it is now."""
    plugins.refresh(files)
    return plugins.current(tuple(files))


def _unprinted(norm: Norm) -> str:
    """Say why a norm has no print."""
    for parameter, default in norm.params.items():
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
    cells = {cell.row_id: cell for cell in prepared.cells}

    def narrowed(cell: Cell) -> Cell | None:
        planned = cells.get(cell.row_id)
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


def _stored(store: Store, cells: list[Cell], device: str, request: Request, at_hand: AtHand) -> Stored:
    """Read what is stored of cells; with looks, of their own seeds alone, since choices stay those of the first."""
    others: dict[RowId, set[int]] = {cell.row_id: set() for cell in cells if cell.fresh and not request.looks}
    for run in store.runs() if others else []:
        for cell in run.cells:
            others.get(cell.row_id, set()).update(cell.seeds)
    known = {trial.key: (cell, trial.seed) for cell in cells for trial in cell.every(others.get(cell.row_id, ()))}
    latest = {}
    for result in store.results():
        same_code = result.key in known and known[result.key][0].prints == (result.norm_print, result.task_print)
        if same_code and result.device == device:
            latest[result.key] = result
    edited = {key: (result, at_hand.edited(result.sources)) for key, result in latest.items()}
    done = {
        key: result for key, (result, file) in edited.items() if not file and _is_done(*known[key], result, request)
    }
    return Stored(edited, done, others)


def _is_done(cell: Cell, seed: int, stored: Result, request: Request) -> bool:
    if None in cell.prints:
        return False
    if seed not in cell.seeds and seed not in cell.fresh:
        return True
    final = stored.outcome in FINAL or (stored.outcome in ("oom", "timeout") and not request.retry)
    return final and (stored.outcome == "unsupported" or set(request.probes) <= set(stored.probes))


def _compared(cells: list[Cell], stored: Stored) -> dict[str, Any]:
    """Return the `work` of cells and what is `coming`."""
    known = plan.known(cells, stored.done, stored.others)
    work = [_work(cell, trial, stage, stored) for cell, trial, stage in in_order(known)]
    placed = {item.cell.row_id for item in work if item.stage == "fresh"}
    undone = {item.cell.row_id for item in work if not item.done} - placed
    coming = []
    for cell, seed in ((one, seed) for one in cells if one.row_id in undone for seed in one.fresh):
        # One that is stored at some rate counts as done: more seeds of a grid seldom choose another.
        there = next((trial for trial in cell.at_seed(seed) if trial.key in stored.done), None)
        if there is None:
            coming.append((cell, seed))
        else:
            work.append(_work(cell, there, "fresh", stored))
    return {"work": work, "coming": coming}


def in_order(trials: Iterable[Wanted]) -> list[Wanted]:
    """Return trials with a seed of every norm before the next, fresh seeds last.

    So an interrupted run leaves boards that compare like with like.
    """
    listed = list(trials)
    order = {seed: i for i, seed in enumerate(dict.fromkeys(trial.seed for _, trial, _ in listed))}
    return sorted(listed, key=lambda one: (one[2] == "fresh", order[one[1].seed]))


def _work(cell: Cell, trial: Trial, stage: Stage, stored: Stored) -> Work:
    result, edited = stored.latest.get(trial.key, (None, None))
    shown = None if edited or None in cell.prints else result
    return Work(cell, trial, stage, shown, trial.key in stored.done, edited or "")

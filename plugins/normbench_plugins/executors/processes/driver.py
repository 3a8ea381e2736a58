"""Packs in worker processes, several at a time: a trial that crashes or hangs costs itself, and the run nothing."""

from __future__ import annotations

import ast
import importlib.util
import os
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

import normbench
import normbench_plugins
from normbench import environment
from normbench.errors import Lost
from normbench_plugins.executors.processes.waiting import Attempt, Waiting

if TYPE_CHECKING:
    from normbench.trials import Call, Outcome, Pack
    from normbench_plugins.executors.processes.slot import Slot

Given = TypeVar("Given")

#: How often a pack whose worker died is given to another.
RETRIES = 1
#: The longest timeout, in seconds, some thirty years: the system can't wait for any time.
LONGEST = 1e9


def run(
    packs: Iterable[Pack],
    on_outcome: Callable[[Outcome], None],
    *,
    jobs: int = 0,
    per_gpu: int = 1,
    timeout: float = 0.0,
) -> None:
    """Train packs in `jobs` workers at a time, or as many as the cores or GPUs have room for.

    `per_gpu` trials of one device share a GPU. A pack that takes longer than `timeout` seconds a trial is killed with
    all it started. A worker that dies costs its pack one retry; one that trained packs of another `cell` is replaced.
    Trials of one shape (devices, threads) run together, each shape with workers of its own. Raises UsageError where the
    system has no fork, or a parameter can't be.
    """
    check(jobs, per_gpu, timeout)
    _check_system()
    for shape, attempts in _by_shape(packs):
        room = _room(shape, per_gpu)
        count = min(jobs or len(room), len(attempts))
        crew = _Crew(attempts, [room[i % len(room)] for i in range(count)], timeout, on_outcome)
        crew.run()


def stream(call: Call, *, timeout: float = 0.0) -> Iterator[Any]:
    """Carry out a call in a worker, and yield what it yields; between two values the worker waits to be asked on.

    Raises Lost where the worker dies, or gives no value for `timeout` seconds (0 is for ever): it is killed then, with
    all it started.
    """
    from normbench_plugins.executors.processes import worker
    from normbench_plugins.executors.processes.forkserver import Context
    from normbench_plugins.executors.processes.slot import Slot

    _check_system()
    check(0, 1, timeout)
    slot = Slot(Context(), _room(_Shape(call.device, 1, 1), 1)[0])
    own = msgspec.structs.replace(call, device=environment.kind(call.device))
    try:
        slot.open()
        _answer(slot, slot.ask(worker.answer, own), timeout)
        while found := _answer(slot, slot.ask(worker.following), timeout):
            yield from found
    except BrokenProcessPool:
        raise Lost("error", f"its worker {slot.death()}") from None
    except normbench.UsageError as error:
        raise normbench.UsageError(str(error)) from None  # without the worker's trace
    finally:
        slot.close()


def _answer(slot: Slot, future: Future[Given], timeout: float) -> Given:
    """Return what a worker gives within its time."""
    if not wait([future], timeout or None).done:
        raise Lost("timeout", f"killed after {timeout:g} s{slot.last_words()}")
    return future.result()


def _check_system() -> None:
    if not hasattr(os, "fork"):
        raise normbench.UsageError("the executor processes needs a system that can fork; use the executor serial")


def check(jobs: int, per_gpu: int, timeout: float) -> None:
    """Raise UsageError for what can't be."""
    if jobs < 0 or per_gpu < 1 or not 0 <= timeout <= LONGEST:
        raise normbench.UsageError(
            f"executor: jobs is {jobs}, per_gpu {per_gpu}, timeout {timeout:g}; jobs and timeout are 0 or more "
            f"(0 is auto, and none), timeout at most {LONGEST:g} s, per_gpu 1 or more"
        )


@dataclass(frozen=True)
class _Shape:
    """What a pack takes of a machine: a kind of device, how many of them, and threads for each."""

    device: str
    devices: int
    threads: int


class _Crew:
    """Workers, each in its slot, and the packs they train."""

    def __init__(
        self,
        attempts: list[Attempt],
        environs: list[dict[str, str]],
        timeout: float,
        on_outcome: Callable[[Outcome], None],
    ) -> None:
        from normbench_plugins.executors.processes.forkserver import Context
        from normbench_plugins.executors.processes.slot import Slot

        context = Context(_modules({attempt.pack.trials[0].task for attempt in attempts}))
        self._idle = [Slot(context, environ) for environ in environs]
        self._slots = list(self._idle)
        self._waiting = Waiting(attempts)
        self._running: dict[Future[list[Outcome]], tuple[Slot, Attempt]] = {}
        self._timeout, self._on_outcome = timeout, on_outcome

    def run(self) -> None:
        """Train all packs."""
        try:
            while self._waiting or self._running:
                while self._waiting and self._idle:
                    slot = self._idle.pop()
                    attempt = self._waiting.take(slot.cell, [other.pack.cell for _, other in self._running.values()])
                    self._running[slot.start(attempt.pack)] = slot, attempt
                done = wait(self._running, self._patience(), FIRST_COMPLETED).done
                # What ends the run comes last: the others are finished, and to be stored.
                for future in sorted(done, key=lambda one: isinstance(one.exception(), normbench.UsageError)):
                    self._take(future, *self._running.pop(future))
                for future, (slot, attempt) in list(self._running.items()):
                    if self._left(slot, attempt) <= 0 and not future.done():
                        del self._running[future]
                        self._end(slot, attempt)
        finally:
            for slot in self._slots:
                slot.close()

    def _take(self, future: Future[list[Outcome]], slot: Slot, attempt: Attempt) -> None:
        """Hand over what a pack gave, or give it to another worker where this one died."""
        self._idle.append(slot)
        try:
            outcomes = future.result()
        except normbench.UsageError as error:
            raise normbench.UsageError(str(error)) from None  # without the worker's trace
        except BrokenProcessPool:
            death = slot.death()
            slot.close()
            attempt.deaths += 1
            if attempt.deaths <= RETRIES:
                self._waiting.again(attempt)
                return
            outcomes = attempt.pack.lost("error", f"its worker died twice: it {death}", slot.seconds)
        failed = any(outcome.outcome in ("oom", "error") for outcome in outcomes)
        if (failed and attempt.pack.device != "cpu") or any(outcome.changed for outcome in outcomes):
            # Memory that an exception still holds, a context that an illegal access broke, or code that changed what
            # its process shares, and may think it still is as it left it: not for the next trial.
            slot.close()
        for outcome in outcomes:
            self._on_outcome(outcome)

    def _end(self, slot: Slot, attempt: Attempt) -> None:
        """Kill a pack that has had its time."""
        reason = f"killed after {self._timeout:g} s{slot.last_words()}"
        slot.close()
        self._idle.append(slot)
        for outcome in attempt.pack.lost("timeout", reason, slot.seconds):
            self._on_outcome(outcome)

    def _left(self, slot: Slot, attempt: Attempt) -> float:
        return self._timeout * len(attempt.pack.trials) - slot.seconds if self._timeout else 1.0

    def _patience(self) -> float | None:
        if not self._timeout:
            return None
        return max(0.0, min(self._left(*running) for running in self._running.values()))


def _by_shape(packs: Iterable[Pack]) -> Iterator[tuple[_Shape, list[Attempt]]]:
    """Yield the packs of each shape; where there are several, the dry ones of all shapes come first."""
    shapes: dict[_Shape, list[Attempt]] = {}
    for pack in packs:
        recipe = pack.trials[0].recipe
        shape = _Shape(pack.device, recipe.devices, recipe.threads)
        # A worker sees its own GPUs alone, which are numbered from 0 there.
        own = msgspec.structs.replace(pack, device=environment.kind(pack.device))
        shapes.setdefault(shape, []).append(Attempt(own))
    if len(shapes) == 1:
        yield from shapes.items()
        return
    for dry in (True, False):
        for shape, attempts in shapes.items():
            yield shape, [attempt for attempt in attempts if attempt.pack.dry == dry]


def _modules(tasks: Collection[str]) -> list[str]:
    """Return the modules that every worker would load: what is built in, and what its tasks import to read data."""
    found = dict.fromkeys(name for name in sys.modules if name.startswith("normbench_plugins."))
    for task in normbench_plugins.normbench_tasks():
        if task.name in tasks and isinstance(task.data, str):
            spec = importlib.util.find_spec(task.data.partition(":")[0])
            tree = ast.parse(Path(spec.origin).read_bytes()) if spec and spec.origin else None
            nodes = ast.walk(tree) if tree else ()
            found |= {node.module: None for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    return list(found)


def _room(shape: _Shape, per_gpu: int) -> list[dict[str, str]]:
    """Return the environment of each worker that the machine has room for: which GPUs it sees."""
    if shape.device == "cpu":
        return [{}] * max(1, environment.cores() // (shape.devices * shape.threads))
    gpus = _gpus(shape.device)
    if ":" in shape.device and shape.devices > 1:
        raise normbench.UsageError(f"devices is {shape.devices}; with several, the device is cuda, not {shape.device}")
    if shape.devices > len(gpus):
        raise normbench.UsageError(f"devices is {shape.devices}; torch sees {len(gpus)} GPUs here")
    groups = [gpus[i : i + shape.devices] for i in range(0, len(gpus) - shape.devices + 1, shape.devices)]
    return [{"CUDA_VISIBLE_DEVICES": ",".join(group)} for group in groups] * (per_gpu if shape.devices == 1 else 1)


def _gpus(device: str) -> list[str]:
    """Return the names of the GPUs that may be used, as CUDA_VISIBLE_DEVICES has them."""
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else [str(i) for i in range(torch.cuda.device_count())]
    _, _, index = device.partition(":")
    return [names[int(index)]] if index else names

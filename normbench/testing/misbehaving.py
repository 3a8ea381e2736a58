"""The plugin of the checks of executors: a task of milliseconds whose data does to its process what it is told.

Its probe says which process trained, and its functions that yield are for `Executor.stream`.
"""
# ruff: noqa: ARG001, ARG002 - what the host calls, with what it gives

import fcntl
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import torch
from torch import nn

import normbench

#: What the name of everything here is.
NAME = "misbehaving"
#: Seconds for which what hangs hangs, and for which a mistake waits to be told of an outcome.
PATIENCE = 30.0
#: The file whose presence says that an outcome was handed over.
TOLD = "told"
MISTAKE = "a mistake that is made on purpose"
UNTOLD = "no outcome was handed over while another trial was at work"
#: The series that the probe adds.
WATCHED = ("process", "turn")
#: The folder with a file for each process that trained, and that it holds a lock on as long as it lives.
PROCESSES = "processes"


@dataclass
class _Process:
    """A process that trains, under a number that no other has; how often it has trained; the files it has locked."""

    number: int = field(default_factory=lambda: secrets.randbits(52))
    turns: int = 0
    locked: dict[Path, IO[str]] = field(default_factory=dict)


#: By process id: a process that was forked is another one.
_processes: dict[int, _Process] = {}


def _here() -> _Process:
    return _processes.setdefault(os.getpid(), _Process())


def _hold(folder: Path) -> int:
    """Lock a file while this process lives, and whatever it gives the file to; return the file's descriptor."""
    file, locked = folder / PROCESSES / str(os.getpid()), _here().locked
    if file not in locked:
        file.parent.mkdir(exist_ok=True)
        locked[file] = file.open("w")
        fcntl.flock(locked[file], fcntl.LOCK_EX)
    return locked[file].fileno()


def _train(folder: Path, lock: int) -> None:
    """Do nothing."""


def _raise(folder: Path, lock: int) -> None:
    raise ZeroDivisionError


def _exit(folder: Path, lock: int) -> None:
    os._exit(0)


def _die_once(folder: Path, lock: int) -> None:
    try:
        (folder / "died").touch(exist_ok=False)
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


def _hang(folder: Path, lock: int) -> None:
    """Hang, and so does a child, which has the lock too."""
    subprocess.Popen(["sleep", str(PATIENCE)], pass_fds=[lock])
    time.sleep(PATIENCE)


def _change(folder: Path, lock: int) -> None:
    torch.use_deterministic_algorithms(True, warn_only=True)


def _mistake(folder: Path, lock: int) -> None:
    """Raise UsageError once an outcome was handed over."""
    deadline = time.monotonic() + PATIENCE
    while not (folder / TOLD).exists():
        if time.monotonic() > deadline:
            raise normbench.UsageError(UNTOLD)
        time.sleep(0.01)
    raise normbench.UsageError(MISTAKE)


#: What the data does to its process, given a folder and the descriptor of the process's lock.
HOW: dict[str, Callable[[Path, int], None]] = {
    "train": _train,
    "raise": _raise,
    "exit": _exit,
    "die-once": _die_once,
    "hang": _hang,
    "change": _change,
    "mistake": _mistake,
}


def _data(folder: Path, recipe: normbench.Recipe, how: str = "train") -> normbench.Splits:
    HOW[how](folder, _hold(folder))
    inputs = torch.randn(24, 3, generator=torch.Generator().manual_seed(1))
    split = (inputs, (inputs[:, 0] > 0).long())
    return normbench.Splits(split, split, split)


def _network(place: normbench.Place, recipe: normbench.Recipe) -> nn.Module:
    return nn.Sequential(place(nn.Linear(3, 4), "relu"), nn.Linear(4, 2))


def _layer(site: normbench.Site) -> nn.Module:
    """Return a layer that draws: its numbers are those of its trial's own generators."""
    return nn.Dropout(0.2)


class _Watch:
    """Says in which process a training was, and which in turn it was there."""

    def __init__(self, network: nn.Module) -> None:
        pass

    def on_epoch(self, epoch: int) -> dict[str, float]:
        here = _here()
        here.turns += 1
        return dict(zip(WATCHED, (here.number, here.turns), strict=True))


@normbench.hookimpl
def normbench_norms() -> Iterable[normbench.Norm]:
    """Yield the norm."""
    yield normbench.Norm(NAME, _layer, summary="Dropout", traits=normbench.Traits(eval_differs=True, draws=True))


@normbench.hookimpl
def normbench_tasks() -> Iterable[normbench.Task]:
    """Yield the task."""
    yield normbench.Task(
        NAME,
        1,
        summary="Its data does as it is told",
        recipe=normbench.Recipe(rate=0.1, batch_size=8, epochs=1),
        chance=0.5,
        reference=1.0,
        data=_data,
        network=_network,
        params={"how": "train"},
    )


@normbench.hookimpl
def normbench_probes() -> Iterable[normbench.Probe]:
    """Yield the probe."""
    yield normbench.Probe(NAME, _Watch, summary="Which process trains, and how often it has")


def count(end: str, *, data_dir: Path, **_: Any) -> Iterator[Any]:
    """Yield twice what is in the file `asked` then; after that, end as `HOW` says, or with "train" by returning."""
    lock = _hold(data_dir)
    for _turn in range(2):
        yield (data_dir / "asked").read_text()
    HOW[end](data_dir, lock)

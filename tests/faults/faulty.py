"""A plugin whose norm misbehaves as it is told, at a step or as it is built; and a task of milliseconds."""

import ctypes
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import nn

import normbench

#: Where a fault that strikes once notes that it has struck, and on which node of a Ray cluster.
ONCE = "NORMBENCH_TEST_ONCE"
#: What a node of a cluster is called, where a test has given it a name.
NODE = "TEST_NODE"


def _print_for_ever():
    while True:
        print("again", "and again" * 100)


def _fork():
    os.fork()


def _leave_a_child():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path(os.environ[ONCE]).with_name("child").write_text(str(child.pid))
    time.sleep(600)


def _kill_who_started_this():
    os.kill(multiprocessing.parent_process().pid, signal.SIGKILL)
    time.sleep(600)


def _out_of_memory():
    raise torch.OutOfMemoryError("CUDA out of memory")


def _say_and_exit():
    print("these are my last words", flush=True)
    os._exit(3)


def _interrupt():
    raise KeyboardInterrupt


FAULTS = {
    "interrupt": _interrupt,
    "segfault": lambda: ctypes.string_at(0),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "exit": lambda: os._exit(0),
    "say": _say_and_exit,
    "sys-exit": sys.exit,
    "raise": lambda: 1 / 0,
    "hang": lambda: time.sleep(600),
    "nap": lambda: time.sleep(0.2),
    "print": _print_for_ever,
    "fork": _fork,
    "child": _leave_a_child,
    "orphan": _kill_who_started_this,
    "oom": _out_of_memory,
}


def _is_first():
    """Whether nothing has struck yet, also where two trials get here at the same time; says where it strikes."""
    try:
        with Path(os.environ[ONCE]).open("x") as file:
            file.write(os.environ.get(NODE, "struck"))
    except FileExistsError:
        return False
    return True


class Faulty(nn.Module):
    """Does as it is told at one step."""

    def __init__(self, how, at, once):
        super().__init__()
        self.how, self.at, self.once = how, at, once

    def on_step(self, step, steps):
        if ONCE in os.environ:
            with Path(os.environ[ONCE]).with_name("steps").open("a") as file:
                file.write(f"{step} ")
        if step != self.at:
            return
        if not self.once or _is_first():
            FAULTS[self.how]()

    def forward(self, x):
        return x


def _layer(site, how="raise", at=1, once=False):
    if at < 0:
        FAULTS[how]()
    return Faulty(how, at, once)


def _data(folder, recipe):
    inputs = torch.randn(24, 3, generator=torch.Generator().manual_seed(1))
    split = (inputs, (inputs[:, 0] > 0).long())
    return normbench.Splits(split, split, split)


def _network(place, recipe):
    return nn.Sequential(place(nn.Linear(3, 4), "relu"), nn.Linear(4, 2))


@normbench.hookimpl
def normbench_norms():
    yield normbench.Norm("faulty", _layer, summary="Misbehaves as it is told")


@normbench.hookimpl
def normbench_tasks():
    recipe = normbench.Recipe(rate=0.1, batch_size=8, epochs=1)
    yield normbench.Task(
        "blink", 1, summary="T", recipe=recipe, chance=0.5, reference=1.0, data=_data, network=_network
    )

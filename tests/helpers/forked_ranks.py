"""Ranks forked from a process that has loaded torch, where torchrun's take seconds."""

import os
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import zygote

from normbench.train.ranks import parent
from normbench.train.ranks.launch import Launched

#: The environment variable by which a process that was forked, as workers are, forks its ranks: a file for their ids.
ENVIRON = "NORMBENCH_TEST_RANKS"


class Forked:
    """Ranks in the stead of `Launched`; as under torchrun, where one ends by itself the others do not go on."""

    def __init__(self, devices: int, environ: Mapping[str, str], folder: str) -> None:
        told = {**os.environ, **environ, "WORLD_SIZE": str(devices), "GROUP_RANK": "0"}
        command = [sys.executable, "-m", "normbench.train.ranks.process"]
        self.processes = [
            zygote.Popen(command, env={**told, "RANK": str(i), "LOCAL_RANK": str(i)}) for i in range(devices)
        ]

    def process_groups(self, ranks: list[int]) -> list[int]:
        return list(ranks)

    def exits(self, patience: float) -> dict[int, int] | None:
        end = time.monotonic() + patience
        while not (ended := {i: exited for i, one in enumerate(self.processes) if (exited := one.poll()) is not None}):
            if time.monotonic() > end:
                return None
            time.sleep(0.005)
        self.kill([])
        return ended

    def kill(self, ranks: list[int]) -> None:
        for process in self.processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.kill()  # where it leads no group yet
            process.wait()


def offer() -> None:
    """Have this process, and all that are forked from it, fork ranks where the environment says so."""
    parent.Launched = _launched


def _launched(devices: int, environ: Mapping[str, str], folder: str) -> parent.Ranks:
    if ENVIRON not in os.environ:
        return Launched(devices, environ, folder)
    ranks = Forked(devices, environ, folder)
    Path(os.environ[ENVIRON]).write_text(" ".join(str(process.pid) for process in ranks.processes))
    return ranks

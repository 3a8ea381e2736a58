"""Starting the ranks of a group on this machine: torchrun in a process of its own, that says how a rank ended.

This file is also the program of that process. There it imports nothing of normbench, so that it starts fast.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

#: How often, in seconds, torchrun looks at the ranks, and its process at who started it.
INTERVAL = 0.1


class Launched:
    """Ranks on this machine, started by torchrun; `folder` is for its logs, and does not outlive this process."""

    def __init__(self, devices: int, environ: Mapping[str, str], folder: str) -> None:
        options = ["--rdzv-backend", _Alone.NAME, "--nproc-per-node", str(devices), "--max-restarts", "0"]
        options += ["--monitor-interval", str(INTERVAL), "--log-dir", folder]
        # -P: the folder of this file has modules that others could mean by another name.
        own = [sys.executable, "-P", __file__, str(os.getpid()), folder]
        command = [*own, *options, "-m", "normbench.train.ranks.process"]
        self._process = subprocess.Popen(
            command,
            env={**os.environ, **environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._exits: dict[int, int] | None = None

    def process_groups(self, ranks: Sequence[int]) -> list[int]:
        """Return the process groups on this machine: torchrun's, and those of the ranks with these process ids."""
        return [self._process.pid, *ranks]

    def exits(self, patience: float) -> dict[int, int] | None:
        """Return how ranks ended of their own accord, by rank: a status, or minus a signal.

        Waits up to `patience` seconds for torchrun to end; None where it goes on.
        """
        if self._exits is None:
            try:
                said, _ = self._process.communicate(timeout=patience)
            except subprocess.TimeoutExpired:
                return None
            self._exits = {int(rank): code for rank, code in json.loads(said or "{}").items()}
        return self._exits

    def kill(self, ranks: Sequence[int]) -> None:
        """Kill torchrun, and the ranks with these process ids, each with all that it started."""
        for leader in self.process_groups(ranks):
            # torchrun first: it would have words to say of ranks that are killed.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(leader, signal.SIGKILL)
        self.exits(patience=60)


class _Alone:
    """torchrun's rendezvous of the one machine that there is.

    torchrun's own, --standalone too, listens on every interface, and unpickles what it is sent.
    """

    NAME = "alone"
    use_agent_store = False

    def get_backend(self) -> str:
        return self.NAME

    def next_rendezvous(self) -> Any:
        from torch import distributed
        from torch.distributed.elastic.rendezvous import RendezvousInfo, RendezvousStoreInfo

        untyped: Any = distributed
        # Ranks have a store of their own: the port is nobody's.
        return RendezvousInfo(untyped.HashStore(), 0, 1, RendezvousStoreInfo("127.0.0.1", 0))

    def is_closed(self) -> bool:
        return False

    def set_closed(self) -> None:
        pass

    def num_nodes_waiting(self) -> int:
        return 0

    def get_run_id(self) -> str:
        return self.NAME

    def shutdown(self) -> bool:
        return True


def main(parent: int, folder: str, arguments: list[str]) -> None:
    """Run torchrun with its arguments until the ranks end or `parent` does; print how ranks failed, as JSON."""
    report = os.dup(1)
    # What ranks print is none of the parent's output.
    os.dup2(2, 1)
    threading.Thread(target=_watch, args=(parent, folder), daemon=True).start()
    from torch.distributed import run as torchrun
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous import rendezvous_handler_registry

    untyped: Any = torchrun
    handlers: Any = rendezvous_handler_registry
    handlers.register(_Alone.NAME, lambda parameters: _Alone())  # noqa: ARG005 - what the registry calls
    # torchrun's own words on a rank that failed: the parent has better ones.
    logging.disable(logging.CRITICAL)
    try:
        untyped.run(untyped.parse_args(arguments))
    except ChildFailedError as error:
        exits = {rank: failure.exitcode for rank, failure in error.failures.items()}
        with suppress(BrokenPipeError):  # the parent went first, and the ranks with it
            os.write(report, json.dumps(exits).encode())
        sys.exit(1)
    finally:
        if os.getppid() != parent:
            shutil.rmtree(folder, ignore_errors=True)


def _watch(parent: int, folder: str) -> None:
    """End with the process that started this one, whatever ended it. The ranks notice that by themselves."""
    while os.getppid() == parent:
        time.sleep(INTERVAL)
    shutil.rmtree(folder, ignore_errors=True)
    os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3:])

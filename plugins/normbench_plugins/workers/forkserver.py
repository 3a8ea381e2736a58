"""How workers start: forked from a server that has loaded torch and Lightning, and without the caller's main module."""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import suppress
from multiprocessing import connection, forkserver, popen_forkserver, resource_tracker
from multiprocessing.context import ForkServerContext, ForkServerProcess
from types import ModuleType
from typing import Any

#: What the server has loaded when it forks: a worker then starts in .04 s, where imports alone would take seconds.
PRELOAD = ["normbench.train"]

_starting = threading.Lock()


class _Popen(popen_forkserver.Popen):
    """A process as its parent sees it, whose exit status several threads may ask for.

    It can be read once. Of two threads that ask at the same time, multiprocessing tells one that it is 255.
    """

    def __init__(self, process_obj: Any) -> None:
        self._reading = threading.Lock()
        super().__init__(process_obj)

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        if flag != os.WNOHANG:
            connection.wait([self.sentinel])
        with self._reading:
            return super().poll(os.WNOHANG)


class _Process(ForkServerProcess):
    """A process that does not import the main module of the one that starts it.

    multiprocessing would run a script anew in each worker, and with it `normbench.run`, unless the script has a main
    guard. Workers need nothing of it: what is registered there travels by value.
    """

    @staticmethod
    def _Popen(process_obj: Any) -> Any:  # noqa: N802 - multiprocessing's name
        with _starting:
            main = sys.modules["__main__"]
            sys.modules["__main__"] = ModuleType("__main__")
            try:
                return _Popen(process_obj)
            except BaseException:
                _kill_server()  # it would start later what nobody waits for
                raise
            finally:
                sys.modules["__main__"] = main


def _kill_server() -> None:
    """Kill the server, loaded or not; where another process is wanted, another server is started."""
    pid = getattr(forkserver._forkserver, "_forkserver_pid", None)
    if pid is not None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


class Context(ForkServerContext):
    """multiprocessing's forkserver context, with such processes."""

    Process = _Process

    def __init__(self) -> None:
        super().__init__()
        self.set_forkserver_preload(PRELOAD)
        resource_tracker.ensure_running()  # before the mask, which its start would lift
        # A terminal's Ctrl-C is for all: a server that still loads would answer it with a trace.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            forkserver.ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

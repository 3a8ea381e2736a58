"""How workers start: forked from a server that has loaded torch and Lightning, and without the caller's main module."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import connection, current_process, forkserver, popen_forkserver, resource_tracker
from multiprocessing.context import ForkServerContext, ForkServerProcess
from types import ModuleType
from typing import Any

import normbench

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


@contextmanager
def starting() -> Iterator[None]:
    """Turn what the system refuses (a socket, a semaphore, a process) into a UsageError, which says where it was."""
    try:
        yield
    except (OSError, EOFError) as error:
        reason = getattr(error, "strerror", None) or str(error) or "their server died"
        where = f"temporary files are in {tempfile.gettempdir()}, TMPDIR; semaphores in /dev/shm"
        raise normbench.UsageError(f"no worker can be started here: {reason} ({where})") from None


def _ensure_running() -> None:
    """Start the server, if there is none; in a process that was forked from the one that has it, one of its own."""
    global _starting
    server: Any = forkserver._forkserver
    try:
        forkserver.ensure_running()
    except ChildProcessError:
        os.close(server._forkserver_alive_fd)  # or the other's would live as long as this process
        type(server).__init__(server)
        _starting = threading.Lock()  # a thread that is not here may have held it
        forkserver.set_forkserver_preload(PRELOAD)
        forkserver.ensure_running()


def _kill_server() -> None:
    """Kill the server, loaded or not; where another process is wanted, another server is started."""
    pid = getattr(forkserver._forkserver, "_forkserver_pid", None)
    if pid is not None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


class Context(ForkServerContext):
    """multiprocessing's forkserver context, with such processes; a server that starts loads `modules` too."""

    Process = _Process

    def __init__(self, modules: Collection[str] = ()) -> None:
        """Start the server, with these modules loaded. Raises UsageError where that can't be."""
        super().__init__()
        if current_process().daemon:
            raise normbench.UsageError(
                "this process is a daemon of multiprocessing's, as those of its Pool are, and may start no workers: "
                "use the executor serial"
            )
        self.set_forkserver_preload([*PRELOAD, *modules])
        resource_tracker.ensure_running()  # before the mask, which its start would lift
        # A terminal's Ctrl-C is for all: a server that still loads would answer it with a trace.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            with starting():
                _ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

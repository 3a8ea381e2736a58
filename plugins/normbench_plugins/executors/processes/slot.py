"""A place to compute in: one worker process at a time, with its share of the machine."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures import process as pools
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing import active_children
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any, TypeVar

import normbench
from normbench_plugins.executors.processes import worker
from normbench_plugins.executors.processes.forkserver import Context, starting

if TYPE_CHECKING:
    from normbench.trials import Outcome, Pack

Given = TypeVar("Given")

#: How often a worker is started that dies before it can do anything.
STARTS = 3
#: How much of a worker's output is kept, in bytes: a crash quotes its end.
TAIL = 1 << 14
#: Seconds that a worker that was killed is given to be gone: a GPU's memory takes a while.
GONE = 10.0
#: What Python's fault handler prints before the frame that crashed.
_CRASHED = "Current thread"


class Slot:
    """Holds one worker, and gives it a pack at a time; a worker that is gone is replaced when the next pack comes.

    So is one that trained packs of another `cell`: what a stranger's code left behind would reach the next norm.
    A pool of one worker each, so that its death breaks nothing else. `environ` is what the worker's environment has
    beyond this one's.
    """

    def __init__(self, context: Context, environ: dict[str, str]) -> None:
        self._context, self._environ = context, environ
        self._pool: ProcessPoolExecutor | None = None
        self._process: BaseProcess | None = None
        with starting():
            self._groups = context.RawArray("q", worker.GROUPS)
        self._folder = ""
        self._tail: deque[bytes] = deque()
        self._draining = threading.Thread()
        self._since = 0.0
        self.cell: str | None = None

    def open(self) -> None:
        """Start a worker, and wait until it is there. Raises UsageError where that fails again and again."""
        for _ in range(STARTS):
            with starting():
                self._begin()
            if self._process is not None:
                return
            self.close()  # it was killed as it began
        raise normbench.UsageError(f"no worker can be started here: {STARTS} died at once{self.last_words()}")

    def _begin(self) -> None:
        """Start a worker; there is none afterwards where it was killed as it began."""
        others = set(active_children())
        output, into = self._context.Pipe(duplex=False)
        self._groups[0] = 0
        # What its ranks have on disk: a worker that is killed can't remove it.
        self._folder = tempfile.mkdtemp(prefix="normbench-")
        begin = into, self._groups, self._folder, {**os.environ, **self._environ}
        self._pool = ProcessPoolExecutor(1, self._context, worker.begin, begin)
        try:
            begun = self._pool.submit(worker.pid).result()
            self._process = next((child for child in active_children() if child.pid == begun), None)
        except BrokenProcessPool:
            pass
        except BaseException:
            for child in set(active_children()) - others:
                child.kill()
            raise
        into.close()
        self._tail = deque()
        self._draining = threading.Thread(target=_drain, args=(output, self._tail), daemon=True)
        self._draining.start()

    def start(self, pack: Pack) -> Future[list[Outcome]]:
        """Begin a pack; the result raises BrokenProcessPool where the worker dies."""
        if pack.cell != self.cell:
            self.close()
        self.cell = pack.cell
        while True:
            if self._pool is None:
                self.open()
            try:
                return self.ask(worker.work, pack)
            except BrokenProcessPool:  # it died while it had nothing to do
                self.close()

    def ask(self, function: Callable[..., Given], *arguments: Any) -> Future[Given]:
        """Have the worker that is there call a function. Where it died, this or the result raises BrokenProcessPool."""
        assert self._pool is not None
        self._tail.clear()
        self._since = time.monotonic()
        return self._pool.submit(function, *arguments)

    @property
    def seconds(self) -> float:
        """How long the worker has been at what it does."""
        return time.monotonic() - self._since

    def death(self) -> str:
        """Return how the worker died, in words; what it started is killed."""
        assert self._pool is not None
        assert self._process is not None
        self._pool.shutdown()  # its thread asks for the exit status, which only one can be told
        self._kill(self._process)
        self._draining.join(1.0)  # which needs everyone gone who could still print
        status = self._process.exitcode
        if status is None or status >= 0:
            return f"exited with status {status}" + self.last_words()
        name = signal.Signals(-status).name if -status in set(signal.Signals) else ""
        return f"was killed by signal {-status} ({name})" + self.last_words()

    def last_words(self) -> str:
        """Return the last line that the worker printed, or where it crashed, to be added to a reason."""
        printed = b"".join(self._tail).decode(errors="replace")
        lines = [line.strip() for line in printed.splitlines() if line.strip()]
        for line, following in itertools.pairwise(lines):
            if line.startswith(_CRASHED):
                return f"; it was in {following}"
        return f"; it last printed {lines[-1][:200]!r}" if lines else ""

    def close(self) -> None:
        """Kill the worker, and everything that it started."""
        pool, process, self._pool, self._process = self._pool, self._process, None, None
        if process is not None:
            self._kill(process)
            process.join(GONE)  # until then it has its memory, on the device too
        if pool is not None:
            manager = getattr(pool, "_executor_manager_thread", None)
            pool.shutdown(wait=False, cancel_futures=True)
            if manager is not None:
                # Woken now; the interpreter, as it ends, would wake it again, by a pipe that it may be closing.
                pools._threads_wakeups.pop(manager, None)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _kill(self, process: BaseProcess) -> None:
        """Kill a worker's process group, and those of the ranks that it has: the worker first, which would complain."""
        for leader in [process.pid, *itertools.takewhile(bool, self._groups)]:
            # macOS refuses where only zombies are left.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(leader, signal.SIGKILL)
        self._groups[0] = 0


def _drain(output: Connection, tail: deque[bytes]) -> None:
    """Read what a worker prints until it and all it started are gone; keep the end."""
    with output:
        while True:
            try:
                read = os.read(output.fileno(), TAIL)
            except OSError:
                return
            if not read:
                return
            if os.environ.get("NORMBENCH_TRACEBACK"):  # the traces that are asked for, and all else that workers print
                with suppress(OSError):  # whoever reads it may be gone
                    os.write(2, read)
            tail.append(read)
            while sum(map(len, tail)) > 2 * TAIL:
                tail.popleft()

"""`run --report`: another process writes the report while trials run: none waits for it, and no run fails by it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from normbench.cli.output import say
from normbench.execute import Progress
from normbench.report import default_file
from normbench.texts import in_a_line
from normbench.throughput.wanted import OnSession, Session

#: Seconds from one report to the next, at least.
EVERY = 30.0
#: Seconds that one has to end by itself.
PATIENCE = 5.0


class Reporting:
    """Keeps the report of a results folder up to date while trials run, at the lowest priority."""

    def __init__(self, folder: Path) -> None:
        self.file = default_file(folder)
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._next = time.monotonic() + EVERY

    def along(
        self, on_progress: Callable[[Progress], None] | None, on_session: OnSession | None
    ) -> tuple[Callable[[Progress], None], OnSession]:
        """Return what a run calls after each trial and in sessions: these, and what keeps the report up to date."""

        def progressed(progress: Progress) -> None:
            if on_progress is not None:
                on_progress(progress)
            self._keep_up()

        def measured(session: Session, done: int) -> None:
            self.stop()  # what is timed has the machine to itself
            if on_session is not None:
                on_session(session, done)

        return progressed, measured

    def _keep_up(self) -> None:
        if time.monotonic() < self._next or (self._process is not None and self._process.poll() is None):
            return
        self._next = time.monotonic() + EVERY
        with suppress(OSError):
            self._process = self._writing(subprocess.DEVNULL)
            os.setpriority(os.PRIO_PROCESS, self._process.pid, 19)

    def finish(self) -> None:
        """Write the report of all that there is, and say where; or in a line why it can't be written."""
        self.stop()
        try:
            self._process = self._writing(subprocess.PIPE)
            _, said = self._process.communicate()
            failed = in_a_line(said.decode(errors="replace").strip().rpartition("\n")[2]) or "no reason given"
        except OSError as error:
            failed = str(error)
        if self._process is not None and self._process.returncode == 0:
            say(f"{self.file} written")
        else:
            say(f"normbench: --report: {self.file} can't be written: {failed.removeprefix('normbench: ')}")

    def stop(self) -> None:
        """End what is being written; the file that is there stays."""
        if self._process is not None:
            self._process.terminate()  # not killed at once: it removes what it has begun to write
            try:
                self._process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def _writing(self, stderr: int) -> subprocess.Popen[bytes]:
        """Start to write the report, in a process that a Ctrl-C does not reach."""
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "normbench.cli.main", "report", "-o", self.file, "--", self._folder],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            start_new_session=True,
        )

"""What happens in a worker: it begins, trains packs, and is gone when the process that started it is."""

from __future__ import annotations

import faulthandler
import os
import signal
import threading
from multiprocessing import connection, parent_process
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from normbench.records import Outcome, Pack


def begin(output: connection.Connection, environ: dict[str, str]) -> None:
    """Make this process a worker: the leader of a process group, which is killed as a whole.

    What it prints goes to `output`: stdout is the command's result. Ctrl-C in a terminal does not reach it.
    `environ` is its whole environment.
    """
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for descriptor in (1, 2):
        os.dup2(output.fileno(), descriptor)
    output.close()
    os.environ.clear()  # the server that forked this may be older than what the caller has set since
    os.environ.update(environ)
    faulthandler.enable()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def pid() -> int:
    """Return the worker's process, which says that it has begun."""
    return os.getpid()


def work(pack: Pack) -> list[Outcome]:
    """Train a pack; return its outcomes."""
    from normbench.train import fit_pack

    return list(fit_pack(pack))


def _end_with_parent() -> None:
    """Wait until the process that started this one is gone, and go with all that was started here."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os.killpg(0, signal.SIGKILL)

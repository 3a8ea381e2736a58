"""What happens in a worker: it begins, trains packs or carries out a call, and is gone when who started it is."""

from __future__ import annotations

import faulthandler
import itertools
import os
import shutil
import signal
import threading
from multiprocessing import connection, parent_process
from typing import TYPE_CHECKING, Any

import normbench
from normbench.errors import Lost
from normbench.texts import in_a_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from normbench.trials import Call, Outcome, Pack

#: What the call that this worker carries out has still to give.
_values: Iterator[Any] = iter(())
#: What the ranks that this worker starts have to know of it.
_keeper: Any = None
#: How many process groups a worker can name: of its ranks, and of what started them.
GROUPS = 256


def begin(output: connection.Connection, groups: Any, folder: str, environ: dict[str, str]) -> None:
    """Make this process a worker: the leader of a process group, which is killed as a whole.

    What it prints goes to `output`: stdout is the command's result. Ctrl-C in a terminal does not reach it.
    `environ` is its whole environment. `groups`, numbers shared with the process that started it, are kept to name the
    process groups of the ranks that it starts, up to the first 0; `folder` is for what these have on disk.
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
    _prepare_ranks(groups, folder)
    threading.Thread(target=_end_with_parent, args=(folder,), daemon=True).start()


def pid() -> int:
    """Return the worker's process, which says that it has begun."""
    return os.getpid()


def work(pack: Pack) -> list[Outcome]:
    """Train a pack; return its outcomes. Raises UsageError, and nothing else: that would end the run."""
    from normbench.train import fit_pack

    try:
        return list(fit_pack(pack, _keeper))
    except normbench.UsageError:
        raise
    except BaseException as error:
        return pack.lost("error", f"{type(error).__name__}: {in_a_line(error)}")


def answer(call: Call) -> None:
    """Begin a call; `following` gives what it yields."""
    global _values
    from normbench.calls import carried_out

    _values = carried_out(call)


def following() -> tuple[Any, ...]:
    """Go on with the call until it yields; return that value, nothing at its end.

    Raises Lost for an interruption: the user's does not reach a worker, so that it is a layer's.
    """
    try:
        return tuple(itertools.islice(_values, 1))
    except KeyboardInterrupt:
        raise Lost("error", "KeyboardInterrupt") from None


def _prepare_ranks(groups: Any, folder: str) -> None:
    """Keep `groups` up to date with the ranks that this process has, and their files in `folder`."""
    global _keeper
    from normbench.train.ranks.parent import Keeper

    def tell(leaders: list[int]) -> None:
        groups[: len(leaders) + 1] = [*leaders, 0]

    _keeper = Keeper(tell=tell, scratch=folder)


def _end_with_parent(folder: str) -> None:
    """Wait until the process that started this one is gone, and go with all that was started here."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        shutil.rmtree(folder, ignore_errors=True)
        os.killpg(0, signal.SIGKILL)

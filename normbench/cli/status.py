"""The exit statuses of every command, and what stops one; docs/cli.md says more of each."""

import functools
from collections.abc import Callable
from enum import IntEnum
from typing import Any


class Status(IntEnum):
    """What a command ends with. Where several apply: INTERRUPTED, MISTAKE, REGRESSED, FAILED, INCOMPARABLE."""

    #: All is done, also if all was done before; a trial that diverged is a result.
    DONE = 0
    #: `compare`: a gate is surely exceeded, or a row under one vanished; `check`: a check failed.
    REGRESSED = 1
    #: A mistake of the user's: nothing that the command can do.
    MISTAKE = 2
    #: `compare`: nothing in common, or no baseline where one is required.
    INCOMPARABLE = 3
    #: Some trials, sessions or fingerprints failed, or could not be stored or printed; the rest is done.
    FAILED = 4
    #: A bug of normbench's own, whose trace is shown.
    BUG = 70
    #: Ctrl-C, and SIGTERM; what was finished is stored.
    INTERRUPTED = 130
    TERMINATED = 143


class Stopped(BaseException):
    """Ctrl-C was pressed, or SIGTERM arrived; `status` says which."""

    def __init__(self, status: Status) -> None:
        super().__init__(status.name.lower())
        self.status = status


def stoppable(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a command whose interruption reaches its caller: typer would make something else of KeyboardInterrupt."""

    @functools.wraps(function)
    def command(*args: Any, **options: Any) -> Any:
        try:
            return function(*args, **options)
        except KeyboardInterrupt:
            raise Stopped(Status.INTERRUPTED) from None

    return command

"""The command `normbench`: how every mistake becomes one line and an exit status."""

from __future__ import annotations

import errno
import math
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import typer

from normbench.cli import completion, hints
from normbench.cli.commands import COMMANDS
from normbench.cli.output import Streams, say
from normbench.cli.parser import parser
from normbench.cli.status import Status, Stopped
from normbench.errors import UsageError
from normbench.store import DiskFullError, StoreLostError
from normbench.texts import in_a_line

#: Seconds in which a command that was stopped ends: another Ctrl-C changes nothing before.
PATIENCE = 15.0

#: The commands that store what they finish, and go on from there.
STORING = (["run"], ["throughput"], ["fingerprint"])

#: Errors on a file that has a name: the user's to mend, and no bug, wherever they are raised.
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP)

# typer brings a click of its own in some versions and imports click in others: take the class it really raises.
_ClickException: Any = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")


def main(args: Sequence[str] | None = None) -> None:
    """Run a command and end the process with its exit status; `Status` names them."""
    if completion.ASKED in os.environ:
        return completion.answer()
    streams = Streams()
    stop = _stopper()
    signal.signal(signal.SIGTERM, stop)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else whoever started this has it ignored
        signal.signal(signal.SIGINT, stop)
    ended = status(sys.argv[1:] if args is None else list(args))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the interpreter, as it ends, would end by the signal
    lost = streams.unprinted()
    if lost is not None:
        say(f"normbench: the result can't be written to stdout ({lost.strerror})")
        ended = Status.FAILED if ended in (Status.DONE, Status.INCOMPARABLE) else ended
    sys.exit(ended)


def status(args: list[str]) -> Status:
    """Run a command and return its exit status."""
    try:
        result = parser().main(args=args, prog_name="normbench", standalone_mode=False)
        return result if isinstance(result, Status) else Status.DONE
    except UsageError as error:
        return _refuse(str(error))
    except _ClickException as error:
        return _misused(error, args)
    except DiskFullError as error:
        say(f"normbench: {error.filename}: the disk is full; what was stored before is kept")
        return Status.FAILED
    except StoreLostError as error:
        say(f"normbench: {error}")
        stopped = error.__context__
        if isinstance(stopped, KeyboardInterrupt):
            return Status.INTERRUPTED
        return stopped.status if isinstance(stopped, Stopped) else Status.FAILED
    except Stopped as stop:
        goes_on = "; what was finished is stored, and the same command goes on" * (args[:1] in STORING)
        say(f"normbench: {stop}{goes_on}")
        return stop.status
    except (Exception, SystemExit) as error:
        # click makes `sys.exit(1)` of a pipe that broke, to a worker say: status 1 would be a regression.
        if isinstance(error, OSError) and error.errno in _REFUSED and error.filename is not None:
            return _refuse(f"{error.filename}: {error.strerror}")
        for line in traceback.format_exc().splitlines():
            say(line)
        say("normbench: this is a bug in normbench; please report it, with the command and the lines above")
        return Status.BUG


def _misused(error: Any, args: Sequence[str]) -> Status:
    """Say what click found wrong with the arguments; without any, that is the help."""
    if type(error).__name__ == "NoArgsIsHelpError":
        for line in error.format_message().splitlines():
            say(line)
        return Status.MISTAKE
    if type(error).__name__ == "MissingParameter" and error.param.name == "suite":
        return _refuse("which suite? name one of these, or a file (FILE.toml)", hints.suites())
    # Not from the error's context, which one on an option without its value lacks.
    command = [arg for arg in args[:1] if arg in COMMANDS]
    return _refuse(f"{in_a_line(error.format_message())} (see {' '.join(['normbench', *command])} --help)")


def _refuse(message: str, choices: Iterable[str] = ()) -> Status:
    say(f"normbench: {message}")
    for line in choices:
        say(line)
    return Status.MISTAKE


def _stopper() -> Callable[[int, object], None]:
    """Return a handler of Ctrl-C and SIGTERM, which answers once in `PATIENCE` seconds.

    A second exception in a command that is ending would leave locks held and workers running; but the first may be
    lost, in a destructor say.
    """
    last = -math.inf

    def stop(number: int, frame: object) -> None:  # noqa: ARG001 - a handler's signature
        nonlocal last
        now = time.monotonic()
        if now - last >= PATIENCE:
            last = now
            raise Stopped(Status.INTERRUPTED if number == signal.SIGINT else Status.TERMINATED)

    return stop


if __name__ == "__main__":
    main()

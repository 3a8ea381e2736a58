"""The command `normbench`: its commands, and how every mistake becomes one line and an exit status."""

from __future__ import annotations

import errno
import functools
import math
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from normbench.cli.commands import (
    calibrate,
    check,
    compare,
    export,
    fingerprint,
    leaderboard,
    listing,
    merge,
    new_plugin,
    plan,
    plot,
    plugins,
    report,
    run,
    show,
    throughput,
)
from normbench.cli.output import Streams, say
from normbench.cli.status import Status
from normbench.errors import UsageError
from normbench.store import DiskFullError, StoreLostError
from normbench.texts import in_a_line

#: Seconds in which a command that was stopped ends: another Ctrl-C changes nothing before.
PATIENCE = 15.0

#: Errors on a file that has a name: the user's to mend, and no bug, wherever they are raised.
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP)

# typer brings a click of its own in some versions and imports click in others: take the class it really raises.
_ClickException: Any = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")

app = typer.Typer(
    name="normbench",
    help="Benchmark normalization layers: accuracy, stability against the learning rate, and throughput.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_COMMANDS: dict[str, tuple[Callable[..., Any], str]] = {
    "run": (run.command, "Run what is not stored of a suite; print the leaderboards."),
    "plan": (plan.command, "Say what would run, and how long it takes."),
    "throughput": (throughput.command, "Measure how fast each norm trains; print the leaderboard."),
    "fingerprint": (fingerprint.command, "Say in seconds whether any number changed."),
    "leaderboard": (leaderboard.command, "Print the leaderboards of a results folder."),
    "check": (check.command, "Check what norms, tasks and probes claim."),
    "compare": (compare.command, "Say whether one results folder is worse than another."),
    "calibrate": (calibrate.command, "Say how often gates would err on results like these."),
    "plot": (plot.command, "Draw scores or curves."),
    "report": (report.command, "Write a report: a page with charts and tables."),
    "export": (export.command, "Write a results folder into one file."),
    "merge": (merge.command, "Make one results folder of several."),
    "show": (show.command, "Show all that is stored of one trial."),
    "list": (listing.command, "List norms, tasks, suites, probes, executors or claims."),
    "plugins": (plugins.command, "List plugins, and those that failed."),
    "new-plugin": (new_plugin.command, "Write a package with a norm of your own."),
}


class Stopped(BaseException):
    """Ctrl-C was pressed, or SIGTERM arrived; `status` says which."""

    def __init__(self, status: Status) -> None:
        super().__init__(status.name.lower())
        self.status = status


def _stoppable(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a command whose interruption reaches `status`: typer would make something else of KeyboardInterrupt."""

    @functools.wraps(function)
    def command(*args: Any, **options: Any) -> Any:
        try:
            return function(*args, **options)
        except KeyboardInterrupt:
            raise Stopped(Status.INTERRUPTED) from None

    return command


for _name, (_function, _summary) in _COMMANDS.items():
    app.command(_name, short_help=_summary)(_stoppable(_function))


def _version(asked: bool) -> None:
    if asked:
        import normbench

        typer.echo(f"normbench {normbench.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Benchmark normalization layers: accuracy, stability against the learning rate, and throughput."""


def main(args: Sequence[str] | None = None) -> None:
    """Run a command and end the process with its exit status; `Status` names them."""
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
    command = typer.main.get_command(app)
    try:
        result = command.main(args=args, prog_name="normbench", standalone_mode=False)
        return result if isinstance(result, Status) else Status.DONE
    except UsageError as error:
        return _refuse(str(error))
    except _ClickException as error:
        return _misused(error)
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
        say(f"normbench: {stop}; what was finished is stored, and the same command goes on")
        return stop.status
    except (Exception, SystemExit) as error:
        # click makes `sys.exit(1)` of a pipe that broke, to a worker say: status 1 would be a regression.
        if isinstance(error, OSError) and error.errno in _REFUSED and error.filename is not None:
            return _refuse(f"{error.filename}: {error.strerror}")
        for line in traceback.format_exc().splitlines():
            say(line)
        say("normbench: this is a bug in normbench; please report it, with the command and the lines above")
        return Status.BUG


def _misused(error: Any) -> Status:
    """Say what click found wrong with the arguments; without any, that is the help."""
    if type(error).__name__ == "NoArgsIsHelpError":
        for line in error.format_message().splitlines():
            say(line)
        return Status.MISTAKE
    context = getattr(error, "ctx", None)
    name = context.command_path if context else "normbench"
    return _refuse(f"{in_a_line(error.format_message())} (see {name} --help)")


def _refuse(message: str) -> Status:
    say(f"normbench: {message}")
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

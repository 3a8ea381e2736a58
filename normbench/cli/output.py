"""Where output goes: stdout is the result, stderr everything else."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from normbench.errors import UsageError, unknown

if TYPE_CHECKING:
    from rich.text import Text

    from normbench.boards import Table
    from normbench.store import Store

FORMATS = ("terminal", "github", "latex_booktabs", "csv", "json")

FormatOption = Annotated[str, typer.Option("--format", metavar="FORMAT", help=f"One of {', '.join(FORMATS)}.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")]

_STYLES = {"●": "green", "◐": "yellow", "○": "red", "×": "bold red"}


def say(message: str) -> None:
    """Print a line on stderr."""
    print(_encodable(message, sys.stderr), file=sys.stderr, flush=True)


def put(text: str) -> None:
    """Print a result on stdout; where the pipe is closed, nobody reads it, and the command goes on quietly."""
    try:
        print(_encodable(text, sys.stdout), flush=True)
    except BrokenPipeError:
        close_quietly()


def counted(number: int, noun: str) -> str:
    """Return a number of things in words: "1 session", "2 sessions"."""
    return f"{number} {noun}{'s' * (number != 1)}"


def close_quietly() -> None:
    """Point stdout at nothing, so that the interpreter does not complain of the closed pipe when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def chosen_format(name: str, json: bool) -> str:
    """Return the format that --format and --json ask for. Raises UsageError for one that is not known."""
    if json:
        return "json"
    if name not in FORMATS:
        raise unknown("format", name, FORMATS, "--format")
    return name


def put_tables(tables: Sequence[Table], form: str) -> None:
    """Print tables in a format, and in a GitHub job to its step summary as well."""
    from normbench.boards.render import FORMATS as RENDER
    from normbench.boards.render import github, terminal

    plain = not speaks_unicode()
    text = terminal(tables, ascii_only=plain) if form == "terminal" else RENDER[form](tables)
    if form == "terminal" and _coloured():
        from rich.console import Console

        console = Console(soft_wrap=True, highlight=False)
        with console.capture() as captured:
            console.print(coloured(text), end="")
        text = captured.get()
    put(text)
    if os.environ.get("GITHUB_ACTIONS"):
        step_summary(lambda: github(tables))


def step_summary(text: Callable[[], str]) -> None:
    """Write Markdown to the summary of a GitHub job's step, where there is one."""
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if summary:
        try:
            with open(summary, "a", encoding="utf-8") as file:
                file.write(text() + "\n")
        except OSError as error:
            say(f"normbench: GITHUB_STEP_SUMMARY {summary}: can't be written ({error.strerror})")


def speaks_unicode() -> bool:
    """Whether stdout can show more than ASCII."""
    return _speaks_unicode(sys.stdout.encoding)


def coloured(text: str) -> Text:
    """Return a table's text with the marks of its strips coloured; each mark says the same without."""
    from rich.text import Text

    styled = Text(text)
    for mark, style in _STYLES.items():
        styled.highlight_words([mark], style)
    return styled


def warn_of_unreadable(store: Store) -> None:
    """Name each line that could not be read, once."""
    for bad in store.unreadable:
        say(f"normbench: {store.folder / bad.file} line {bad.line}: {bad.reason}; left out")


def require_runs(store: Store) -> None:
    """Raise UsageError where a folder holds no results."""
    if not store.exists():
        from pathlib import Path

        inside = Path("results") / store.folder
        hint = f"did you mean {inside}?" if (inside / "runs.jsonl").exists() else "normbench run SUITE makes some"
        raise UsageError(f"{store.folder}: no results there; {hint}")


def _coloured() -> bool:
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb" and speaks_unicode()


def _encodable(text: str, stream: object) -> str:
    """Return text as a stream can write it: plain ASCII where it is not Unicode."""
    if _speaks_unicode(getattr(stream, "encoding", None)):
        return text
    from normbench.boards.render import ASCII

    return text.translate(ASCII).encode("ascii", errors="replace").decode()


def _speaks_unicode(encoding: str | None) -> bool:
    return (encoding or "ascii").lower().replace("-", "").startswith("utf")

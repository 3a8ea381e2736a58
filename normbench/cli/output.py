"""Output: the result goes to stdout, all else to stderr. A command goes on where either can't be written to."""

from __future__ import annotations

import errno
import io
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from normbench.errors import UsageError, unknown
from normbench.spelling import choice
from normbench.tables.text import ASCII, further_notes, github, terminal
from normbench.tables.text import FORMATS as WRITERS
from normbench.texts import counted, visible
from normbench.trials import OUTCOMES, SOME_TRAINED

if TYPE_CHECKING:
    from pathlib import Path

    from _typeshed import ReadableBuffer
    from rich.text import Text

    from normbench.execute.prepare import Prepared
    from normbench.registry import Registry
    from normbench.store import Store
    from normbench.tables import Table

FORMATS = tuple(WRITERS)

FormatOption = Annotated[
    str,
    typer.Option("--format", metavar="FORMAT", help=f"One of {', '.join(FORMATS)}.", autocompletion=lambda: [*FORMATS]),
]
NotesOption = Annotated[bool, typer.Option("--notes", help="Print the notes on the tables, too.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")]


def file_option(metavar: str, text: str) -> Any:
    """Return the option of a file, or a folder, that a command writes; a text says where it is if none is given."""
    return typer.Option("-o", "--output", metavar=metavar, help=text, show_default=False)


_STYLES = {SOME_TRAINED: "yellow", **{meaning.mark: meaning.style for meaning in OUTCOMES.values() if meaning.mark}}

#: The line above a table.
_TITLE = re.compile(r"(?m)^\w.* · .*$")
#: What GitHub takes for a command in a log, wherever it comes from.
_COMMAND = re.compile(r"(?m)^([ \t]*):(?=:)|(#)#(?=\[)")


class _Descriptor(io.FileIO):
    """A stream's end: what can't be written is dropped, and remembered, so that nothing that writes ever fails."""

    def __init__(self, number: int) -> None:
        super().__init__(number, "w", closefd=False)
        self.lost: OSError | None = None

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data) or 0
        except OSError as error:
            self.lost = self.lost or error
            return memoryview(data).nbytes


class Streams:
    """stdout and stderr of this process, from now on ends that never fail, whoever writes.

    One that was closed is opened, so that no file of results gets its number; stdout in a way that writing to it fails.
    """

    def __init__(self) -> None:
        for number, mode in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
            try:
                os.fstat(number)
            except OSError:
                os.open(os.devnull, mode)  # which takes the lowest number that is free
        self._out = _Descriptor(1)
        sys.stdout = _text(self._out, sys.stdout)
        sys.stderr = _text(_Descriptor(2), sys.stderr)

    def unprinted(self) -> OSError | None:
        """Return why a part of the result could not be printed; None where it was, or where its reader went away."""
        sys.stdout.flush()
        lost = self._out.lost
        return None if lost is None or lost.errno == errno.EPIPE else lost


def _text(descriptor: _Descriptor, stream: TextIO | None) -> TextIO:
    """Return a text stream over a descriptor, encoded as the one in whose place it comes."""
    encoding = stream.encoding if stream else "utf-8"
    return io.TextIOWrapper(io.BufferedWriter(descriptor), encoding, errors="backslashreplace", line_buffering=True)


def say(message: str) -> None:
    """Print a line on stderr; it stays one, whatever a name in it holds."""
    _print(_inert(visible(message)), sys.stderr)


def put(text: str) -> None:
    """Print a result on stdout."""
    _print(_inert(visible(text, keep="\n")), sys.stdout)


def put_lines(lines: Iterable[str]) -> None:
    """Print lines on stdout, each of which stays one, whatever a name in it holds."""
    put("\n".join(map(visible, lines)))


def annotate(level: str, title: str, message: str) -> None:
    """Write an annotation, where GitHub reads them."""
    if os.environ.get("GITHUB_ACTIONS"):
        _print(f"::{level} title=normbench {title}::{visible(message).replace('%', '%25')}", sys.stderr)


def chosen_format(name: str, json: bool) -> str:
    """Return the format that --format and --json ask for. Raises UsageError for one that is not known."""
    if json:
        return "json"
    if name not in FORMATS:
        raise unknown("format", name, FORMATS, "--format")
    return name


def put_tables(tables: Sequence[Table], form: str, *, notes: bool = True) -> None:
    """Print tables in a format, and in a GitHub job to its step summary as well.

    On a terminal `notes` says whether those that a reader may do without are printed, or how many there are.
    """
    if form == "terminal":
        text = terminal(tables, notes=notes, ascii_only=not speaks_unicode())
        count = 0 if notes else sum(map(len, further_notes(tables).values()))
        text += f"\n\n{counted(count, 'note')}: --notes" * bool(count)
    else:
        text = WRITERS[form](tables)
    if form == "terminal" and _coloured():
        from rich.console import Console

        console = Console(soft_wrap=True, highlight=False)
        with console.capture() as captured:
            console.print(coloured(_inert(text)), end="")
        _print(captured.get(), sys.stdout)
    else:
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


def speaks_unicode(stream: TextIO | None = None) -> bool:
    """Whether a stream (left out: stdout) can show more than ASCII."""
    encoding = getattr(stream or sys.stdout, "encoding", None) or "ascii"
    return encoding.lower().replace("-", "").startswith("utf")


def coloured(text: str) -> Text:
    """Return tables' text with titles bold and marks coloured; each mark says the same without."""
    from rich.text import Text

    styled = Text(text)
    styled.highlight_regex(_TITLE, "bold")
    for mark, style in _STYLES.items():
        styled.highlight_words([mark], style)
    return styled


def warn_of_unreadable(store: Store) -> None:
    """Name each line that could not be read, once."""
    for bad in store.unreadable:
        say(f"normbench: {store.folder / bad.file} line {bad.line}: {bad.reason}; left out")


def warn_of_plugins(registry: Registry) -> None:
    """Name each plugin that failed, and is in quarantine, and what others changed as they were loaded."""
    for warning in registry.warnings:
        say(f"normbench: {warning}")


def warn_of_anew(prepared: Prepared) -> None:
    """Name each norm that every run trains anew."""
    for anew in prepared.anew:
        say(f"normbench: {anew}")


def warn_of_unused(prepared: Prepared) -> None:
    """Name each plugin's file whose norms are all left out, and say how to run them."""
    request = prepared.request
    baseline = choice(prepared.suite.baseline, "baseline").name
    used = {prepared.suite.name, prepared.executor.name, baseline}
    used |= {choice(probe, "probes").name for probe in request.probes}
    used |= {one.thing.name for cell in prepared.cells for one in prepared.registry.behind(cell)}
    for plugin in prepared.registry.plugins:
        norms = plugin.offers.get("norms", ())
        offered = {name for names in plugin.offers.values() for name in names}
        asked = plugin.origin in map(str, request.plugin_files)
        if asked and norms and not request.norms and not offered & used:
            how = " ".join(f"--norm +{name}" for name in norms)
            say(f"normbench: plugin {plugin.origin}: no norm of it is in the suite's list; {how} adds it")


def nothing_stored(folder: Path) -> UsageError:
    """Refuse a folder whose run ended before it stored anything."""
    return UsageError(f"{folder}: no trial is stored there yet; run the suite again to finish it")


def _coloured() -> bool:
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb" and speaks_unicode()


def _print(text: str, stream: TextIO) -> None:
    """Print text as a stream can write it: plain ASCII where it is not Unicode."""
    if not speaks_unicode(stream):
        text = text.translate(ASCII).encode("ascii", errors="replace").decode()
    print(text, file=stream, flush=True)


def _inert(text: str) -> str:
    """Return a text in which GitHub sees no command of its own, in a job there."""
    if not os.environ.get("GITHUB_ACTIONS"):
        return text
    return _COMMAND.sub(lambda match: r"\u0023#" if match[2] else rf"{match[1]}\u003a", text)

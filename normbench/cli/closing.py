"""What boards on a terminal end with: the answer, and where report, pictures and JSON are, or what makes each."""

from __future__ import annotations

import shlex
import shutil
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from normbench.boards.answer import answers, with_caution
from normbench.charts import pictures
from normbench.cli import output
from normbench.report import default_file
from normbench.store import Store, beside
from normbench.suites import CURVE
from normbench.tables import Table


def put(store: Store, tables: Sequence[Table]) -> None:
    """Print what some tables of a store come to, and where the rest of it is; nothing where there are none."""
    if tables:
        width = shutil.get_terminal_size((100, 24)).columns
        # Whole at hyphens, which a norm's name may have.
        said = [textwrap.wrap(line, width, break_on_hyphens=False) for line in with_caution(answers(tables))]
        output.put_lines(["", *(line for lines in said for line in lines), "", *_places(store, tables)])


def _places(store: Store, tables: Sequence[Table]) -> Iterator[str]:
    """Yield a line for each file that is as new as the results, or for the command that makes it."""
    folder, export = store.folder, beside(store.folder, ".json")
    probes = {CURVE, *(probe for run in store.runs() for probe in run.suite.get("probes", ()))}
    curves = ["--curves"] * all(len(table.rates) < 2 for table in tables)
    made = {
        "report": ([default_file(folder)], ["report", folder]),
        "picture": (pictures.there(folder, probes), ["plot", folder, *curves]),
        "JSON": ([export], ["export", folder, "-o", export]),
    }
    since = store.changed()
    for what, (files, command) in made.items():
        there = [str(file) for file in files if _is_of(file, since)]
        for line, begins in zip(there or [_command(command)], [what, *[""] * len(there)], strict=False):
            yield f"{begins:9}{line}"


def _is_of(file: Path, since: float) -> bool:
    try:
        return file.stat().st_mtime >= since
    except OSError:
        return False


def _command(words: Iterable[object]) -> str:
    return shlex.join(["normbench", *map(str, words)])

"""`normbench report`: results as a page to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from normbench import saving
from normbench.cli import completion, folders, output


def command(
    sources: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="DIR|FILE...",
            help=f"Results folders, or exports of some, shown side by side.  [default: {folders.THE_ONE}]",
            autocompletion=completion.results,
        ),
    ] = None,
    file: Annotated[
        Path | None, output.file_option("FILE.html", "The page to write.  [default: beside the first results]")
    ] = None,
) -> None:
    """Write a report: one HTML file that opens without a network.

    It has an answer in sentences, pictures that say more where the pointer is, tables that sort, the command that
    repeats each row, and a methods paragraph to paste.
    """
    from normbench.report import check_suffix, default_file

    if file is not None:
        check_suffix(file, "-o")
    from normbench.report.page import page
    from normbench.store import Store

    sources = sources or [folders.chosen(None)]
    for source in sources:
        store = Store(source)
        folders.require_runs(store)
        if not any(True for _ in store.results()) and not store.sessions():
            raise output.nothing_stored(source)
    file = default_file(sources[0]) if file is None else file
    saving.check([file], sources)
    saving.save(file, page(sources))
    output.say(f"{file} written")

"""`normbench report`: results as a page to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from normbench.cli import output, saving
from normbench.errors import UsageError

SUFFIXES = (".html", ".htm")


def command(
    folders: Annotated[
        list[Path],
        typer.Argument(metavar="DIR|FILE...", help="Results folders, or exports of some, shown side by side."),
    ],
    file: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE.html",
            help="The page to write.  [default: beside the first results]",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Write a report: one HTML file that opens without a network.

    It has an answer in sentences, pictures that say more where the pointer is, tables that sort, the command that
    repeats each row, and a methods paragraph to paste.
    """
    if file is not None and file.suffix.lower() not in SUFFIXES:
        raise UsageError(f"-o {file}: a report ends in {' or '.join(SUFFIXES)}")
    from normbench.report.page import default_file, page
    from normbench.store import Store

    for folder in folders:
        output.require_runs(Store(folder))
    file = default_file(folders[0]) if file is None else file
    saving.check([file], folders)
    saving.save(file, page(folders))
    output.say(f"{file} written")

"""`normbench leaderboard`: the tables of a results folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from normbench.cli import output
from normbench.errors import UsageError, unknown
from normbench.store import Store


def command(
    folder: Annotated[Path, typer.Argument(metavar="DIR|FILE.json", help="A results folder, or an export of one.")],
    board: Annotated[
        list[str] | None,
        typer.Option("--board", metavar="NAME", help="Only accuracy, stability or throughput; may be repeated."),
    ] = None,
    form: output.FormatOption = "terminal",
    json: output.JsonOption = False,
) -> None:
    """Print the leaderboards of a results folder."""
    from normbench.boards import BOARDS, tables

    form = output.chosen_format(form, json)
    for name in board or ():
        if name not in BOARDS:
            raise unknown("board", name, BOARDS, "--board")
    store = Store(folder)
    output.require_runs(store)
    found = tables(store, tuple(board or BOARDS))
    output.warn_of_unreadable(store)
    if not found and form != "json":
        if board and tables(store):
            raise UsageError(f"{folder}: nothing is stored there for the board {' or '.join(board)}")
        raise UsageError(f"{folder}: no trial is stored there yet; run the suite again to finish it")
    output.put_tables(found, form)

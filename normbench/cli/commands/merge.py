"""`normbench merge`: several results folders as one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from normbench.cli import completion, folders, output
from normbench.store import Store
from normbench.store.kinds import KINDS
from normbench.texts import counted


def command(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="DIR|FILE", help="Results folders, or exports of some.", autocompletion=completion.results
        ),
    ],
    out: Annotated[Path, output.file_option("DIR", "The folder to make: new, or empty.")],
) -> None:
    """Make one results folder of several, with all that they hold, each record once.

    Folders that contradict each other are refused: in one environment, a trial on a CPU gives the same to the last bit.
    """
    from normbench.store.merge import merge

    stores = [Store(source) for source in sources]
    for store in stores:
        folders.require_runs(store)
    held = merge(stores, out)
    counts = [counted(held[kind.file], kind.noun) for kind in KINDS.values() if kind.noun]
    output.say(f"{out} written: {', '.join(counts)}, of {counted(len(stores), 'source')}")

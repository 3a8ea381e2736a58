"""`normbench plot`: accuracy against the learning rate, as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from normbench.cli import output, saving
from normbench.errors import UsageError
from normbench.store import Store

SUFFIXES = (".png", ".svg")


def command(
    folder: Annotated[Path, typer.Argument(metavar="DIR|FILE", help="A results folder, or an export of one.")],
    file: Annotated[Path, typer.Option("-o", "--output", metavar="FILE.png|svg", help="The picture to write.")],
) -> None:
    """Draw accuracy against the rate: one line per norm, one faint dot per seed, failures marked at the bottom.

    Of more than 10 norms each has a panel of its own.
    """
    if file.suffix not in SUFFIXES:
        raise UsageError(f"-o {file}: a picture ends in {' or '.join(SUFFIXES)}")
    saving.check([file], [folder])
    from normbench.boards.grid import gather
    from normbench.charts.rates import draw

    store = Store(folder)
    output.require_runs(store)
    grids = [grid for grid in gather(store) if len(grid.rates) > 1 and grid.rows]
    output.warn_of_unreadable(store)
    if not grids:
        raise UsageError(f"{folder}: nothing to draw; a curve needs two rates and a seed that has them all")
    saving.save(file, draw(grids, file.suffix.removeprefix(".")))
    output.say(f"{file} written")

"""`normbench plot`: accuracy against the learning rate, or against a value that conditions differ in."""

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
    against: Annotated[
        str | None, typer.Option(metavar="NAME", help="A recipe value that conditions differ in, like batch_size.")
    ] = None,
) -> None:
    """Draw accuracy against the rate: one line per norm, one faint dot per seed, failures marked at the bottom.

    With --against the accuracy at the chosen rate, against a value that the suite varies. Of more than 10 norms each
    has a panel of its own.
    """
    if file.suffix not in SUFFIXES:
        raise UsageError(f"-o {file}: a picture ends in {' or '.join(SUFFIXES)}")
    saving.check([file], [folder])
    from normbench.boards.grid import gather
    from normbench.charts import against as conditions
    from normbench.charts import panels, rates

    store = Store(folder)
    output.require_runs(store)
    grids = gather(store)
    output.warn_of_unreadable(store)
    if against is not None:
        charts = conditions.charts(grids, against)
    else:
        charts = rates.charts([grid for grid in grids if len(grid.rates) > 1 and grid.rows])
    if not charts:
        raise UsageError(f"{folder}: nothing to draw; a curve needs two rates and a seed that has them all")
    saving.save(file, panels.draw(charts, file.suffix.removeprefix(".")))
    output.say(f"{file} written")

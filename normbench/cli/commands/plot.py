"""`normbench plot`: scores and curves as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from normbench import saving
from normbench.cli import folders, output
from normbench.errors import UsageError
from normbench.store import Store

SUFFIXES = (".png", ".svg", ".pdf")


def command(
    folder: folders.Folder = None,
    rates: Annotated[bool, typer.Option("--rates", help="Score against the rate; the default.")] = False,
    curves: Annotated[
        bool, typer.Option("--curves", help="Training loss and validation score against the step.")
    ] = False,
    series: Annotated[
        str | None, typer.Option(metavar="PROBE.NAME", help="What a probe saw, against the step.")
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Score against a recipe value that conditions differ in, like batch_size."),
    ] = None,
    at: Annotated[
        list[float] | None,
        typer.Option("--rate", metavar="R", help="Curves or series at this rate; may be repeated."),
    ] = None,
    site: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Of a series of vectors one place, counted from 0: a site, a linear or another."
        ),
    ] = None,
    step: Annotated[
        int | None, typer.Option(metavar="N", help="A series of vectors at this step, against the place.")
    ] = None,
    file: Annotated[
        Path | None, output.file_option("FILE.png|svg|pdf", "The picture to write.  [default: beside the results]")
    ] = None,
) -> None:
    """Draw scores or curves, one line per norm: --rates, --curves, --series or --against.

    With --rates and --against a faint dot per seed, and failures marked at the bottom. Curves and series are means over
    seeds in a band, at each norm's chosen rate, or with --rate at others. Of more than 10 norms each has a panel of its
    own.
    """
    asked = {"rates": rates, "curves": curves, "series": series is not None, "against": against is not None}
    kinds = [kind for kind, is_asked in asked.items() if is_asked] or ["rates"]
    if len(kinds) > 1:
        raise UsageError(f"{' and '.join(f'--{kind}' for kind in kinds)}: a picture is of one kind")
    if file is not None and file.suffix.lower() not in SUFFIXES:
        raise UsageError(f"-o {file}: a picture ends in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")
    folder = folders.chosen(folder)
    from normbench.charts import pictures

    what = series or (f"against-{against}" if against else kinds[0])
    place: dict[str, Any] = {"at": at or (), "site": site, "step": step}
    file = pictures.default_file(folder, what, **place) if file is None else file
    saving.check([file], [folder])
    store = Store(folder)
    folders.require_runs(store)
    figure = pictures.figure(store, kinds[0], series=series, against=against, **place)
    output.warn_of_unreadable(store)
    saving.save(file, figure.encoded(file.suffix.lower().removeprefix(".")))
    output.say(f"{file} written")

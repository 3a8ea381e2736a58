"""Every kind of picture of a results folder, by its name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from normbench.boards.grid import gather
from normbench.charts import against as conditions
from normbench.charts import curves, panels, rates
from normbench.charts import series as of_series
from normbench.charts.looks import looks_in
from normbench.charts.watched import exact
from normbench.errors import UsageError
from normbench.spelling import choice
from normbench.store import Store, beside

if TYPE_CHECKING:
    from normbench.charts.panels import Chart
    from normbench.charts.picture import Picture


def figure(
    store: Store,
    kind: str = "rates",
    *,
    series: str | None = None,
    against: str | None = None,
    at: Sequence[float] = (),
    site: int | None = None,
    step: int | None = None,
    only: frozenset[str] | None = None,
) -> Picture:
    """Return a picture of a store: of its tables `only`, by `Cell.table_id`, or of all.

    `series` is PROBE.NAME, `against` a recipe value, each for the kind of that name. `at` are rates, for "curves" and
    "series"; `site` is one place of a series, which is drawn by step, or `step` one at which it is drawn by place.
    Raises UsageError for what does not go together, or is not there.
    """
    _check(kind, series, against, at, site, step)
    grids = gather(store, only)
    styles = looks_in(store)
    charts: list[Chart]
    if kind == "curves":
        charts = curves.charts(store, grids, styles, at)
    elif series is not None:
        charts = of_series.charts(store, grids, styles, series, at, site, step)
    elif against is not None:
        charts = conditions.charts(grids, styles, against)
    else:
        charts = rates.charts(grids, styles)
    if not charts:
        needs = "two rates and a seed that has them all" if kind == "rates" else "a seed that has all rates"
        raise UsageError(f"{store.folder}: nothing to draw; a curve needs {needs}")
    return panels.figure(charts)


def default_file(
    folder: Path, what: str, *, at: Sequence[float] = (), site: int | None = None, step: int | None = None
) -> Path:
    """Return where a picture goes, beside the results: results/quick-rates.png for results/quick, or its export.

    Its name says at which rates, site or step it is: results/quick-curves-rate-0.1-1.png.
    """
    words = [what, *(["rate", *map(exact, sorted(set(at)))] if at else [])]
    words += [f"{word}-{place}" for word, place in (("site", site), ("step", step)) if place is not None]
    named = re.sub(r"[^\w.-]", "-", "-".join(words))
    return beside(folder, f"-{named}.png")


def there(folder: Path, probes: Iterable[str]) -> list[Path]:
    """Return the pictures of results, of series of these probes too, that lie where `default_file` puts them."""
    kinds = "|".join(["rates", "curves(-rate-.*)?", "against-.*", *(rf"{re.escape(probe)}\..*" for probe in probes)])
    name = re.compile(rf"{re.escape(beside(folder, '').name)}-({kinds})\.png")
    return sorted(file for file in beside(folder, "").parent.glob("*.png") if name.fullmatch(file.name))


def of_suite(word: str, folder: Path) -> tuple[Path, dict[str, Any]]:
    """Return where a picture of a suite goes, by its word there, and what `figure` is asked for."""
    picture = choice(word, f"picture {word!r}")
    series = picture.name if "." in picture.name else None
    place = {"at": picture.params.get("rate", ()), **{name: picture.params.get(name) for name in ("site", "step")}}
    file = default_file(folder, picture.name, **place)
    return file, {"kind": "series" if series else picture.name, "series": series, **place}


def _check(
    kind: str, series: str | None, against: str | None, at: Sequence[float], site: int | None, step: int | None
) -> None:
    for name, value, example in (("series", series, "PROBE.NAME"), ("against", against, "NAME")):
        if kind == name and value is None:
            raise UsageError(f'a picture of kind {kind!r} needs {name}="{example}"')
        if kind != name and value is not None:
            raise UsageError(f"a picture of kind {kind!r} takes no {name}")
    if at and kind not in ("curves", "series"):
        raise UsageError(f"a picture of kind {kind!r} takes no rates; those of curves and series do")
    for name, place in (("site", site), ("step", step)):
        if place is not None and kind != "series":
            raise UsageError(f"a picture of kind {kind!r} takes no {name}; one of a series does")
    if site is not None and step is not None:
        raise UsageError(
            f"site {site} and step {step}: a series is drawn of one place, by step, or of one step, by place"
        )

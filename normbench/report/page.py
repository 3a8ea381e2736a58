"""A report as a page: one file of HTML that needs no network, of one results folder or of several side by side."""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import os
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import msgspec
from markupsafe import Markup

from normbench.charts.looks import DARK
from normbench.errors import UsageError
from normbench.report.chart import Chart
from normbench.report.document import Source, source
from normbench.report.swatch import swatch
from normbench.store import Store
from normbench.tables import Table
from normbench.tables.html import as_html
from normbench.tables.table import TableRow
from normbench.texts import visible

#: So many parts stand open at first; of a page with more, the others are folded.
OPEN = 3
#: So many notes on what is missing or mixed are seen at once.
NOTES = 5
#: What would end a script element, or a line of a script.
_ESCAPED = str.maketrans({character: f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"})


def page(folders: Sequence[Path], only: frozenset[str] | None = None) -> bytes:
    """Return the report of folders, or of exports, as HTML: of their tables `only`, by `Cell.table_id`, or of all.

    Raises UsageError where there is nothing in one of them, or one is given twice.
    """
    _check(folders)
    return _written([source(folder, only) for folder in folders]).encode()


def _check(folders: Sequence[Path]) -> None:
    given: set[str] = set()
    for folder in folders:
        if not Store(folder).exists():
            raise UsageError(f"{folder}: no results there")
        place = os.path.realpath(folder)
        if place in given:
            raise UsageError(f"{folder}: given twice; a report shows each once")
        given.add(place)


def _written(sources: Sequence[Source]) -> str:
    charts = [chart for one in sources for part in one.parts for chart in part.charts]
    bundle, script = _own(_bundle()) if charts else "", _own(_template("script.js"))
    environment = jinja2.Environment(
        autoescape=True,
        loader=jinja2.FunctionLoader(_template),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"visible": visible, "swatch": _swatch, "board": _board}
    return environment.get_template("page.html.jinja").render(
        sources=sources,
        title=" · ".join(dict.fromkeys(visible(one.name) for one in sources)),
        parts_open=OPEN,
        notes_open=NOTES,
        version=importlib.metadata.version("normbench"),
        policy=_policy(bundle, script),
        style=Markup(_template("style.css")),
        scripts=[Markup(bundle), Markup(script)],
        data=Markup(_json({"charts": list(map(_drawn, charts)), "dark": DARK})),
    )


def _drawn(chart: Chart) -> dict[str, Any]:
    return {"spec": chart.spec, "columns": chart.columns, "choices": chart.choices}


def _json(document: Any) -> str:
    """Return a document as JSON that can stand in a script element."""
    return msgspec.json.encode(document).decode().translate(_ESCAPED)


def _template(name: str) -> str:
    return files("normbench.report").joinpath("templates", name).read_text(encoding="utf-8")


@cache
def _bundle() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script, which sets `window.vegaEmbed`."""
    import vl_convert

    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))


def _own(script: str) -> str:
    """Return a script that shares no names with others, and can't end its element."""
    inert = script.replace("</script", r"<\/script").replace("<!--", r"<\!--")
    return f"(() => {{\n{inert}\n}})();"


def _policy(*scripts: str) -> str:
    """Return what a browser lets the page do: run these scripts and no other, and load nothing."""
    hashes = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    # Charts set styles of their own; the icon is in the page.
    styles = "style-src 'unsafe-inline'; img-src data:"
    return f"default-src 'none'; script-src {allowed}; {styles}; base-uri 'none'; form-action 'none'"


def _swatch(label: str, one: Source) -> Markup:
    """Return how a norm is drawn; nothing for what is no norm of the source."""
    look = next((norm.look for norm in one.norms if norm.label == label), None)
    return Markup(swatch(look) if look else "")


def _board(table: Table, one: Source) -> Markup:
    """Return a board as HTML, with how each norm is drawn."""

    def beside(row: TableRow) -> str:
        return _swatch(row.norm, one)

    return Markup(as_html(table, beside))

"""Every kind of chart: what Vega-Lite makes of it, and names that mean something to a browser."""

from __future__ import annotations

import altair as alt
import pytest
import vl_convert
from drawn import drawn, rows
from folders import Folder

from normbench.charts.looks import LOOKS
from normbench.store.records import Series

#: What HTML, expressions, objects and fields of JavaScript would take for something else.
HOSTILE = ["<b>x</b>", "__proto__", "a\"b'c", "datum['x']", "[x]", "$x$", "x\\y"]
NORMS = ["none", *HOSTILE]
KINDS = {
    "scores": "Validation accuracy against learning rate",
    "curves": "Training loss by step",
    "places": "moments: mean by step",
    "throughput": "Throughput",
}
#: The keys of a specification under which Vega reads an expression.
EXPRESSIONS = ("filter", "calculate", "test", "expr", "labelExpr")


@pytest.fixture(scope="module")
def charts(tmp_path_factory):
    """Return charts by title, of hostile norms and one that has a look of its own."""
    folder = Folder(tmp_path_factory.mktemp("charts") / "results")
    folder.add({name: {0.1: [0.6, 0.7], 1.0: [0.8, "diverged"]} for name in NORMS})
    folder.watch("curve", lambda trial: {"loss": Series([0, 1, 2], [3.0, 2.0, 1.0])})
    folder.watch("moments", lambda trial: {"mean": Series([0, 2], [[1.0, 2.0], [0.5, 1.0]])})
    folder.time("spirals", **dict.fromkeys(HOSTILE, 1.1), none=1.5)
    return drawn(folder.store)


@pytest.mark.parametrize("kind", KINDS)
def test_a_chart_is_valid_and_compiles(charts, kind):
    """By Altair's schema, and to Vega: there what the page sets are signals."""
    chart = charts[KINDS[kind]]

    alt.TopLevelLayerSpec.from_dict(chart.spec)
    vega = vl_convert.vegalite_to_vega(chart.spec)

    signals = {signal["name"]: signal.get("value") for signal in vega["signals"]}
    assert ([], 0) == (signals["hidden"], signals["choice"])
    assert "container" == chart.spec["width"]
    assert chart.spec["description"].startswith(f"{chart.title}, spirals")
    assert [len(chart.table.headers)] * len(chart.table.rows) == list(map(len, chart.table.rows))


@pytest.mark.parametrize("kind", KINDS)
def test_names_are_data(charts, kind):
    """They stand in columns, domains and values of parameters; no expression has one."""
    chart = charts[KINDS[kind]]

    expressions = list(_expressions(chart.spec))

    assert set(NORMS) <= set(chart.columns["norm"])
    assert any("datum" in expression for expression in expressions)
    assert not [name for name in HOSTILE if any(name in expression for expression in expressions)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_norm_looks_as_everywhere(charts, kind):
    """Its colour is that of pictures, in each layer."""
    scales = [layer["encoding"]["color"]["scale"] for layer in charts[KINDS[kind]].spec["layer"] if _has_colour(layer)]

    assert scales
    assert {LOOKS["none"].colour} == {scale["range"][scale["domain"].index("none")] for scale in scales}


def test_hidden_norms_and_other_choices_are_not_drawn(charts):
    """Each other norm has one line, one called __proto__ too."""
    chart = charts[KINDS["places"]]
    spec = chart.spec | {"datasets": {"rows": rows(chart)}, "width": 300}
    values = {"hidden": ["none", "[x]"], "choice": 1}
    spec["params"] = [param | {"value": values[param["name"]]} for param in spec["params"]]

    svg = vl_convert.vegalite_to_svg(spec)

    assert len(NORMS) - 2 == svg.count("stroke-dasharray=")


def _has_colour(layer) -> bool:
    return "scale" in layer["encoding"].get("color", {})


def _expressions(part, key=""):
    """Yield the expressions in a part of a specification."""
    if isinstance(part, dict):
        for name, inner in part.items():
            yield from _expressions(inner, name)
    elif isinstance(part, list):
        for inner in part:
            yield from _expressions(inner, key)
    elif key in EXPRESSIONS:
        yield part

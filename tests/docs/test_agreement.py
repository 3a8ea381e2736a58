"""The docs agree with the code: signatures, keys, fields and figures that a page states are those that hold."""

import ast
import difflib
import json
import math
import re
from pathlib import Path

import msgspec
import pytest

from normbench import api, contract, hookspecs, records, suites
from normbench.boards import accuracy, stability
from normbench.boards.gather import Grid, Row
from normbench.boards.render import as_csv, as_json, written
from normbench.boards.stability import Curve, over_the_grid, trains_up_to, weights, within
from normbench.contract import Recipe
from normbench.records import Cell, Measure, Result, RunRecord
from normbench.stats import mean_over_seeds, unseen_failures

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def signature(node: ast.ClassDef | ast.FunctionDef, name: str) -> str:
    """Return a function's or a description's signature as the docs write it."""
    if isinstance(node, ast.FunctionDef):
        arguments = ast.unparse(node.args).removeprefix("self, ").removeprefix("self")
        returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
        return f"{name}({arguments}){returns}"
    decorators = " ".join(ast.unparse(part) for part in [*node.decorator_list, *node.keywords])
    lines = [f"{name}("] + ["    *,"] * ("kw_only" in decorators)
    for field in node.body:
        if isinstance(field, ast.AnnAssign) and field.target.id == "_":
            lines.append("    *,")
        elif isinstance(field, ast.AnnAssign):
            default = f" = {ast.unparse(field.value)}" if field.value else ""
            default = re.sub(r"field\(default_factory=dict\)", "{}", default).replace("'", '"')
            lines.append(f"    {field.target.id}: {ast.unparse(field.annotation)}{default},".replace("'", '"'))
    return "\n".join([*lines, ")"])


def definitions(module: str) -> dict[str, ast.ClassDef | ast.FunctionDef]:
    """Return what a module of normbench defines, methods as `Class.method`, read without importing it."""
    source = Path(contract.__file__).parent.joinpath(*module.split(".")).with_suffix(".py")
    tree = ast.parse(source.read_text(encoding="utf-8"))
    found = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    for outer in [node for node in found.values() if isinstance(node, ast.ClassDef)]:
        found |= {f"{outer.name}.{node.name}": node for node in outer.body if isinstance(node, ast.FunctionDef)}
    return found


def signatures() -> dict[str, str]:
    """Return all that docs/plugins.md gives the signature of."""
    found = {name: f"def {signature(node, name)}" for name, node in definitions("hookspecs").items()}
    described = ("Norm", "Site", "Traits", "Task", "Splits", "Recipe", "Probe", "Executor", "SuiteFile")
    found |= {name: signature(definitions("contract")[name], name) for name in described}
    found["Pack"] = signature(definitions("records")["Pack"], "Pack")
    found["Outcome"] = signature(definitions("records")["Outcome"], "Outcome")
    place = definitions("train.sites")
    found["place"] = signature(place["Place.__call__"], "place")
    found["place.norm"] = signature(place["Place.norm"], "place.norm")
    found["place.sum"] = signature(place["Place.sum"], "place.sum")
    found |= {
        f"normbench.{name}": signature(definitions("api")[name], f"normbench.{name}") for name in ("layer", "register")
    }
    return found


@pytest.mark.parametrize(("name", "expected"), signatures().items(), ids=signatures())
def test_signatures_are_those_of_the_code(name, expected):
    """docs/plugins.md gives every hook, description and function of the contract as it is."""
    fenced = re.findall(r"```\w*\n(.*?)\n```", (DOCS / "plugins.md").read_text(encoding="utf-8"), re.DOTALL)
    head = expected.partition("(")[0] + "("
    shown = [part for block in fenced for part in block.split("\n\n") if part.startswith(head)]

    best = max(shown, key=lambda part: difflib.SequenceMatcher(None, part, expected).ratio(), default="")

    assert folded(best) == folded(expected), "\n".join(
        difflib.unified_diff(best.splitlines(), expected.splitlines(), "docs/plugins.md", "the code", lineterm="")
    )


def folded(text: str) -> str:
    """Return a signature without its line breaks: a long one may be broken anywhere."""
    return re.sub(r",? \)", ")", " ".join(text.split())).replace("( ", "(")


if __name__ == "__main__":
    print("\n\n".join(signatures().values()))

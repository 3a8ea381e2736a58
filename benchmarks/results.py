"""Write docs/results.md and its picture from the records in results/: nothing is trained, and no figure is typed."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from sections import ROOT

from normbench.boards import tables
from normbench.boards.grid import gather
from normbench.charts.rates import draw
from normbench.store import Store
from normbench.tables import Table
from normbench.tables.table import TableRow, Value
from normbench.tables.text import terminal

WIDTH = 132
#: Those of mnist-cnn.
STEPS = 156
PAGE, PICTURE = ROOT / "docs" / "results.md", ROOT / "docs" / "mnist-lr.svg"


def main() -> None:
    """Write the page and its picture."""
    PAGE.write_text(page(), encoding="utf-8")
    PICTURE.write_bytes(draw(gather(Store(ROOT / "results" / "mnist-lr.json")), "svg"))


def page() -> str:
    """Return the page."""
    lines = [
        "# Results",
        "",
        "What the built-in suites gave here, and which of the usual claims they bear out. Written by `tox -e results`",
        "from the records in `results/`, which `normbench leaderboard results/SUITE.json` and every other reporting",
        "command read as well. Each claim has a 95% interval of its own: about one in twenty misses the truth.",
        "",
        *_mnist(Store(ROOT / "results" / "mnist-lr.json")),
        *_fashion(Store(ROOT / "results" / "fashion-mlp.json")),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _mnist(store: Store) -> Iterator[str]:
    accuracy, stability, *_ = tables(store)
    yield from _head("mnist-lr: do higher rates train?", store)
    yield from ["![Accuracy against learning rate on MNIST, one line per norm](mnist-lr.svg)", ""]
    yield from _boards(store)
    yield from [
        "| claim | here |",
        "| --- | --- |",
        _claim("Batch norm lets higher rates train", _trains_up_to(stability, "batchnorm", "none")),
        _claim("Gamma and beta may be useless", _versus(accuracy, "batchnorm-no-affine")),
        _claim("After the activation may be better", _versus(accuracy, "batchnorm-after")),
        _claim("Online norm does what batch norm does", _both(accuracy, stability, "online-norm")),
        _claim("Batch renorm does what batch norm does", _both(accuracy, stability, "batch-renorm")),
        _claim("The same, with momentum 0.1", _both(accuracy, stability, "batch-renorm(momentum=0.1)")),
        "",
        f"Batch renorm has momentum 0.01 by default, with which {100 * 0.99**STEPS:.0f}% of the running statistics are "
        f"after {STEPS} steps what they began with: too slow for so short a training.",
        "",
    ]


def _fashion(store: Store) -> Iterator[str]:
    accuracy, *_ = tables(store)
    yield from _head("fashion-mlp: a published table, run again", store)
    yield from _boards(store)
    told = [note.removeprefix("not reproduced: ") for note in accuracy.notes if note.startswith("not reproduced")]
    if told:
        yield from ["Of the published figures, these were not reproduced:", "", *[f"- {note}" for note in told], ""]
    yield from ["| claim | here |", "| --- | --- |"]
    for norm in ("online-norm", "layer-norm", "none"):
        theirs, base = (_row(accuracy, name).values["published"].number or 0.0 for name in (norm, "batchnorm"))
        claim = f"{norm} is {100 * (theirs - base):+.1f} points from batchnorm (published)"
        yield _claim(claim, _versus(accuracy, norm))
    yield ""


def _head(title: str, store: Store) -> Iterator[str]:
    """Yield a heading, and what the records were made with."""
    run = store.runs()[-1]
    environments = store.environments().values()
    hardware = " and ".join(
        f"{each.processor}, {each.cores} cores; Python {each.python}, torch {each.packages['torch']}, "
        f"pytorch-lightning {each.packages['pytorch-lightning']}"
        for each in environments
    )
    trials = sum(1 for _ in store.trials())
    yield from [f"## {title}", "", f"{run.suite['summary']}.", ""]
    yield from [f"`{shlex.join(run.command)}`: {trials} trials, {len(run.cells[0].seeds)} seeds, on {hardware}.", ""]


def _boards(store: Store) -> Iterator[str]:
    yield from ["```text", terminal(tables(store), WIDTH), "```", ""]


def _claim(claim: str, verdict: str) -> str:
    return f"| {claim} | {verdict} |"


def _versus(accuracy: Table, norm: str) -> str:
    """Say how a norm compares in accuracy, each at its own best rate."""
    value = _row(accuracy, norm).values["vs_baseline"]
    centre, low, high = (100 * (number or 0.0) for number in (value.number, value.low, value.high))
    points = f"{centre:+.2f} points ({low:+.2f}…{high:+.2f}) to {accuracy.baseline}"
    if value.ends != "t":
        return f"not decided, a seed failed: {points}"
    return f"{'better' if low > 0 else 'worse' if high < 0 else 'not told apart'}: {points}"


def _trains_up_to(stability: Table, norm: str, other: str) -> str:
    ours, theirs = (_row(stability, name).values["trains_up_to"] for name in (norm, other))
    word = "borne out" if (ours.low or 0) > (theirs.high or 0) else "not borne out"
    return f"{word}: {norm} trains up to {_rate(ours)}, {other} up to {_rate(theirs)}"


def _rate(value: Value) -> str:
    median = "no rate of the grid" if value.number is None else f"{value.number:g}"
    if value.low == value.high:
        return f"{median} at every seed"
    low = "none" if value.low is None else f"{value.low:g}"
    return f"{median} ({low}…{value.high:g})"


def _both(accuracy: Table, stability: Table, norm: str) -> str:
    up_to = _rate(_row(stability, norm).values["trains_up_to"])
    return f"accuracy {_versus(accuracy, norm)}; trains up to {up_to}"


def _row(table: Table, norm: str) -> TableRow:
    return next(row for row in table.rows if row.norm == norm)


if __name__ == "__main__":
    main()

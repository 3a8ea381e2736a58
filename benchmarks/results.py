"""Write docs/results.md and its picture from the records in results/: nothing is trained, and no figure is typed."""

from __future__ import annotations

import shlex
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, replace

from scipy import stats
from sections import ROOT

from normbench.boards import tables
from normbench.boards.accuracy import accuracy
from normbench.boards.grid import Grid, Row, gather
from normbench.boards.stability import curves, trains_up_to
from normbench.charts.against import value_of
from normbench.charts.pictures import figure
from normbench.plan import choose
from normbench.spelling import assignments
from normbench.stats.verdicts import holm
from normbench.store import Store
from normbench.suites import Suite, read
from normbench.tables.text import terminal

WIDTH = 132
#: The rates of mnist-lr that its first grid did not have.
BETWEEN = (0.003, 0.03, 0.3)
PAGE = ROOT / "docs" / "results.md"
#: The suites of many norms, each with the heading of its section.
ZOO = {
    "zoo": "zoo: every norm on images",
    "zoo-mlp": "zoo-mlp: every norm on vectors",
    "batch-size": "batch-size: which norms hold at small batches?",
    "tokens": "tokens: the norms of transformers",
}
#: The recipe value that a suite's conditions differ in.
AGAINST = {"batch-size": "batch_size"}


def main() -> None:
    """Write the page and its pictures."""
    PAGE.write_text(page(), encoding="utf-8")
    for name, store in _stored("mnist-lr", *ZOO).items():
        picture = ROOT / "docs" / f"{name}.svg"
        against = AGAINST.get(name)
        picture.write_bytes(figure(store, "against" if against else "rates", against=against).encoded("svg"))


def _stored(*names: str) -> dict[str, Store]:
    """Return the records of suites, of those that there are some of."""
    files = {name: ROOT / "results" / f"{name}.json" for name in names}
    return {name: Store(file) for name, file in files.items() if file.exists()}


def page() -> str:
    """Return the page."""
    stores = [Store(ROOT / "results" / f"{name}.json") for name in ("mnist-lr", "fashion-mlp")]
    lines = [
        "# Results",
        "",
        "For readers who want to know how norms compare: what the built-in suites gave, and which common claims these",
        "results support. [metrics.md](metrics.md) says what each number on a board means, [norms.md](norms.md) what",
        "each norm computes, and [glossary.md](glossary.md) has the terms.",
        "",
        "`tox -e results` writes this page from the records in `results/`. `normbench leaderboard results/SUITE.json`",
        "prints a suite's boards again, and every other reporting command reads these files as well.",
        "",
        *_claims(*(gather(store)[0] for store in stores)),
        *_mnist(stores[0]),
        *_fashion(stores[1]),
    ]
    for name, store in _stored(*ZOO).items():
        lines += _many(name, store)
    return "\n".join(lines).rstrip() + "\n"


def _mnist(store: Store) -> Iterator[str]:
    [grid] = gather(store)
    yield from _head("mnist-lr: do higher rates train?", store)
    yield from ["![Accuracy against learning rate on MNIST, one line per norm](mnist-lr.svg)", ""]
    yield from ["```text", terminal(tables(store), WIDTH), "```", ""]
    yield from _finer(grid)
    [steps] = {result.steps for row in grid.rows for result in row.results.values() if result.trained}
    yield from [
        f"Batch renorm has momentum 0.01 by default. With that, {100 * 0.99**steps:.0f}% of the running statistics are "
        f"still their initial value after {steps} steps.",
        "",
    ]


def _finer(grid: Grid) -> Iterator[str]:
    """Yield what the rates between the decades changed: each norm's choice without them and with them."""
    decades = [rate for rate in grid.rates if rate not in BETWEEN]
    yield from [
        "**Rates between the decades.** "
        f"An earlier grid had the rates {', '.join(f'{rate:g}' for rate in decades)}. "
        f"{', '.join(f'{rate:g}' for rate in BETWEEN)} were added, because a norm that peaks between two decades was "
        "shown at a rate that does not suit it. The table has the rate that each norm chooses on the seeds of the "
        "grid, without the added rates and with them, and the mean test accuracy at that rate over these seeds:",
        "",
        "| norm | without | accuracy | with | accuracy | difference, points |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    changed: list[str] = []
    for row in grid.rows:
        alike = {"settings": 1, "seeds": row.complete, "measure": grid.measure}
        chosen = [choose(row.results, rates=rates, **alike) for rates in (decades, grid.rates)]
        rates = [choice[1] for choice in chosen if choice is not None]
        before, after = (100 * statistics.fmean(one.score or 0.0 for one in row.at(rate).values()) for rate in rates)
        cells = [row.label, f"{rates[0]:g}", f"{before:.1f}", f"{rates[1]:g}", f"{after:.1f}", f"{after - before:+.1f}"]
        changed += [f"{row.label!r} ({after - before:+.1f} points)"] * (rates[0] != rates[1])
        yield f"| {' | '.join(cells)} |"
    yield from [
        "",
        f"So the added rates changed the choice for {len(changed)} of {len(grid.rows)} norms"
        + (f": {', '.join(changed)}." if changed else ".")
        + " On a grid of decades, a norm whose best rate lies between two decades is not measured at its best rate. "
        "The added rates also show more exactly up to which rate a norm trains. The trainings of an earlier version of "
        "this page had 156 steps instead of a whole epoch, which is another reason why its numbers differ.",
        "",
    ]


def _fashion(store: Store) -> Iterator[str]:
    yield from _head("fashion-mlp: a published table, run again", store)
    # The records are older than the number of runs behind the published figures, which the suite has now.
    suite = _suite("fashion-mlp")
    [grid] = gather(store)
    boards = [accuracy(replace(grid, published=suite.published[grid.task])), *tables(store, ["throughput"])]
    yield from ["```text", terminal(boards, WIDTH), "```", ""]


def _many(name: str, store: Store) -> Iterator[str]:
    """Yield the section of a suite of many norms: its boards, or a table across its conditions."""
    yield from _head(ZOO[name], store)
    yield from [f"![Score against {AGAINST.get(name, 'learning rate')}, each norm of the suite {name}]({name}.svg)", ""]
    grids = gather(store)
    if name in AGAINST:
        yield from _across(grids, AGAINST[name])
        return
    yield from ["```text", terminal(tables(store), WIDTH), "```", ""]


def _across(grids: list[Grid], name: str) -> Iterator[str]:
    """Yield a table of the norms' scores at their chosen rates, one column per value of `name`, their condition."""
    conditions = [{name: value_of(grid, name), **grid.condition} for grid in grids]
    yield from [
        f"Each cell has the mean {grids[0].measure.name} in % over fresh seeds, with the standard deviation over them. "
        "The rate is in brackets; it was chosen for that condition on the seeds of the grid. The highest mean of a "
        "column is bold. *n failed* counts seeds that did not train.",
        "",
        f"| norm | {' | '.join(map(assignments, conditions))} |",
        f"| --- |{' --- |' * len(grids)}",
    ]
    best = [max(statistics.fmean(row.scores().values()) for row in grid.rows) for grid in grids]
    for label in dict.fromkeys(name for grid in grids for name in _named(grid)):
        cells = [_cell(grid, label, highest) for grid, highest in zip(grids, best, strict=True)]
        yield f"| {label} | {' | '.join(cells)} |"
    yield ""
    for label, reason in dict.fromkeys(apart for grid in grids for apart in grid.apart):
        yield f"- {label}: {reason}"
    yield ""


def _named(grid: Grid) -> list[str]:
    """Return the norms of a grid, those that stand apart as well."""
    return [*(row.cell.label for row in grid.rows), *(label for label, _ in grid.apart)]


def _cell(grid: Grid, label: str, highest: float) -> str:
    row = next((row for row in grid.rows if row.label == label), None)
    if row is None:
        return "–"
    scores = list(row.scores().values())
    mean = statistics.fmean(scores)
    shown = f"{100 * mean:.1f}"
    text = f"**{shown}**" if mean == highest else shown
    spread = f" ±{100 * statistics.stdev(scores):.1f}" if len(scores) > 1 else ""
    failed = sum(not result.trained for result in row.chosen().values())
    return f"{text}{spread} ({row.rate:g})" + (f", {failed} failed" if failed else "")


@dataclass(frozen=True)
class Claim:
    """A claim, what was seen in words, and p of "nothing differs"; `holds` says what a small p then means."""

    text: str
    seen: str
    p: float
    holds: str


def _claims(mnist: Grid, fashion: Grid) -> Iterator[str]:
    """Yield all claims of the page, their verdicts after Holm's correction over all of them."""
    claims = [
        _reach(mnist, "Batch norm lets higher rates train", "batchnorm", "none"),
        _accuracy(mnist, "Without gamma and beta batch norm is as accurate", "batchnorm-no-affine"),
        _accuracy(mnist, "After the activation batch norm is more accurate", "batchnorm-after"),
        _accuracy(mnist, "Online norm is as accurate as batch norm", "online-norm"),
        _accuracy(mnist, "Batch renorm is as accurate as batch norm", "batch-renorm"),
        _accuracy(mnist, "The same, with momentum 0.1", "batch-renorm(momentum=0.1)"),
    ]
    published = fashion.published.scores if fashion.published else {}
    claims += [
        _accuracy(
            fashion,
            f"{norm} is {published[norm] - published['batchnorm']:+.1f} points from batchnorm (published)",
            norm,
        )
        for norm in ("online-norm", "layer-norm", "none")
    ]
    yield from [
        "## Which common claims hold here",
        "",
        f"The table has {len(claims)} claims and a verdict on each.",
        "",
        "- p is corrected (Holm) over all claims, so that the verdicts hold together. A difference counts at p ≤ .05.",
        "- The intervals in round brackets are 95% intervals, each for one claim alone.",
        "- *Not told apart* does not mean *no effect*: the interval says how large an effect these seeds leave open.",
        "- *(published)* claims are the differences in the published table that `fashion-mlp` runs again.",
        "",
        "| claim | seen here | p | verdict |",
        "| --- | --- | --- | --- |",
    ]
    for claim, p in zip(claims, holm([claim.p for claim in claims]), strict=True):
        verdict = claim.holds if p <= 0.05 else "not told apart"
        yield f"| {claim.text} | {claim.seen} | {_p(p)} | {verdict} |"
    yield ""


def _p(p: float) -> str:
    return "<.001" if p < 0.001 else f"{p:.3f}".removeprefix("0")


def _accuracy(grid: Grid, text: str, norm: str) -> Claim:
    """Compare a norm with the baseline at its seeds, by the paired t test; failed seeds count with their score."""
    ours, theirs = (_row(grid, name).scores() for name in (norm, grid.baseline))
    seeds = sorted(set(ours) & set(theirs))
    differences = [100 * (ours[seed] - theirs[seed]) for seed in seeds]
    test = stats.ttest_1samp(differences, 0.0)
    ends = test.confidence_interval(0.95)
    centre = statistics.fmean(differences)
    failed = sum(not result.trained for result in _row(grid, norm).chosen().values())
    seen = f"{centre:+.2f} points ({ends.low:+.2f}…{ends.high:+.2f}) from {grid.baseline}, {len(seeds)} seeds"
    seen += f"; {failed} of them failed" * bool(failed)
    return Claim(text, seen, float(test.pvalue), "more accurate" if centre > 0 else "less accurate")


def _reach(grid: Grid, text: str, norm: str, other: str) -> Claim:
    """Compare the highest rates that two norms train up to, seed by seed, by the exact sign test."""
    ours, theirs = (_up_to(grid, name) for name in (norm, other))
    seeds = sorted(set(ours) & set(theirs))
    above, below = (sum(sign * (ours[seed] - theirs[seed]) > 0 for seed in seeds) for sign in (1, -1))
    test = stats.binomtest(above, above + below, 0.5) if above + below else None
    medians = [grid.rates[statistics.median_low(side.values())] for side in (ours, theirs)]
    seen = f"{norm} trains up to {medians[0]:g}, {other} up to {medians[1]:g} (medians); higher at {above} of "
    seen += f"{len(seeds)} seeds"
    return Claim(text, seen, float(test.pvalue) if test else 1.0, "higher" if above > below else "lower")


def _up_to(grid: Grid, norm: str) -> dict[int, int]:
    """Return for each seed the place in the grid of the last rate that trains; -1 where none does."""
    row = _row(grid, norm)
    chosen = grid.rates.index(row.rate or 0.0)
    reached = {seed: trains_up_to(curve, chosen) for seed, curve in curves(grid, row).items()}
    return {seed: -1 if last is None else last for seed, last in reached.items()}


def _row(grid: Grid, norm: str) -> Row:
    return next(row for row in grid.rows if row.label == norm)


def _head(title: str, store: Store) -> Iterator[str]:
    """Yield a heading, and what the records were made with."""
    # As it is now: how long a suite takes is known once it ran.
    summary = _suite(store.runs()[-1].suite["name"]).summary
    yield from [f"## {title}", "", f"{summary}.", "", made_with(store), ""]


def _suite(name: str) -> Suite:
    return read(ROOT / "suites" / "normbench_suites" / f"{name}.toml")


def made_with(store: Store) -> str:
    """Return a line that says how the records of a suite were made: command, trials, seeds, hardware and versions."""
    run = store.runs()[-1]
    environments = store.environments().values()
    hardware = " and ".join(
        f"{each.processor}, {each.cores} cores; Python {each.python}, torch {each.packages['torch']}, "
        f"pytorch-lightning {each.packages['pytorch-lightning']}"
        for each in environments
    )
    trials, cell = sum(1 for _ in store.trials()), run.cells[0]
    seeds = f"{len(cell.seeds)} seeds" + f" and {len(cell.fresh)} fresh ones" * bool(cell.fresh)
    return f"`{shlex.join(run.command)}`: {trials} trials, {seeds}, on {hardware}."


if __name__ == "__main__":
    main()

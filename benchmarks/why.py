"""Write the tables and pictures of docs/why.md from the records in results/: nothing is trained, no figure is typed."""

from __future__ import annotations

import functools
import itertools
import math
import statistics
from collections.abc import Iterable, Iterator, Sequence

from sections import ROOT, filled

from normbench.boards.grid import Grid, Row, gather
from normbench.boards.watched import shown_traces
from normbench.charts import panels, series
from normbench.charts.looks import looks
from normbench.charts.picture import Picture
from normbench.charts.pictures import figure
from normbench.store import Store
from normbench.store.records import Result, TraceRecord
from results import made_with

PAGE = ROOT / "docs" / "why.md"
#: Each picture of the page: its suite, and what is drawn of it.
PICTURES = {
    "why-rates": ("why-rates", {"kind": "curves", "at": [0.1, 0.5, 1.0]}),
    "why-rates-paper": ("why-rates-paper", {"kind": "rates"}),
    "why-shift": ("why-shift", {"kind": "curves"}),
    "why-shift-moments": ("why-shift", {"kind": "series", "series": "moments.mean_change", "site": 1}),
    "why-shift-paper": ("why-shift-paper", {"kind": "series", "series": "shift.cosine"}),
    "why-smooth": ("why-smooth", {"kind": "series", "series": "activation-beta.beta"}),
    "why-smooth-paper": ("why-smooth-paper", {"kind": "series", "series": "smoothness.beta"}),
    "why-signal": ("why-signal", {"kind": "series", "series": "moments.std", "step": 0}),
    "why-sigmoid": ("why-sigmoid", {"kind": "curves", "at": [0.1, 1.0]}),
    "why-weights": ("why-weights", {"kind": "series", "series": "gradients.effective_rate", "at": [0.1, 1.0, 3.0]}),
}
#: What Ioffe & Szegedy 2015 draw of what goes into the last sigmoid.
PERCENTILES = ("p15", "p50", "p85")
#: The accuracy after 100 steps that an independent implementation of the demonstration gave, mean over 8 seeds.
INDEPENDENT = {
    (0.1, "none"): "91.0",
    (0.1, "demo's BN"): "93.2",
    (0.5, "none"): "78.3",
    (0.5, "demo's BN"): "83.3, one seed at 10.7",
    (1.0, "none"): "lost, but one seed at 63",
    (1.0, "demo's BN"): "lost",
}


def main() -> None:
    """Write the sections and the pictures."""
    PAGE.write_text(page(), encoding="utf-8")
    for name, (suite, asked) in PICTURES.items():
        (ROOT / "docs" / f"{name}.svg").write_bytes(figure(stored(suite), **asked).encoded("svg"))
    (ROOT / "docs" / "why-sigmoid-percentiles.svg").write_bytes(percentiles().encoded("svg"))


def percentiles() -> Picture:
    """Return a picture of the percentiles of what goes into the last sigmoid of the shallow network."""
    store = stored("why-sigmoid")
    grid = gather(store)[0]
    styles = looks(row.cell for row in grid.rows)
    names = (f"moments.{name}" for name in PERCENTILES)
    charts = [series.charts(store, [grid], styles, name, [0.1, 1.0], 2, None) for name in names]
    return panels.figure(itertools.chain(*charts))


def page() -> str:
    """Return the page, with what is written here between its markers."""
    text = PAGE.read_text(encoding="utf-8")
    for write in (rates, shift, smooth, signal, sigmoid, weights):
        text = filled(text, write.__name__, "\n".join(write()))
    return text


def stored(suite: str) -> Store:
    """Return a suite's records."""
    return Store(ROOT / "results" / f"{suite}.json")


def rates() -> Iterator[str]:
    """Yield how accurate each norm is at each rate, and how sharp the loss is at the start, in both forms."""
    for suite in ("why-rates", "why-rates-paper"):
        store = stored(suite)
        [grid] = gather(store)
        theirs = suite == "why-rates"
        head = ["rate", "norm", "mean accuracy, %", "median", "lowest", "seeds below 50%", "seeds above `none`"]
        yield from _head(store, [*head, *["independent, 8 seeds"] * theirs])
        for rate, row in itertools.product(grid.rates, _rows(grid)):
            scores = _scores(row, rate)
            numbers = [f"{statistics.fmean(scores.values()):.1f}", f"{statistics.median(scores.values()):.1f}"]
            numbers += [f"{min(scores.values()):.1f}", str(sum(score < 50 for score in scores.values()))]
            numbers += [_above(scores, _scores(_row(grid, "none"), rate)) if row.label != "none" else ""]
            yield _line([f"{rate:g}", row.label, *numbers, *[INDEPENDENT.get((rate, row.label), "")] * theirs])
        yield ""
        yield from [
            _line(["norm", "largest eigenvalue λ of the Hessian at the first step", "2 / λ"]),
            _line(["---"] * 3),
        ]
        for row in _rows(grid):
            found = _series(store, row, "sharpness", "eigenvalue").values()
            largest = statistics.median(values[0] for _, values in found)
            yield _line([row.label, _number(largest), _number(2 / largest)])
        yield ""


def shift() -> Iterator[str]:
    """Yield how accurate each norm is, and how far distributions and gradients move, in both forms."""
    for suite in ("why-shift", "why-shift-paper"):
        store = stored(suite)
        [grid] = gather(store)
        gradients = suite == "why-shift-paper"
        head = ["norm", "accuracy, %", "seeds above `none`", "change of means", "change of variances"]
        yield from _head(store, [*head, *["cosine of G and G′: second convolution", "linear"] * gradients])
        none = _row(grid, "none")
        for row in _rows(grid):
            scores = _scores(row, grid.rates[0])
            cells = [row.label, f"{statistics.fmean(scores.values()):.1f} ± {statistics.stdev(scores.values()):.1f}"]
            cells += ["" if row is none else _above(scores, _scores(none, grid.rates[0]))]
            cells += [_against(store, row, none, "moments", name, 1) for name in ("mean_change", "variance_change")]
            cells += [
                f"{statistics.fmean(_means(store, row, 'shift', 'cosine', at).values()):.2f}"
                for at in (1, 2)
                if gradients
            ]
            yield _line(cells)
        yield ""


def smooth() -> Iterator[str]:
    """Yield how smooth the loss is along the gradient, by each measure, in both forms."""
    for suite in ("why-smooth", "why-smooth-paper"):
        store = stored(suite)
        [grid] = gather(store)
        none = _row(grid, "none")
        head = ["norm", "jump of the loss from step to step", "β of a block's output"]
        yield from _head(store, [*head, "range of the loss", "range of the gradient", "β in the weights", "β ‖w‖²"])
        for row in _rows(grid):
            cells = [row.label, _compared(_jumps(store, row), _jumps(store, none), row is none)]
            cells.append(_against(store, row, none, "activation-beta", "beta"))
            for low, high in (("loss_low", "loss_high"), ("gradient_low", "gradient_high")):
                ours, theirs = (_ranges(store, each, low, high) for each in (row, none))
                cells.append(_compared(ours, theirs, row is none))
            cells += [_against(store, row, none, "smoothness", name) for name in ("beta", "relative_beta")]
            yield _line(cells)
        yield ""


def _jumps(store: Store, row: Row) -> dict[int, float]:
    """Return the mean change of the loss from one step to the next, by seed."""
    found = _series(store, row, "curve", "loss")
    return {
        seed: statistics.fmean(abs(b - a) for a, b in itertools.pairwise(values)) for seed, (_, values) in found.items()
    }


def _ranges(store: Store, row: Row, low: str, high: str) -> dict[int, float]:
    """Return the mean range along the gradient, by seed."""
    ends = [_means(store, row, "smoothness", name) for name in (low, high)]
    return {seed: ends[1][seed] - ends[0][seed] for seed in ends[0]}


def signal() -> Iterator[str]:
    """Yield the standard deviation before some of the activations at the first step, and the accuracy at the end."""
    store = stored("why-signal")
    sites = (0, 3, 7, 11, 15)
    yield from _head(store, ["weights × ", "norm", *(f"layer {site + 1}" for site in sites), "accuracy, %"])
    for grid in gather(store):
        for row in _rows(grid):
            found = [values for _, values in _series(store, row, "moments", "std").values()]
            first = [_number(statistics.fmean(values[0][site] for values in found)) for site in sites]
            scale = grid.condition.get("init_scale", 1)
            yield _line([f"{scale:g}", row.label, *first, _mean_score(row, grid.rates[0])])
    yield ""


def sigmoid() -> Iterator[str]:
    """Yield how accurate the networks of sigmoids are, and the percentiles of what goes into the last of them."""
    store = stored("why-sigmoid")
    head = ["hidden layers", "rate", "norm", "accuracy, %", "input of the last sigmoid at the first step", "at the end"]
    yield from _head(store, [*head, "variance from image to image at the first step", "saturated at the end, %"])
    for grid, rate in itertools.product(gather(store), (0.1, 1.0)):
        depth = grid.task_params.get("depth", 3)
        for row in _rows(grid):
            ends = []
            for at in (0, -1):
                percentiles = [
                    statistics.fmean(values[at][depth - 1] for _, values in found.values())
                    for found in (_series(store, row, "moments", name, rate) for name in PERCENTILES)
                ]
                ends.append(" … ".join(f"{value:.2f}" for value in percentiles))
            varies, saturated = (
                statistics.fmean(values[at][depth - 1] for _, values in _series(store, row, *name, rate).values())
                for at, name in ((0, ("moments", "variance")), (-1, ("activity", "saturated")))
            )
            cells = [str(depth), f"{rate:g}", row.label, _mean_score(row, rate), *ends]
            yield _line([*cells, _number(varies), f"{100 * saturated:.0f}"])
    yield ""


def weights() -> Iterator[str]:
    """Yield how long the weights of the first convolution get at each rate, and what is left of the rate by that."""
    store = stored("why-weights")
    [grid] = gather(store)
    head = ["rate", "norm", "accuracy, %", "length of the first weights: first step", "last look", "rate / length²"]
    yield from _head(store, head)
    for rate, row in itertools.product(grid.rates, _rows(grid)):
        found = list(_series(store, row, "gradients", "weight", rate).values())
        first, last = (statistics.fmean(values[at][0] for _, values in found) for at in (0, -1))
        cells = [f"{rate:g}", row.label, _mean_score(row, rate), f"{first:.2f}", _number(last)]
        yield _line([*cells, _number(rate / last**2) if math.isfinite(last) and row.label != "none" else ""])
    yield ""


def _head(store: Store, columns: Sequence[str]) -> list[str]:
    return ["", made_with(store), "", _line(columns), _line(["---"] * len(columns))]


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _rows(grid: Grid) -> list[Row]:
    """Return the norms in the order of the suite."""
    return sorted(grid.rows, key=lambda row: row.label != "none")


def _row(grid: Grid, label: str) -> Row:
    return next(row for row in grid.rows if row.label == label)


def _scores(row: Row, rate: float) -> dict[int, float]:
    """Return the test accuracy of the grid's seeds at a rate, in %; chance where a training diverged."""
    return {seed: 100 * (result.score or 0.0) for seed, result in _results(row, rate).items()}


def _mean_score(row: Row, rate: float) -> str:
    scores = list(_scores(row, rate).values())
    return f"{statistics.fmean(scores):.1f} ({min(scores):.1f} to {max(scores):.1f})"


def _results(row: Row, rate: float | None) -> dict[int, Result]:
    return row.at(row.cell.rates[0] if rate is None else rate)


def _series(
    store: Store, row: Row, probe: str, name: str, rate: float | None = None
) -> dict[int, tuple[list[int], list]]:
    """Return what a probe gave by one name: steps and values by seed of the grid, at a rate or the lowest."""
    traces = _traces(store)
    found = {seed: traces.get((result.key, probe)) for seed, result in _results(row, rate).items()}
    return {
        seed: (trace.series[name].step, [_finite(value) for value in trace.series[name].value])
        for seed, trace in found.items()
        if trace is not None and name in trace.series
    }


@functools.cache
def _traces(store: Store) -> dict[tuple[str, str], TraceRecord]:
    """Return the traces of the trials that boards show, by trial and probe."""
    shown = [result for grid in gather(store) for row in grid.rows for result in row.shown]
    return {(trace.key, trace.probe): trace for trace in shown_traces(store, shown)}


def _finite(value: object) -> object:
    """Return a value of a trace with numbers for its words."""
    return [float(one) for one in value] if isinstance(value, list) else float(value)  # type: ignore[arg-type]


def _means(store: Store, row: Row, probe: str, name: str, site: int | None = None) -> dict[int, float]:
    """Return the mean over the looks of a probe, by seed."""
    return {
        seed: statistics.fmean(value if site is None else value[site] for value in values)
        for seed, (_, values) in _series(store, row, probe, name).items()
    }


def _against(store: Store, row: Row, none: Row, probe: str, name: str, site: int | None = None) -> str:
    """Return the mean of what a probe gave, and at how many seeds it is above that without a norm."""
    ours, theirs = (_means(store, each, probe, name, site) for each in (row, none))
    return _compared(ours, theirs, row is none)


def _compared(ours: dict[int, float], theirs: dict[int, float], same: bool) -> str:
    mean = _number(statistics.fmean(ours.values()))
    return mean if same else f"{mean} (higher at {_above(ours, theirs)})"


def _above(ours: dict[int, float], theirs: dict[int, float]) -> str:
    return f"{sum(ours[seed] > theirs[seed] for seed in ours)} of {len(ours)}"


def _number(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else "–"


if __name__ == "__main__":
    main()

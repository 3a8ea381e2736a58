"""The boards of an export, worked out again from what docs/metrics.md says: nothing here is normbench's.

`boards` returns them in the form that `normbench leaderboard --json` has. Each docstring is what its function follows.
"""

# ruff: noqa: D401, D403

from __future__ import annotations

import functools
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product
from typing import Any

import numpy as np
from scipy import stats

FRESH = 1_000_000
SCORED = ("trained", "not-trained", "diverged")
Choice = tuple[int, float]


class Figures(dict[str, Any]):
    """Entries of a row by their names in the JSON, and the flags that they bring along."""

    def __init__(self, *flags: str, **entries: Any) -> None:
        super().__init__(entries)
        self.flags = set(flags)

    def add(self, other: Figures) -> None:
        self.update(other)
        self.flags |= other.flags


@dataclass
class Norm:
    """A norm in a table: its trials by (setting, rate, seed), its whole seeds, its fresh ones, and what was chosen."""

    label: str
    cell: dict[str, Any]
    trials: dict[tuple[int, float, int], dict[str, Any]]
    points: list[Choice]
    seeds: list[int]
    fresh: list[int]
    choice: Choice | None = None

    def at(self, choice: Choice, seeds: Iterable[int]) -> dict[int, dict[str, Any]]:
        return {seed: self.trials[*choice, seed] for seed in seeds if (*choice, seed) in self.trials}


@dataclass
class Grid:
    """All norms of one task, condition and protocol, as the latest run has them."""

    head: dict[str, Any]
    rates: list[float]
    settings: list[dict[str, Any]]
    measure: dict[str, Any]
    norms: list[Norm]
    apart: set[str]
    shows_fresh: bool
    published: dict[str, Any]

    @property
    def up(self) -> float:
        return 1.0 if self.measure["direction"] == "up" else -1.0

    @property
    def scale(self) -> float:
        return 100.0 if self.measure["unit"] == "%" else 1.0

    @property
    def has_a_choice(self) -> bool:
        return self.head["protocol"] == "tuned" and len(self.rates) * len(self.settings) > 1

    def reported(self, norm: Norm) -> dict[int, dict[str, Any]]:
        """A table shows one kind of seed: fresh ones where no norm lacks them, else the grid's."""
        return norm.at(norm.choice, norm.fresh if self.shows_fresh else norm.seeds)

    def scores(self, norm: Norm) -> dict[int, float]:
        found = {seed: score(trial) for seed, trial in self.reported(norm).items()}
        return {seed: value for seed, value in found.items() if value is not None}

    def progress(self, value: float) -> float:
        """progress = (score − chance) / (reference − chance), and not below 0."""
        chance, reference = self.measure["chance"], self.measure["reference"]
        return max(0.0, (value - chance) / (reference - chance))


def boards(export: dict[str, Any]) -> list[dict[str, Any]]:
    """Return every board of an export: its `rows`, who is `apart`, and what its notes say (`said`)."""
    grids = gather(export)
    made = [board for grid in grids for board in (accuracy_board(grid), stability_board(grid)) if board]
    sessions = of_tables(export["sessions"])
    timed = {key: throughput(of_one, head_of(export, key)) for key, of_one in sessions.items()}
    return made + list(timed.values()) + aggregates(grids, timed)


# Which trials count


def table_of(one: Mapping[str, Any]) -> str:
    """One table per task and condition; a protocol has tables of its own."""
    tuned = one["recipe"].get("hold_out", True)
    of = [one["task"], one["task_version"], one.get("task_params", {}), one.get("condition", {}), tuned]
    return json.dumps(of, sort_keys=True)


def of_tables(found: Iterable[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    tables: dict[str, list[dict[str, Any]]] = {}
    for one in found:
        tables.setdefault(table_of(one), []).append(one)
    return tables


def head_of(export: dict[str, Any], key: str) -> dict[str, Any]:
    """Return what a table is of, and the baseline of its latest run."""
    task, version, params, condition, tuned = json.loads(key)
    run = [run for run in export["runs"] if any(table_of(cell) == key for cell in run["cells"])][-1]
    head = {"task": task, "task_version": version, "condition": condition, "baseline": run["baseline"]}
    return head | {"protocol": "tuned" if tuned else "published"} | ({"task_params": params} if params else {})


def gather(export: dict[str, Any]) -> list[Grid]:
    cells = [{**cell, "device": run["device"], "of": run} for run in export["runs"] for cell in run["cells"]]
    return [grid_of(export, key, of_table) for key, of_table in of_tables(cells).items()]


def grid_of(export: dict[str, Any], key: str, cells: list[dict[str, Any]]) -> Grid:
    """The grid of a table, its rates and tuned settings, is that of its latest run."""
    latest = cells[-1]
    rates, settings = latest["rates"], latest.get("settings", [{}])
    of_norms: dict[str, list[dict[str, Any]]] = {}
    for cell in cells:
        of_norms.setdefault(json.dumps([cell["norm"], cell.get("params", {})], sort_keys=True), []).append(cell)
    everyone = [norm_of(export, list(product(range(len(settings)), rates)), settings, of) for of in of_norms.values()]
    ranked = [norm for norm in everyone if norm.choice is not None]
    return Grid(
        head=head_of(export, key) | {"grid": rates},
        rates=rates,
        settings=settings,
        measure=next(trial["measure"] for norm in everyone for trial in norm.trials.values()),
        norms=ranked,
        apart={norm.label for norm in everyone if norm.choice is None},
        shows_fresh=bool(ranked) and all(has_fresh(norm) for norm in ranked),
        published=latest["of"]["suite"].get("published", {}).get(latest["task"], {}),
    )


def norm_of(
    export: dict[str, Any], points: list[Choice], settings: list[dict[str, Any]], cells: list[dict[str, Any]]
) -> Norm:
    """Seeds from all runs of a table count, if their code and kind of device are those of the norm's latest run.

    A seed counts for a norm once the trials at all rates (and tuned settings) are stored, whatever their outcome.
    """
    cell = cells[-1]
    planned, fresh = (sorted({seed for one in cells for seed in one.get(name, [])}) for name in ("seeds", "fresh"))
    found: dict[tuple[int, float, int], dict[str, Any]] = {}
    for trial in export["trials"]:
        if all(trial.get(name) == cell.get(name) for name in OF_A_NORM) and trial["seed"] in (*planned, *fresh):
            for setting, rate in points:
                if {**cell["recipe"], **settings[setting], "rate": rate} == trial["recipe"]:
                    found[setting, rate, trial["seed"]] = trial
    seeds = [seed for seed in planned if all((*point, seed) in found for point in points)]
    norm = Norm(cell["label"], cell, found, points, seeds, fresh)
    norm.choice = choose(norm, seeds)
    if norm.choice and "kept" in cell:
        norm.choice = settings.index(cell["kept"].get("setting", {})), cell["kept"]["rate"]
    return norm


OF_A_NORM = ("task", "task_version", "task_params", "norm", "params", "norm_print", "task_print", "device")


def has_fresh(norm: Norm) -> bool:
    """Whether all fresh seeds are stored that the norm's latest run asked for; if it asked for none, all of any run."""
    there = norm.at(norm.choice, norm.fresh)
    wanted = norm.cell.get("fresh") or norm.fresh
    return there.keys() >= set(wanted) and any(score(trial) is not None for trial in there.values())


def score(trial: Mapping[str, Any]) -> float | None:
    """`diverged` has the score of chance; the last four outcomes have none."""
    if trial["outcome"] not in SCORED:
        return None
    return trial["measure"]["chance"] if trial["outcome"] == "diverged" else trial["score"]


def validation(trial: Mapping[str, Any]) -> float | None:
    """Choices are made on validation; older results without validation scores have those on test."""
    if trial["outcome"] not in SCORED or trial["outcome"] == "diverged":
        return score(trial)
    return trial.get("validation", trial["score"])


def trained(trial: Mapping[str, Any]) -> bool:
    return trial["outcome"] == "trained"


def choose(norm: Norm, seeds: Sequence[int]) -> Choice | None:
    """The highest mean validation score over the seeds, and of equal ones the lower rate, then the earlier setting.

    A rate (and setting) at which a seed has no score is chosen only where no other has all.
    """
    found = {}
    for setting, rate in norm.points:
        trials = [norm.trials[setting, rate, seed] for seed in seeds]
        known = [up(trial) * value for trial in trials if (value := validation(trial)) is not None]
        if known:
            found[setting, rate] = (len(known) == len(seeds), round(mean(known), 12), -rate, -setting)
    return max(found, key=found.__getitem__) if found else None


def up(trial: Mapping[str, Any]) -> int:
    return 1 if trial["measure"]["direction"] == "up" else -1


# Over seeds


def mean(values: Sequence[float]) -> float:
    """The mean, the same whatever the order of the seeds."""
    return math.fsum(values) / len(values)


def mean_with_ends(name: str, values: Sequence[float], scale: float, *, all_trained: bool = True) -> Figures:
    """± where there are 3 seeds or more (and all trained); otherwise the lowest and the highest seed."""
    figures = Figures(**{name: None, f"{name}_low": None, f"{name}_high": None})
    if values:
        figures[name] = mean(values) * scale
    if len(values) >= 3 and all_trained:
        half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values)) * scale
        figures |= {f"{name}_low": figures[name] - half, f"{name}_high": figures[name] + half}
    elif values:
        figures |= {f"{name}_low": min(values) * scale, f"{name}_high": max(values) * scale}
        figures.flags.add(f"{name}:min-max")
    return figures


@functools.cache
def order_statistics(n: int) -> tuple[int, int]:
    """From the 2nd to the 8th of 9, the 4th to the 12th of 15: places from 0 of a 95% interval of the median."""
    k = max(k for k in range(n) if k == 0 or 2 * stats.binom.cdf(k - 1, n, 0.5) <= 0.05)
    return k - 1, n - k


def median_with_ends(values: Sequence[float]) -> tuple[float, float, float]:
    """With 6 seeds or more the ends are a 95% interval of order statistics, instead of min…max."""
    ordered = sorted(values)
    low, high = order_statistics(len(ordered)) if len(ordered) >= 6 else (0, -1)
    return float(np.median(ordered)), ordered[low], ordered[high]


# Ranks


def ranks(scores: Mapping[str, Mapping[int, float]]) -> dict[str, Figures]:
    """Return each norm's rank, its interval and its group, from its score at each seed; more is better.

    Equal means share a rank.
    """
    means = {norm: round(mean(list(of.values())), 12) for norm, of in scores.items()}
    place = {norm: 1 + sum(other > means[norm] for other in means.values()) for norm in means}
    surely = surely_better(scores)
    if surely is None:
        return {norm: Figures(rank=place[norm], rank_low=None, rank_high=None, group=None) for norm in means}
    groups = group_of(sorted(means, key=place.__getitem__), surely)
    return {norm: rank(norm, place[norm], surely, len(means), groups[norm]) for norm in means}


def rank(norm: str, place: int, surely: set[tuple[str, str]], norms: int, group: int) -> Figures:
    """From 1 + the number of norms that are surely better to the number of norms minus those that are surely worse.

    Where norms have different seeds, an interval is widened to contain the rank that is shown.
    """
    low = min(place, 1 + sum(worse == norm for _, worse in surely))
    high = max(place, norms - sum(better == norm for better, _ in surely))
    figures = Figures(rank=place, rank_low=low, rank_high=high, group=group)
    figures.flags |= {"may-be-best"} if low == 1 else set()
    return figures


def group_of(ordered: Sequence[str], surely: set[tuple[str, str]]) -> dict[str, int]:
    """A group ends where every norm above is surely better than every norm below."""
    groups, group = {}, 1
    for i, norm in enumerate(ordered):
        if i and all((above, below) in surely for above in ordered[:i] for below in ordered[i:]):
            group += 1
        groups[norm] = group
    return groups


def surely_better(scores: Mapping[str, Mapping[int, float]]) -> set[tuple[str, str]] | None:
    """A two-sided t test of the differences at 5%, with Holm's correction over all pairs of the table.

    Every two norms are compared by their differences at the seeds that both have. None without two that share two.
    """
    differences = {}
    for one, other in combinations(scores, 2):
        common = sorted(scores[one].keys() & scores[other].keys())
        if len(common) >= 2:
            differences[one, other] = np.array([scores[one][seed] - scores[other][seed] for seed in common])
    if not differences:
        return None
    several = [list(of.values()) for of in scores.values() if len(of) >= 2]
    shared, table = len(several) if spreads_are_alike(several) else 0, list(differences.values())
    p = {pair: p_of(d, *variance(d, table, shared)) for pair, d in differences.items()}
    return {pair if differences[pair].mean() > 0 else pair[::-1] for pair in holm(p)}


def variance(d: np.ndarray, of_table: Sequence[np.ndarray], norms: int) -> tuple[float, float]:
    """The larger of v and (4 v0 + (n−1) v)/(n+3), with n+3 degrees of freedom, from 3 seeds on; everywhere else v, n−1.

    v0 is the median over the pairs of v divided by the median of χ²(n−1)/(n−1). Where (norms − 2)(n − 1) is fewer than
    4, it replaces the 4. `norms` is 0 where their spreads are not alike.
    """
    n, v = len(d), float(d.var(ddof=1))
    prior = min(4, (norms - 2) * (n - 1))
    if n < 3 or prior <= 0:
        return v, n - 1
    v0 = np.median([other.var() / stats.chi2.median(len(other) - 1) * len(other) for other in of_table])
    return max(v, (prior * v0 + (n - 1) * v) / (prior + n - 1)), prior + n - 1


def spreads_are_alike(scores: Sequence[Sequence[float]]) -> bool:
    """Whether Bartlett's test of equal variances has p > .3; not where a norm does not vary."""
    return min(map(np.ptp, scores)) > 1e-9 and stats.bartlett(*scores).pvalue > 0.3


def p_of(d: np.ndarray, v: float, df: float) -> float:
    """Where no difference varies at all, nothing is sure."""
    return 1.0 if v < 1e-20 else float(2 * stats.t.sf(abs(d.mean()) / math.sqrt(v / len(d)), df))


def holm(p: Mapping[Any, float], level: float = 0.05) -> list[Any]:
    """Return what is rejected, from the smallest p up to the first above level / (number left)."""
    rejected = []
    for i, (key, value) in enumerate(sorted(p.items(), key=lambda item: item[1])):
        if value * (len(p) - i) > level:
            break
        rejected.append(key)
    return rejected


# The accuracy board


def accuracy_board(grid: Grid) -> dict[str, Any]:
    standing = ranks({norm.label: {s: grid.up * v for s, v in grid.scores(norm).items()} for norm in grid.norms})
    columns: list[Callable[[Grid, Norm], Figures]] = [accuracy, failed, vs_baseline, spread, without_score]
    if grid.head["protocol"] == "tuned":
        columns += [rate, epochs_to, same_seeds]
    if grid.published:
        columns.append(published)
    rows = {}
    for norm in grid.norms:
        rows[norm.label] = standing[norm.label]
        rows[norm.label]["seeds"] = len(grid.scores(norm))
        for column in columns:
            rows[norm.label].add(column(grid, norm))
    said = [*failed_said(grid), *published_said(grid)]
    return {"board": "accuracy", **grid.head, "rows": rows, "apart": grid.apart, "said": said}


def accuracy(grid: Grid, norm: Norm) -> Figures:
    """The mean test score over the seeds at the chosen rate; ± where there are 3 seeds or more and all trained."""
    scores = list(grid.scores(norm).values())
    all_trained = all(trained(grid.reported(norm)[seed]) for seed in grid.scores(norm))
    return mean_with_ends("accuracy", scores, grid.scale, all_trained=all_trained)


def rate(grid: Grid, norm: Norm) -> Figures:
    """The chosen rate, and the marks that say that it may not be the best one."""
    chosen = norm.choice[1]
    figures = Figures(rate=chosen)
    place = grid.rates.index(chosen)
    beside = [grid.rates[i] for i in (place - 1, place + 1) if 0 <= i < len(grid.rates)]
    if len(grid.rates) > 1 and len(beside) < 2:
        figures.flags.add("edge")
    if any(max(chosen, other) / min(chosen, other) > 3.4 for other in beside):
        figures.flags.add("coarse")
    without_one = [[seed for seed in norm.seeds if seed != left] for left in norm.seeds]
    others = {choose(norm, seeds) for seeds in without_one} - {None, norm.choice}
    if len(norm.seeds) >= 3 and others and "kept" not in norm.cell:
        figures.flags.add("unsettled")
    return figures


def epochs_to(grid: Grid, norm: Norm) -> Figures:
    """Epochs until the mean validation progress over the seeds first reaches 0.9, interpolated between two epochs.

    None where that never is, or after the first epoch already.
    """
    curves = [progress_by_epoch(grid, trial) for trial in grid.reported(norm).values() if score(trial) is not None]
    ends = sorted({end for curve in curves for end in curve})
    means = [mean([curve.get(end, 0.0) for curve in curves]) for end in ends]
    for i, value in enumerate(means):
        if value >= 0.9:
            if i == 0:
                break
            part = (0.9 - means[i - 1]) / (value - means[i - 1])
            return Figures(epochs_to=ends[i - 1] + part * (ends[i] - ends[i - 1]))
    return Figures(epochs_to=None)


def progress_by_epoch(grid: Grid, trial: Mapping[str, Any]) -> dict[float, float]:
    """From the epoch in which a seed diverged, the last of its losses, its progress is 0.

    Where a training ends within an epoch, that epoch is shorter.
    """
    series = trial.get("series", {})
    values = series.get("validation", [])
    if trial["outcome"] == "diverged":
        values = values[: len(series["loss"]) - 1]
    whole = trial["steps"] / trial["epoch_steps"] if trial.get("epoch_steps") else math.inf
    return {min(i + 1.0, whole): 0.0 if v is None else grid.progress(v) for i, v in enumerate(values)}


def failed(grid: Grid, norm: Norm) -> Figures:
    """How many seeds failed at the chosen rate: they ended in `not-trained` or `diverged`."""
    outcomes = [trial["outcome"] for trial in grid.reported(norm).values()]
    return Figures(failed=sum(outcome in ("not-trained", "diverged") for outcome in outcomes))


def failed_said(grid: Grid) -> list[str]:
    """A note gives the share of failed seeds with its 95% interval (Clopper–Pearson)."""
    said = []
    for norm in grid.norms:
        k, n = failed(grid, norm)["failed"], len(grid.scores(norm))
        if k:
            low, high = (100 * end for end in stats.binomtest(k, n).proportion_ci(0.95))
            said.append(f"'{norm.label}' {100 * k / n:.0f}% [{low:.0f}…{high:.0f}]")
    return said


def vs_baseline(grid: Grid, norm: Norm) -> Figures:
    """The mean over the seeds of the norm's score minus the baseline's at the same seed, each at its chosen rate.

    ± where there are 3 seeds or more and both norms trained at all of them.
    """
    base = next((other for other in grid.norms if other.label == grid.head["baseline"]), None)
    if base is None or base is norm:
        return mean_with_ends("vs_baseline", [], 1.0)
    ours, theirs = grid.scores(norm), grid.scores(base)
    both = sorted(ours.keys() & theirs.keys())
    results = (grid.reported(norm), grid.reported(base))
    all_trained = all(trained(result[seed]) for result in results for seed in both)
    values = [grid.up * (ours[seed] - theirs[seed]) for seed in both]
    return mean_with_ends("vs_baseline", values, grid.scale, all_trained=all_trained)


def published(grid: Grid, norm: Norm) -> Figures:
    """A figure from elsewhere, if the suite has one for the norm."""
    return Figures(published=grid.published["scores"].get(norm.label))


def published_said(grid: Grid) -> list[str]:
    """*Not reproduced* is said by Welch's test at 5%, with Holm's correction over the figures of the table.

    The test takes the source's own standard deviation and number of runs. There is no verdict without them, for a
    single run, with fewer than 3 seeds here, or where a seed failed here. Under a condition nothing is compared.
    """
    p, said = {}, []
    for norm in [] if grid.head["condition"] else grid.norms:
        figure, spread, runs = (grid.published.get(name, {}).get(norm.label) for name in ("scores", "spread", "runs"))
        ours = [value * grid.scale for value in grid.scores(norm).values()]
        if None not in (figure, spread, runs) and runs >= 2 and len(ours) >= 3 and not failed(grid, norm)["failed"]:
            test = welch(ours, figure, spread, runs)
            p[norm.label] = test.pvalue
            ends = test.confidence_interval(0.95)
            said.append(f"'{norm.label}' {mean(ours) - figure:+.2f} ±{(ends.high - ends.low) / 2:.2f}")
    return said + [f"not reproduced: '{label}'" for label in holm(p)]


def welch(ours: Sequence[float], figure: float, spread: float, runs: int) -> Any:
    """Welch's test, whose interval scipy gives for samples alone: the source's are some of its mean and spread."""
    theirs = figure + spread * stats.zscore(np.arange(runs), ddof=1)
    return stats.ttest_ind(ours, theirs, equal_var=False)


def spread(grid: Grid, norm: Norm) -> Figures:
    """The scores vary over the seeds more than 4 times as much as the median norm's, if those vary."""
    spreads = {n.label: np.std(list(of.values()), ddof=1) for n in grid.norms if len(of := grid.scores(n)) >= 2}
    wide = norm.label in spreads and spreads[norm.label] > 4 * np.median(list(spreads.values())) > 1e-12
    return Figures(*["spread"] * bool(wide))


def without_score(grid: Grid, norm: Norm) -> Figures:
    """`oom:2`: how many of the norm's trials have no score, for this reason."""
    return Figures(*[f"{outcome}:{count}" for outcome, count in without_score_of(norm).items()])


def without_score_of(norm: Norm) -> Counter[str]:
    grid = [trial for (_, _, seed), trial in norm.trials.items() if seed not in norm.fresh]
    shown = [*grid, *norm.at(norm.choice, norm.fresh).values()]
    return Counter(trial["outcome"] for trial in shown if trial["outcome"] not in SCORED)


def same_seeds(grid: Grid, norm: Norm) -> Figures:
    """While any norm in a table lacks fresh seeds at its chosen rate, all are shown at the grid's, with a flag."""
    return Figures(*["same-seeds"] * is_flattered(grid))


def is_flattered(grid: Grid) -> bool:
    """Whether there was a choice, and the seeds that made it are shown."""
    return grid.has_a_choice and not grid.shows_fresh


# The stability board


def stability_board(grid: Grid) -> dict[str, Any] | None:
    """A table with only one rate has no stability board."""
    if len(grid.rates) == 1 or not grid.norms:
        return None
    seeds = {norm.label: found for norm in grid.norms if (found := curves(grid, norm))}
    standing = ranks({label: areas(grid, found) for label, found in seeds.items()})
    rows = {}
    for norm in [norm for norm in grid.norms if norm.label in seeds]:
        rows[norm.label] = standing[norm.label]
        rows[norm.label]["seeds"] = len(seeds[norm.label])
        for column in (strip, over_the_grid, trains_up_to, range_, sensitivity, without_score):
            rows[norm.label].add(column(grid, norm))
    shares = ", ".join(
        f"{rate:g} ({100 * weight:.0f}%)" for rate, weight in zip(grid.rates, weights(grid), strict=True)
    )
    said = [f"scores here are on {split_of(grid)}.", f"weight of each rate in it: {shares};"]
    apart = grid.apart | {norm.label for norm in grid.norms} - rows.keys()
    return {"board": "stability", **grid.head, "rows": rows, "apart": apart, "said": said}


def split_of(grid: Grid) -> str:
    """Older results without validation scores show those on test; a note says which."""
    return "validation" if any("validation" in one for norm in grid.norms for one in norm.trials.values()) else "test"


@dataclass
class Curve:
    """A seed's scores at the grid's rates, more is better, and whether it trained there."""

    scores: list[float]
    trained: list[bool]


def curves(grid: Grid, norm: Norm) -> dict[int, Curve]:
    """Each column is computed separately for each seed, from its own curve of score against rate, on validation.

    For a task where lower scores are better, in units of progress.
    """
    found = {}
    for seed in norm.seeds:
        trials = [norm.trials[norm.choice[0], rate, seed] for rate in grid.rates]
        values = [validation(trial) for trial in trials]
        if None not in values:
            found[seed] = Curve(values if grid.up > 0 else [*map(grid.progress, values)], [*map(trained, trials)])
    return found


def weights(grid: Grid) -> list[float]:
    """Half the distance to each neighbour, in decades, divided by the grid's width."""
    at = np.log10(grid.rates)
    halves = np.diff(at) / 2 / (at[-1] - at[0])
    return list(np.concatenate([halves, [0]]) + np.concatenate([[0], halves]))


def areas(grid: Grid, seeds: Mapping[int, Curve]) -> dict[int, float]:
    """The area under straight lines between the rates, in decades, divided by the grid's width."""
    at = np.log10(grid.rates)
    return {seed: float(np.trapezoid(curve.scores, at) / (at[-1] - at[0])) for seed, curve in seeds.items()}


def scale_of(grid: Grid) -> float:
    return grid.scale if grid.up > 0 else 1.0


def strip(grid: Grid, norm: Norm) -> Figures:
    """`●` all seeds trained, `◐` some, `○` none, `×` none and at least one diverged; `?` no seed has a score."""
    marks = ""
    for rate in grid.rates:
        trials = norm.at((norm.choice[0], rate), norm.seeds).values()
        outcomes = [trial["outcome"] for trial in trials if trial["outcome"] in SCORED]
        if not outcomes:
            marks += "?"
        elif "trained" in outcomes:
            marks += "●" if all(outcome == "trained" for outcome in outcomes) else "◐"
        else:
            marks += "×" if "diverged" in outcomes else "○"
    return Figures(strip=marks)


def over_the_grid(grid: Grid, norm: Norm) -> Figures:
    return mean_with_ends("over_the_grid", list(areas(grid, curves(grid, norm)).values()), scale_of(grid))


def trains_up_to(grid: Grid, norm: Norm) -> Figures:
    """The highest rate that can be reached from the chosen one without passing a rate that did not train.

    The median of an even number of seeds is the lower of the middle two. `none`: below the grid.
    """
    chosen = grid.rates.index(norm.choice[1])
    reached = []
    for curve in curves(grid, norm).values():
        up = chosen - 1
        while up + 1 < len(grid.rates) and curve.trained[up + 1]:
            up += 1
        reached.append(up if curve.trained[chosen] else -1)
    figures = Figures()
    ordered, n, last = sorted(reached), len(reached), len(grid.rates) - 1
    ends = order_statistics(n) if n >= 6 else (0, -1)
    places = [ordered[(n - 1) // 2], ordered[ends[0]], ordered[ends[1]]]
    figures.flags |= {"trains_up_to:min-max"} if n < 6 else set()
    for name, place in zip(("trains_up_to", "trains_up_to_low", "trains_up_to_high"), places, strict=True):
        figures[name] = grid.rates[place] if place >= 0 else None
        figures.flags |= {f"{name}:at-least"} if place == last else set()
    place = places[0]
    figures["trains_up_to_beyond"] = grid.rates[place + 1] if 0 <= place < last else None
    figures.flags |= {"trains_up_to:below-the-grid"} if place < 0 else set()
    return figures


def range_(grid: Grid, norm: Norm) -> Figures:
    """The width in decades of the rates around the chosen one, without gaps, where the score stays within 10%.

    Of (mean score at the chosen rate − chance). `≥` means that the grid ends there: the true value may be larger.
    """
    seeds, chosen = list(curves(grid, norm).values()), grid.rates.index(norm.choice[1])
    figures = Figures(range=None, range_low=None, range_high=None)
    if not any(curve.trained[chosen] for curve in seeds):
        return figures
    at_chosen = mean([curve.scores[chosen] for curve in seeds])
    chance = grid.measure["chance"] if grid.up > 0 else 0.0
    found = [width(curve, np.log10(grid.rates), chosen, at_chosen - 0.1 * (at_chosen - chance)) for curve in seeds]
    values = median_with_ends([decades for decades, _ in found])
    larger = median_with_ends([math.inf if ends else decades for decades, ends in found])
    for name, value, most in zip(figures, values, larger, strict=False):
        figures[name] = value
        figures.flags |= {f"{name}:at-least"} if most > value else set()
    figures.flags |= {"range:min-max"} if len(seeds) < 6 else set()
    return figures


def width(curve: Curve, at: np.ndarray, chosen: int, threshold: float) -> tuple[float, bool]:
    """Return a seed's range in decades, and whether the grid ends it.

    Between two rates that trained, the end is where the straight line between them crosses the threshold; next to a
    rate that did not train, it is half-way. A seed that did not train at the chosen rate has range 0.
    """
    if not curve.trained[chosen] or curve.scores[chosen] < threshold:
        return 0.0, False
    total, cut = 0.0, False
    for step in (-1, 1):
        i = chosen
        while 0 <= i + step < len(at) and curve.trained[i + step] and curve.scores[i + step] >= threshold:
            i += step
        end = float(at[i])
        if not 0 <= i + step < len(at):
            cut = True
        elif not curve.trained[i + step]:
            end = float((at[i] + at[i + step]) / 2)
        else:
            good, bad = curve.scores[i], curve.scores[i + step]
            end = float(at[i] + (at[i + step] - at[i]) * (good - threshold) / (good - bad))
        total += abs(end - float(at[chosen]))
    return total, cut


def sensitivity(grid: Grid, norm: Norm) -> Figures:
    """The score at the chosen rate minus the seed's own score over the grid."""
    seeds, chosen = curves(grid, norm), grid.rates.index(norm.choice[1])
    area = areas(grid, seeds)
    return mean_with_ends("sensitivity", [seeds[seed].scores[chosen] - area[seed] for seed in seeds], scale_of(grid))


# The throughput board


def throughput(sessions: Sequence[dict[str, Any]], head: dict[str, Any]) -> dict[str, Any]:
    """The board joins the sessions by their ratios, and shows each norm as the latest session measured it.

    A norm that can't be measured is not ranked, nor one that only a session beside another baseline, of other code or
    on another kind of device measured.
    """
    rows, said, everyone = {}, {}, set()
    for session in sessions:
        timings = [session["baseline"], *session["norms"]]
        everyone |= {timing["label"] for timing in timings}
        if beside(session) == beside(sessions[-1]):
            for timing in timings:
                if timing.get("outcome", "measured") == "measured":
                    rows[timing["label"]] = measured(session, timing)
                    said[timing["label"]] = "{:.3f} [{:.3f}…{:.3f}]".format(*a_a(session))
    for row in rows.values():
        row["rank"] = 1 + sum(other["ratio"] > row["ratio"] for other in rows.values())
    apart = everyone - rows.keys()
    return {"board": "throughput", **head, "rows": rows, "apart": apart, "said": list(said.values())}


def beside(session: dict[str, Any]) -> list[Any]:
    baseline = session["baseline"]
    return [session["device"], session["task_print"], baseline["norm"], baseline.get("params"), baseline["norm_print"]]


def measured(session: dict[str, Any], timing: dict[str, Any]) -> Figures:
    row = Figures(seeds=1, rank_low=None, rank_high=None, group=None)
    for column in (samples_per_s, ratio, share, peak_memory, steady):
        row.add(column(session, timing))
    return row


def samples_per_s(session: dict[str, Any], timing: dict[str, Any]) -> Figures:
    """Samples trained, and evaluated, per second: the median over the rounds."""
    train, evaluated = session["steps"] * session["recipe"]["batch_size"], session["batches"] * session["batch"]
    return Figures(
        train_samples_per_s=float(np.median(train / np.array(timing["train"]))),
        eval_samples_per_s=float(np.median(evaluated / np.array(timing["evaluation"]))),
    )


def ratios(one: dict[str, Any], other: dict[str, Any]) -> tuple[float, float, float]:
    """The median over the rounds of the speed as a multiple of the other's in the same round, with its 95% interval."""
    return median_with_ends(list(np.array(other["train"]) / np.array(one["train"])))


def ratio(session: dict[str, Any], timing: dict[str, Any]) -> Figures:
    """The norm's training speed as a multiple of the baseline's in the same round."""
    if timing is session["baseline"]:
        return Figures(ratio=1.0, ratio_low=None, ratio_high=None)
    return Figures(**dict(zip(("ratio", "ratio_low", "ratio_high"), ratios(timing, session["baseline"]), strict=True)))


def a_a(session: dict[str, Any]) -> tuple[float, float, float]:
    """The baseline's ratio to itself: the speed of its second turn in each round as a multiple of the first's."""
    return ratios(session["again"], session["baseline"])


def steady(session: dict[str, Any], timing: dict[str, Any]) -> Figures:
    """Where the interval of A/A excludes 1, the rows of that session have a flag."""
    _, low, high = a_a(session)
    return Figures(*["a-a"] * (not low <= 1 <= high))


def share(session: dict[str, Any], timing: dict[str, Any]) -> Figures:
    """1 − (seconds without a norm) / (seconds with it), in the same round; the median over the rounds."""
    without = session.get("without")
    if not without or timing["norm"] == without["norm"]:
        return Figures(share=None)
    return Figures(share=100 * float(np.median(1 - np.array(without["train"]) / np.array(timing["train"]))))


def peak_memory(session: dict[str, Any], timing: dict[str, Any]) -> Figures:
    """The most memory that was held at once, in MiB; only on CUDA."""
    return Figures(peak_memory=timing["peak_memory"] / 2**20) if session["device"] == "cuda" else Figures()


# The aggregate board


def aggregates(grids: Sequence[Grid], timed: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """One table for each condition and protocol that two or more tasks share; of two versions the later counts."""
    shared: dict[str, dict[str, Grid]] = {}
    for grid in sorted(grids, key=lambda grid: grid.head["task_version"]):
        key = json.dumps([grid.head["condition"], grid.head["protocol"]], sort_keys=True)
        task = json.dumps([grid.head["task"], grid.head.get("task_params", {})], sort_keys=True)
        shared.setdefault(key, {})[task] = grid
    return [aggregate(list(tasks.values()), timed) for tasks in shared.values() if len(tasks) > 1]


def aggregate(grids: Sequence[Grid], timed: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """A norm that lacks a task is listed below the table, not ranked. A table shows one kind of seed."""
    if any(is_flattered(grid) for grid in grids):
        grids = [replace(grid, shows_fresh=False) for grid in grids]
    found = [{norm.label: norm for norm in grid.norms} for grid in grids]
    everyone = {label for one in found for label in one} | {label for grid in grids for label in grid.apart}
    of_norms = {
        label: [(grid, one[label]) for grid, one in zip(grids, found, strict=True)]
        for label in everyone
        if all(label in one for one in found)
    }
    seeds = {label: of_seeds for label, of in of_norms.items() if (of_seeds := progress_of(of))}
    standing = ranks({label: {seed: mean(values) for seed, values in of.items()} for label, of in seeds.items()})
    columns: list[Callable[[Sequence[tuple[Grid, Norm]]], Figures]] = [progress, profile, flags]
    if all(len(grid.rates) > 1 for grid in grids):
        columns.append(progress_over_the_grid)
    tables = [table for grid in grids for table in timed.values() if of_same_table(table, grid)]
    if len(tables) == len(grids) and len({table["baseline"] for table in tables}) == 1:
        columns.append(lambda of: mean_ratio(of, tables))
    for label, row in standing.items():
        row["seeds"] = len(seeds[label])
        for column in columns:
            row.add(column(of_norms[label]))
    head = {name: grids[0].head[name] for name in ("condition", "protocol")}
    return {"board": "aggregate", **head, "rows": standing, "apart": everyone - standing.keys(), "said": []}


def of_same_table(board: dict[str, Any], grid: Grid) -> bool:
    return all(board.get(name) == grid.head.get(name) for name in ("task", "task_version", "condition", "protocol"))


def progress_of(of: Sequence[tuple[Grid, Norm]]) -> dict[int, list[float]]:
    """For each seed its progress on each task, at the rate chosen there: of seeds with a score on every task.

    A fresh seed counts by the seed that it belongs to.
    """
    scores = [{seed % FRESH: score for seed, score in grid.scores(norm).items()} for grid, norm in of]
    both = sorted(set.intersection(*map(set, scores)))
    return {seed: [grid.progress(one[seed]) for (grid, _), one in zip(of, scores, strict=True)] for seed in both}


def progress(of: Sequence[tuple[Grid, Norm]]) -> Figures:
    """Over the seeds the mean: with ± where there are 3 seeds or more and all trained on all tasks."""
    seeds = progress_of(of)
    outcomes = [
        trained(trial) for grid, norm in of for seed, trial in grid.reported(norm).items() if seed % FRESH in seeds
    ]
    return mean_with_ends("progress", [mean(values) for values in seeds.values()], 1.0, all_trained=all(outcomes))


def progress_over_the_grid(of: Sequence[tuple[Grid, Norm]]) -> Figures:
    """For each seed, the mean over the tasks of its progress over the task's grid of rates, on validation."""
    of_tasks = []
    for grid, norm in of:
        areas = {}
        for seed in curves(grid, norm):
            values = [validation(norm.trials[norm.choice[0], rate, seed]) for rate in grid.rates]
            areas[seed] = sum(w * grid.progress(v) for w, v in zip(weights(grid), values, strict=True))
        of_tasks.append(areas)
    both = sorted(set.intersection(*map(set, of_tasks)))
    return mean_with_ends("over_the_grid", [mean([areas[seed] for areas in of_tasks]) for seed in both], 1.0)


def mean_ratio(of: Sequence[tuple[Grid, Norm]], tables: Sequence[dict[str, Any]]) -> Figures:
    """The geometric mean over the tasks of the throughput ratio."""
    ratios = [table["rows"].get(of[0][1].label, {}).get("ratio") for table in tables]
    return Figures(ratio=None if None in ratios else float(stats.gmean(ratios)))


def profile(of: Sequence[tuple[Grid, Norm]]) -> Figures:
    """The share of trainings, one per task and seed, whose progress is at least that."""
    values = np.array(list(progress_of(of).values()))
    return Figures(**{f"from_{p}": 100 * float(np.mean(values >= p / 100 - 1e-9)) for p in (50, 80, 90, 95, 100)})


def flags(of: Sequence[tuple[Grid, Norm]]) -> Figures:
    """`same-seeds` where the seeds also chose a rate; `oom:2`: how many of the norm's trials have no score."""
    counts = sum((without_score_of(norm) for _, norm in of), Counter())
    flattered = any(is_flattered(grid) for grid, _ in of)
    return Figures(*["same-seeds"] * flattered, *[f"{outcome}:{count}" for outcome, count in counts.items()])

"""Simulate how often an interval that boards print holds what it is for, and write it to docs/simulations.md."""

from __future__ import annotations

import itertools
from unittest.mock import patch

import numpy as np
from sections import ROOT, replace

from normbench.stats import ranking
from normbench.stats.intervals import mean_over_seeds, ratio_over_rounds
from normbench.stats.verdicts import mean_test
from normbench.throughput.session import LOOKS
from normbench.throughput.wanted import ALONE

REPETITIONS = 20_000
SEEDS = (3, 5, 10, 20)


def covered(draws: np.ndarray, mean: float) -> float:
    """Return the share of rows of `draws` whose interval holds the mean."""
    intervals = (mean_over_seeds(row) for row in draws.tolist())
    return sum(interval.low <= mean <= interval.high for interval in intervals) / len(draws)


def main() -> None:
    """Write the sections `coverage`, `choice-coverage`, `ratios` and `rank-coverage`."""
    rng = np.random.default_rng(0)
    _ratios(rng)
    _ranks(np.random.default_rng(0))
    _choices(np.random.default_rng(0))
    lines = [
        "| seeds | normal | skewed, 1 − Beta(2, 98) | normal, one seed in ten fails unseen |",
        "| --- | --- | --- | --- |",
    ]
    for n in SEEDS:
        normal = rng.normal(size=(REPETITIONS, n))
        skewed = 1 - rng.beta(2, 98, size=(REPETITIONS, n))
        # A failing seed lies far below the others; the target is the mean over all seeds, failing ones included.
        failing = np.where(rng.random((REPETITIONS, n)) < 0.1, -50.0, normal)
        shares = (covered(normal, 0.0), covered(skewed, 0.98), covered(failing, -5.0))
        lines.append(f"| {n} | " + " | ".join(f"{share:.2f}" for share in shares) + " |")
    replace(ROOT / "docs" / "simulations.md", "coverage", "\n".join(lines))


SESSIONS, NORMS, SPREAD = 2_000, 10, 0.05


def _ratios(rng: np.random.Generator) -> None:
    """Write how often a ratio's interval holds 1, where all norms are as fast as the baseline."""
    lines = ["| correlation of a round with the one before | the interval holds the ratio |", "| --- | --- |"]
    for correlation in (0.0, 0.25, 0.5):
        held = [_session(rng, correlation) for _ in range(SESSIONS)]
        lines.append(f"| {correlation:g} | {np.mean(held):.2f} |")
    replace(ROOT / "docs" / "simulations.md", "ratios", "\n".join(lines))


def _session(rng: np.random.Generator, correlation: float) -> float:
    """Return the share of norms whose interval holds 1, in one session with its stops."""
    seconds = rng.normal(scale=SPREAD, size=(NORMS + 1, LOOKS[-1]))
    for i in range(1, LOOKS[-1]):
        fresh = np.sqrt(1 - correlation**2) * seconds[:, i]
        seconds[:, i] = correlation * seconds[:, i - 1] + fresh
    baseline, *norms = np.exp(seconds).tolist()
    for rounds in LOOKS:
        intervals = [ratio_over_rounds(baseline[:rounds], norm[:rounds]) for norm in norms]
        ends = [(one.low / one.centre, one.high / one.centre) for one in intervals]
        if all(low >= 1 - ALONE.precision and high <= 1 + ALONE.precision for low, high in ends):
            break
    return sum(one.low <= 1 <= one.high for one in intervals) / NORMS


#: How validation and test go together over the seeds, and how many rates are equally good.
CORRELATION, EQUAL_RATES = 0.99, (5, 9)


def _choices(rng: np.random.Generator) -> None:
    """Write how often the interval of the score at the chosen of equal rates holds it."""
    kinds = [f"{name}: {seeds}" for name in ("normal", "skewed") for seeds in ("fresh seeds", "the grid's seeds")]
    lines = [f"| equal rates | seeds | {' | '.join(kinds)} |", "| --- " * (2 + len(kinds)) + "|"]
    for rates in EQUAL_RATES:
        for n in SEEDS[:-1]:
            shares = [share for kind in ("normal", "skewed") for share in _chosen(rng, kind, rates, n)]
            lines.append(f"| {rates} | {n} | " + " | ".join(f"{share:.3f}" for share in shares) + " |")
    replace(ROOT / "docs" / "simulations.md", "choice-coverage", "\n".join(lines))


def _chosen(rng: np.random.Generator, kind: str, rates: int, n: int) -> list[float]:
    """Return how often the interval holds the mean, 0: of as many fresh seeds at the chosen rate, and of the grid's."""
    test = _scores(rng, kind, (REPETITIONS, rates, n))
    noise = np.sqrt(1 / CORRELATION**2 - 1) * rng.normal(size=test.shape)
    best = (test + noise).mean(axis=-1).argmax(axis=-1)
    grid = np.take_along_axis(test, best[:, None, None], axis=1)[:, 0]
    intervals = [mean_test(draws, 1.0, 0.025) for draws in (_scores(rng, kind, grid.shape), grid)]
    return [float(np.mean((one.low <= 0) & (one.high >= 0))) for one in intervals]


def _scores(rng: np.random.Generator, kind: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return scores of mean 0 and standard deviation 1: normal, or 1 - Beta(2, 98) to that scale."""
    if kind == "normal":
        return rng.normal(size=shape)
    return (0.02 - rng.beta(2, 98, size=shape)) / np.sqrt(2 * 98 / (100**2 * 101))


TABLES, NORMS_RANKED, SEEDS_RANKED = 4_000, (3, 5, 10, 20), (2, 3, 5)
#: How many times as much as the others one norm in five varies.
SPREADS = (1, 4, 10, 30)
#: What decides whether pairs share their variance.
RULES = {
    "as it is": {"ALIKE": ranking.ALIKE},
    "always shared": {"SHARED_FROM": 2, "ALIKE": -1.0},
    "never shared": {"ALIKE": 2.0},
}


def _ranks(rng: np.random.Generator) -> None:
    """Write how often all rank intervals of a table of equal norms hold every rank, by the rule and by two others."""
    columns = [f"{kind}: {rule}" for kind in ("normal", "skewed") for rule in RULES]
    lines = [f"| norms | one in five varies | seeds | {' | '.join(columns)} |", "| --- " * (3 + len(columns)) + "|"]
    for norms, spread, seeds in itertools.product(NORMS_RANKED, SPREADS, SEEDS_RANKED):
        shares = [share for kind in ("normal", "skewed") for share in _ranked(rng, kind, spread, norms, seeds)]
        lines.append(f"| {norms} | {spread} | {seeds} | " + " | ".join(f"{share:.2f}" for share in shares) + " |")
    replace(ROOT / "docs" / "simulations.md", "rank-coverage", "\n".join(lines))


def _ranked(rng: np.random.Generator, kind: str, spread: float, norms: int, seeds: int) -> list[float]:
    """Return by each rule the share of tables whose intervals hold all ranks: of equal norms any claim is wrong."""
    held: dict[str, list[float]] = {rule: [] for rule in RULES}
    # A part at a time: the pairs of 20 norms take room.
    for _ in range(TABLES // 1000):
        scores = _scores(rng, kind, (1000, norms, seeds))
        scores[:, ::5] *= spread
        for rule, changes in RULES.items():
            with patch.multiple(ranking, **changes):
                held[rule].append(1 - ranking.surely_better(scores).any(axis=(-2, -1)).mean())
    return [float(np.mean(shares)) for shares in held.values()]


if __name__ == "__main__":
    main()

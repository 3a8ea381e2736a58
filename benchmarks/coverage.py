"""Simulate how often an interval that boards print holds what it is for, and write it to docs/simulations.md."""

from __future__ import annotations

import numpy as np
from sections import ROOT, replace

from normbench.stats.intervals import mean_over_seeds, ratio_over_rounds
from normbench.stats.ranking import rank_intervals, surely_better
from normbench.throughput.session import LOOKS
from normbench.throughput.wanted import ALONE

REPETITIONS = 20_000
SEEDS = (3, 5, 10, 20)


def covered(draws: np.ndarray, mean: float) -> float:
    """Return the share of rows of `draws` whose interval holds the mean."""
    intervals = (mean_over_seeds(row) for row in draws.tolist())
    return sum(interval.low <= mean <= interval.high for interval in intervals) / len(draws)


def main() -> None:
    """Write the sections `coverage`, `ratios` and `rank-coverage`."""
    rng = np.random.default_rng(0)
    _ratios(rng)
    _ranks(np.random.default_rng(0))
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


TABLES, NORMS_RANKED = 10_000, (2, 3, 5, 20)
#: Norms that stand so many standard deviations of a seed from the next pair; 0 where all are equal.
APART = (0.0, 1.0)
#: How much one norm in five spreads, where spreads differ.
WIDE = 4.0


def _ranks(rng: np.random.Generator) -> None:
    """Write how often all rank intervals of a table hold every true rank of their norms."""
    kinds = ("normal", "skewed", "normal, spreads differ", "skewed, spreads differ")
    columns = [f"{kind}: {where}" for kind in kinds for where in ("equal", "apart")]
    lines = [f"| norms | seeds | {' | '.join(columns)} |", "| --- " * (2 + len(columns)) + "|"]
    for norms in NORMS_RANKED:
        for seeds in (2, *SEEDS[:-1]):
            shares = [_ranked(rng, kind, apart, norms, seeds) for kind in kinds for apart in APART]
            lines.append(f"| {norms} | {seeds} | " + " | ".join(f"{share:.2f}" for share in shares) + " |")
    replace(ROOT / "docs" / "simulations.md", "rank-coverage", "\n".join(lines))


def _ranked(rng: np.random.Generator, kind: str, apart: float, norms: int, seeds: int) -> float:
    """Return the share of tables whose intervals hold all ranks from 1 + those truly better to those not worse."""
    true = apart * (np.arange(norms) // 2)
    first, last = 1 + (true > true[:, None]).sum(1), norms - (true < true[:, None]).sum(1)
    held = []
    # A part at a time: the pairs of 20 norms take room.
    for _ in range(TABLES // 1000):
        shape = (1000, norms, seeds)
        scores = rng.normal(size=shape)
        if kind.startswith("skewed"):
            scores = (0.02 - rng.beta(2, 98, size=shape)) / np.sqrt(2 * 98 / (100**2 * 101))
        if kind.endswith("differ"):
            scores *= np.where(np.arange(norms) % 5 == 0, WIDE, 1.0)[:, None]
        low, high = rank_intervals(surely_better(scores + true[:, None]))
        held.append(((low <= first) & (last <= high)).all(axis=-1).mean())
    return float(np.mean(held))


if __name__ == "__main__":
    main()

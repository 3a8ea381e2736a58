"""Simulate how often an interval that boards print holds what it is for, and write it to docs/metrics.md."""

from __future__ import annotations

import numpy as np
from sections import ROOT, replace

from normbench.stats import mean_over_seeds, ratio_over_rounds
from normbench.throughput.session import LOOKS, PRECISION

REPETITIONS = 20_000
SEEDS = (3, 5, 10, 20)


def covered(draws: np.ndarray, mean: float) -> float:
    """Return the share of rows of `draws` whose interval holds the mean."""
    intervals = (mean_over_seeds(row) for row in draws.tolist())
    return sum(interval.low <= mean <= interval.high for interval in intervals) / len(draws)


def main() -> None:
    """Write the sections `coverage` and `ratios`."""
    rng = np.random.default_rng(0)
    _ratios(rng)
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
    replace(ROOT / "docs" / "metrics.md", "coverage", "\n".join(lines))


SESSIONS, NORMS, SPREAD = 2_000, 10, 0.05


def _ratios(rng: np.random.Generator) -> None:
    """Write how often a ratio's interval holds 1, where all norms are as fast as the baseline."""
    lines = ["| correlation of a round with the one before | the interval holds the ratio |", "| --- | --- |"]
    for correlation in (0.0, 0.25, 0.5):
        held = [_session(rng, correlation) for _ in range(SESSIONS)]
        lines.append(f"| {correlation:g} | {np.mean(held):.2f} |")
    replace(ROOT / "docs" / "metrics.md", "ratios", "\n".join(lines))


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
        if all(low >= 1 - PRECISION and high <= 1 + PRECISION for low, high in ends):
            break
    return sum(one.low <= 1 <= one.high for one in intervals) / NORMS


if __name__ == "__main__":
    main()

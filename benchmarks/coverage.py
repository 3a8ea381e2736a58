"""Simulate how often an interval that boards print holds the mean it is for, and write it to docs/metrics.md."""

from __future__ import annotations

import numpy as np
from sections import ROOT, replace

from normbench.stats import mean_over_seeds

REPETITIONS = 20_000
SEEDS = (3, 5, 10, 20)


def covered(draws: np.ndarray, mean: float) -> float:
    """Return the share of rows of `draws` whose interval holds the mean."""
    intervals = (mean_over_seeds(row) for row in draws.tolist())
    return sum(interval.low <= mean <= interval.high for interval in intervals) / len(draws)


def main() -> None:
    """Write the section `coverage`."""
    rng = np.random.default_rng(0)
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


if __name__ == "__main__":
    main()

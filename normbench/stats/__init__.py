"""Pure functions on numbers: statistics of a handful of seeds, or of a session's rounds."""

from normbench.stats.intervals import (
    Interval,
    clopper_pearson,
    mean_over_seeds,
    median_over_rounds,
    median_over_seeds,
    ratio_over_rounds,
    unseen_failures,
)

__all__ = [
    "Interval",
    "clopper_pearson",
    "mean_over_seeds",
    "median_over_rounds",
    "median_over_seeds",
    "ratio_over_rounds",
    "unseen_failures",
]

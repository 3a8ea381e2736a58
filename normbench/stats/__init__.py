"""Pure functions on numbers: what is said of a handful of seeds."""

from normbench.stats.intervals import (
    Interval,
    mean_over_seeds,
    median_over_seeds,
    unseen_failures,
)

__all__ = ["Interval", "mean_over_seeds", "median_over_seeds", "unseen_failures"]

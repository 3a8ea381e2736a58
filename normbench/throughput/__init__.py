"""Sessions: how many samples a second each norm trains and evaluates, beside a baseline, in rounds."""

from normbench.throughput.session import Entry, Measured, measure

__all__ = ["Entry", "Measured", "measure"]

"""Small result folders made of scores, and what holds two of them against each other."""

from comparisons import against, one_rate
from folders import bits, folder, head

__all__ = ["against", "bits", "folder", "head", "one_rate"]

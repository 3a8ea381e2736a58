"""Small result folders made of scores, and of rounds."""

from folders import bits, folder, head
from timings import board, measured

__all__ = ["bits", "board", "folder", "head", "measured"]

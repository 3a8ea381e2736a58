"""Small result folders made of scores."""

from folders import bits, folder, head

__all__ = ["bits", "folder", "head"]

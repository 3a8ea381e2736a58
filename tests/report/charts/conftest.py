"""Small result folders made of scores."""

from folders import folder

__all__ = ["folder"]

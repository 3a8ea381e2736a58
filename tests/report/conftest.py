"""Small results folders, and one that has all that a report shows."""

from folders import folder
from reported import mine

__all__ = ["folder", "mine"]

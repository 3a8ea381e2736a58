"""A results folder that has all that a report shows."""

from reported import mine

__all__ = ["mine"]

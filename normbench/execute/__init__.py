"""Packs -> workers, devices, nodes; what they give -> the store."""

from normbench.execute.environment import resolve
from normbench.execute.run import Progress, Request, Summary, prepare, run

__all__ = ["Progress", "Request", "Summary", "prepare", "resolve", "run"]

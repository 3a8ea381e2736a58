"""Packs -> workers, devices, nodes; what they give -> the store."""

from normbench.execute.run import Progress, Request, Summary, prepare, run, settled

__all__ = ["Progress", "Request", "Summary", "prepare", "run", "settled"]

"""Packs -> workers, devices, nodes; what they give -> the store."""

from normbench.execute.run import Progress, Request, Summary, prepare, run, settled
from normbench.execute.sessions import Session, measure_all, of_folder, sessions

__all__ = [
    "Progress",
    "Request",
    "Session",
    "Summary",
    "measure_all",
    "of_folder",
    "prepare",
    "run",
    "sessions",
    "settled",
]

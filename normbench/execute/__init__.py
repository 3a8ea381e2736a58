"""Packs -> workers, devices, nodes; what they give -> the store."""

from normbench.execute.run import Request, executor_options, prepare, run, settled
from normbench.execute.sessions import Session, measure_all, of_folder, sessions
from normbench.execute.training import Progress, Summary

__all__ = [
    "Progress",
    "Request",
    "Session",
    "Summary",
    "executor_options",
    "measure_all",
    "of_folder",
    "prepare",
    "run",
    "sessions",
    "settled",
]

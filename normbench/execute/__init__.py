"""Packs -> workers, devices, nodes; what they give -> the store."""

from normbench.execute.prepare import on_device, prepare
from normbench.execute.request import Request, executor_options
from normbench.execute.run import Progress, Summary, run

__all__ = [
    "Progress",
    "Request",
    "Summary",
    "executor_options",
    "on_device",
    "prepare",
    "run",
]

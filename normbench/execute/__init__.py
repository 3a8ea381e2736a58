"""Packs -> workers, devices, nodes; what they give -> the store."""

from normbench.execute.prepare import on_device, prepare
from normbench.execute.request import Request
from normbench.execute.run import Progress, Summary, run

__all__ = [
    "Progress",
    "Request",
    "Summary",
    "on_device",
    "prepare",
    "run",
]

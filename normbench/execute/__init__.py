"""Runs what is planned: hands packs of trials to an executor, and stores what they give."""

from normbench.execute.prepare import on_device, prepare
from normbench.execute.request import Request
from normbench.execute.run import Progress, Summary, run

__all__ = ["Progress", "Request", "Summary", "on_device", "prepare", "run"]

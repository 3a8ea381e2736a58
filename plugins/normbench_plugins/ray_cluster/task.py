"""What a Ray task does: it trains a pack in a process of its own, so that no trial harms Ray's worker or the next one.

A node that runs these needs no connection to Ray here: the task is what Ray calls.
"""

from __future__ import annotations

import importlib.metadata
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import normbench
from normbench_plugins.executors.processes import driver

if TYPE_CHECKING:
    from normbench.trials import Outcome, Pack

#: Environment variables that begin so are the driver's, on every node.
_OURS = "NORMBENCH_"
#: What has to be the same on every node: a record says what the driver has.
_PACKAGES = ("normbench", "torch", "pytorch-lightning")


@dataclass(frozen=True)
class Home:
    """The driver's environment variables and versions, which are to hold on every node."""

    environ: dict[str, str]
    versions: dict[str, str]

    @classmethod
    def here(cls) -> Home:
        """Return those of this process."""
        return cls({name: value for name, value in os.environ.items() if name.startswith(_OURS)}, _versions())

    def settle(self) -> None:
        """Take on the environment. Raises UsageError where a version is another than the driver's."""
        for name, version in _versions().items():
            if version != self.versions[name]:
                node = f"{name} is {version} on node {os.uname().nodename}"
                raise normbench.UsageError(f"{node}, and {self.versions[name]} where the run was started")
        for name in [name for name in os.environ if name.startswith(_OURS)]:
            del os.environ[name]
        os.environ.update(self.environ)


def train(pack: Pack, timeout: float, home: Home) -> list[Outcome]:
    """Train a pack on this node, as the executor `processes` does; return its outcomes.

    So a crash, a hang past `timeout` seconds a trial and the one retry are seen from here, on the trial's own clock.
    """
    home.settle()
    outcomes: list[Outcome] = []
    driver.run([pack], outcomes.append, jobs=1, timeout=timeout)
    return outcomes


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in _PACKAGES}

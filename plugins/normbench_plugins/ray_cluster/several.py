"""A trial on several nodes: a task that leads, and torchrun as a task on each node of a placement group."""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

import normbench
from normbench_plugins.ray_cluster.share import Share
from normbench_plugins.ray_cluster.task import Home

if TYPE_CHECKING:
    from normbench.train.ranks.parent import Shape
    from normbench.trials import Outcome, Pack

#: Seconds that ranks have to end by themselves.
GRACE = 2.0


class _Expired(Exception):  # noqa: N818 - what happened, not what is wrong
    """The trial has had its time."""


def lead(pack: Pack, timeout: float, home: Home, share: Share, placement: Any) -> list[Outcome]:
    """Train a pack on the nodes of a placement group, on the first of which this is; return its outcomes.

    No layer runs in this process: ranks do that. The time counts from here, with the start of the ranks.
    """
    from normbench.train import fit_pack
    from normbench.train.ranks import parent

    home.settle()
    seconds = timeout * len(pack.trials)
    nodes = Nodes(home, share, placement)
    signal.signal(signal.SIGALRM, _expire)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        return list(fit_pack(pack, parent.Keeper(launcher=nodes)))
    except _Expired:
        return pack.lost("timeout", f"killed after {timeout:g} s", seconds)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        parent.close()
        nodes.leave()


def _expire(*_: object) -> None:
    raise _Expired


class Nodes:
    """Starts ranks on the nodes of a placement group."""

    def __init__(self, home: Home, share: Share, placement: Any) -> None:
        self._ray = importlib.import_module("ray")
        self.host: str = self._ray.util.get_node_ip_address()
        self._home, self._share, self._placement = home, share, placement
        self._started: list[Torchruns] = []

    def __call__(self, shape: Shape, environ: Mapping[str, str]) -> Torchruns:
        """Start torchrun on each node."""
        from normbench.train.ranks import launch

        agent = self._ray.remote(max_retries=0)(torchrun)
        meeting = ["--master-addr", self.host, "--master-port", str(_free_port(self.host))]
        refs = []
        for node in range(shape.num_nodes):
            options = ["--nnodes", str(shape.num_nodes), "--node-rank", str(node), *meeting]
            options += ["--nproc-per-node", str(shape.devices), "--max-restarts", "0"]
            options += ["--monitor-interval", str(launch.INTERVAL)]
            placed = agent.options(**resources(self._share, self._placement, node))
            refs.append(placed.remote(options, dict(environ), self._home))
        self._started.append(Torchruns(self._ray, refs))
        return self._started[-1]

    def leave(self) -> None:
        """Wait until all that was started has ended, as it does once its group is closed; not for what is stuck."""
        for ranks in self._started:
            ranks.join(2 * GRACE)


class Torchruns:
    """Ranks on several nodes; they end with the Ray workers that run torchrun."""

    def __init__(self, ray: Any, refs: list[Any]) -> None:
        self._ray, self._refs = ray, refs
        # Not ray.wait: what the alarm raises would be lost in it.
        self._ends: list[Future[dict[int, int]]] = [ref.future() for ref in refs]

    def process_groups(self, ranks: list[int]) -> list[int]:  # noqa: ARG002 - what a group asks of its ranks
        """Return none: none of them is to be killed by number on this machine."""
        return []

    def exits(self, patience: float) -> dict[int, int] | None:
        """Return how the ranks of the node that was the first to end did so; None where all go on for `patience` s.

        Those of other nodes wait for them. Empty where the node is gone.
        """
        ended = wait(self._ends, patience, FIRST_COMPLETED).done
        if not ended:
            return None
        first = ended.pop()
        return {} if first.exception() else first.result()

    def kill(self, ranks: list[int]) -> None:  # noqa: ARG002
        """Kill torchrun on each node, a little later.

        The group closes its connections now, and a rank that sees that kills all that it started with itself; torchrun
        would take the ranks alone with it.
        """
        timer = threading.Timer(GRACE, self._cancel)
        timer.daemon = True
        timer.start()

    def join(self, patience: float) -> None:
        """Wait until torchrun has ended on each node, up to `patience` seconds."""
        wait(self._ends, patience)

    def _cancel(self) -> None:
        for ref, end in zip(self._refs, self._ends, strict=True):
            if not end.done():
                self._ray.cancel(ref, force=True)


def torchrun(options: list[str], environ: dict[str, str], home: Home) -> dict[int, int]:
    """Run the ranks of this node until they end; return how each that failed ended: a status, or minus a signal."""
    home.settle()
    # Its file, not its module: that would load torch here for nothing.
    program = Path(normbench.__file__).parent / "train" / "ranks" / "launch.py"
    with tempfile.TemporaryDirectory(prefix="normbench-") as folder:
        command = [sys.executable, "-P", str(program), str(os.getpid()), folder, *options, "--log-dir", folder]
        said = subprocess.run(
            [*command, "-m", "normbench.train.ranks.process"],
            env={**os.environ, **environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            start_new_session=True,
            check=False,
        ).stdout
    return {int(rank): code for rank, code in json.loads(said or "{}").items()}


def resources(share: Share, placement: Any, node: int | None = None) -> dict[str, Any]:
    """Return the options of a task on a node of a placement group; without `node`, of what leads on the first."""
    strategies = importlib.import_module("ray.util.scheduling_strategies")
    strategy = strategies.PlacementGroupSchedulingStrategy(placement, placement_group_bundle_index=node or 0)
    leads = node is None
    return {
        "num_cpus": 0 if leads else share.cpus,
        "num_gpus": 0 if leads else share.gpus,
        "scheduling_strategy": strategy,
    }


def _free_port(host: str) -> int:
    with socket.create_server((host, 0)) as server:
        port: int = server.getsockname()[1]
    return port

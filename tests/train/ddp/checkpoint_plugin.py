"""A plugin for the tests of checkpoints on several ranks: online norm that fails once, and a probe of all buffers."""

from __future__ import annotations

from pathlib import Path

from torch import distributed as dist

import normbench
from normbench_plugins.layers.online_norm import OnlineNorm


class FailingOnce(OnlineNorm):
    """Writes the steps of rank 1 into a diary; rank 1 fails before step `fails`, the first time it comes there."""

    def __init__(self, site, diary, fails):
        super().__init__(site.channels, site.layout)
        self.diary, self.fails = Path(diary) if site.index == 0 else None, fails

    def on_step(self, step, steps):
        if self.diary and dist.get_rank() == 1:
            with self.diary.open("a") as diary:
                diary.write(f"{step}\n")
            if step == self.fails and self.diary.read_text().split().count(str(step)) == 1:
                raise RuntimeError("the first time")


class Buffers:
    """Gives every number in every rank's buffers."""

    def __init__(self, network):
        self.network = network

    def on_epoch(self, epoch):
        own = [number for buffer in self.network.buffers() for number in buffer.flatten().tolist()]
        gathered = [None] * dist.get_world_size()
        dist.all_gather_object(gathered, own)
        return {f"{rank}[{i}]": value for rank, values in enumerate(gathered) for i, value in enumerate(values)}


@normbench.hookimpl
def normbench_norms():
    yield normbench.Norm(
        "failing-once", lambda site, diary="", fails=-1: FailingOnce(site, diary, fails), summary="Fails once"
    )


@normbench.hookimpl
def normbench_probes():
    yield normbench.Probe("buffers", Buffers, summary="All buffers")

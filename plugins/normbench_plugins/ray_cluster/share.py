"""What a pack takes of each node that it runs on, and how many such packs a cluster has room for."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import normbench

if TYPE_CHECKING:
    from normbench.trials import Pack

#: Ray counts in ten-thousandths of a resource, rounded to the nearest: six of 1/6 would be more than one.
_UNIT = 10_000


@dataclass(frozen=True)
class Share:
    """CPUs and GPUs of each of `nodes` nodes."""

    nodes: int
    cpus: int
    gpus: float

    @classmethod
    def of(cls, pack: Pack, per_gpu: int) -> Share:
        """Return what a pack takes: a CPU for each thread of each device, and a GPU for each device on "cuda".

        `per_gpu` packs of one device share a GPU; one of several has its own. Raises UsageError for a GPU by number.
        """
        recipe, (kind, _, index) = pack.trials[0].recipe, pack.device.partition(":")
        if index:
            raise normbench.UsageError(
                f"device {pack.device!r}: Ray gives each trial its GPU; with it, the device is cuda"
            )
        gpus = 0.0
        if kind == "cuda":
            gpus = float(recipe.devices) if recipe.devices > 1 else _UNIT // per_gpu / _UNIT
        return cls(recipe.num_nodes, recipe.devices * recipe.threads, gpus)

    @property
    def resources(self) -> dict[str, float]:
        """The share as Ray's resources, for a bundle of a placement group."""
        return {"CPU": float(self.cpus), **({"GPU": self.gpus} if self.gpus else {})}

    def within(self, nodes: Sequence[Mapping[str, float]]) -> Share:
        """Return the share with no more CPUs than nodes have, so that threads can outnumber cores as they do elsewhere.

        `nodes` are the resources of each. Raises UsageError where there are not enough with the GPUs.
        """
        cpus = sorted((node.get("CPU", 0.0) for node in nodes if node.get("GPU", 0.0) >= self.gpus), reverse=True)
        cpus = [count for count in cpus if count >= 1]
        if len(cpus) < self.nodes:
            what = f"{self.gpus:g} GPUs and a CPU" if self.gpus else "a CPU"
            wanted = f"1 node with {what}" if self.nodes == 1 else f"{self.nodes} nodes with {what} each"
            raise normbench.UsageError(f"a trial takes {wanted}; the Ray cluster has {len(cpus) or 'none'}")
        return dataclasses.replace(self, cpus=min(self.cpus, int(cpus[self.nodes - 1])))

    def room(self, nodes: Sequence[Mapping[str, float]]) -> int:
        """Return how many such shares the nodes have, at least one."""
        held = [
            math.floor(min(node.get(name, 0.0) / amount for name, amount in self.resources.items())) for node in nodes
        ]
        if self.nodes > 1:
            return max(1, sum(count > 0 for count in held) // self.nodes)
        return max(1, sum(held))


def nodes(ray: Any) -> list[Mapping[str, float]]:
    """Return the resources of each node that is alive, whether they are free or not."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]

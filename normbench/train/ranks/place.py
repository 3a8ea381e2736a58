"""The ranks of a training: processes, one per device, that train one trial together, and what they tell one another.

Where there is one rank, nothing is sent, and torch.distributed is not needed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist


@dataclass(frozen=True)
class Ranks:
    """A process's place among the ranks of a training: `rank` of `size`, counted from 0.

    What is reduced or gathered is so on every rank, and every rank must call it. A tensor is on the device that the
    rank trains on.
    """

    rank: int = 0
    size: int = 1

    @property
    def folded(self) -> tuple[int, ...]:
        """What a name of a stream of randomness gets, so that each rank draws its own: nothing where there is one."""
        return (self.rank,) if self.size > 1 else ()

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum over the ranks, elementwise; what is not finite on one rank is not finite in it."""
        if self.size == 1:
            return values
        total = values.clone()
        dist.all_reduce(total)
        return total

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean over the ranks, elementwise; what is not finite on one rank is not finite in it."""
        return self.sum(values) / self.size if self.size > 1 else values

    def union(self, names: Collection[str]) -> frozenset[str]:
        """Return the names that any rank gives."""
        if self.size == 1:
            return frozenset(names)
        gathered: list[Any] = [None] * self.size
        dist.all_gather_object(gathered, frozenset(names))
        return frozenset().union(*gathered)

    @torch.no_grad()
    def share(self, tensors: Iterable[Tensor]) -> None:
        """Give every rank the tensors of rank 0, in place."""
        if self.size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, 0)

    def sharing(self, sync_ranks: int) -> int:
        """Return how many ranks share the statistics of a norm that synchronizes them; 0 is all of them."""
        return sync_ranks or self.size

    def group(self, sync_ranks: int) -> Any:
        """Return the process group with which this rank shares statistics, or None where it shares with no other.

        Groups are of `sync_ranks` consecutive ranks; 0 is all of them.
        """
        shared = self.sharing(sync_ranks)
        if shared == 1:
            return None
        if shared == self.size:
            return dist.group.WORLD
        return _groups(self.size, shared)[self.rank // shared]


#: One process that trains alone.
ALONE = Ranks()


def joined(size: int) -> Ranks:
    """Return this process's place among `size` ranks. Raises RuntimeError where it is in no group of that many."""
    if size == 1:
        return ALONE
    ranks = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
    if ranks != size:
        raise RuntimeError(f"a trial on {size} ranks in a process group of {ranks}: fit_pack starts the group")
    return Ranks(dist.get_rank(), size)


@cache
def _groups(size: int, shared: int) -> list[Any]:
    """Return the process groups of `shared` consecutive ranks; every rank makes all of them, in one order."""
    return [dist.new_group(list(range(first, first + shared))) for first in range(0, size, shared)]

"""Ghost batch normalization (Hoffer, Hubara & Soudry 2017, arXiv 1705.08741)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

import normbench
from normbench_plugins.layers.moved import Moved
from normbench_plugins.layers.over_batch import OverBatch
from normbench_plugins.layers.sites import has_one_position
from normbench_plugins.layers.state import move


class GhostBatchNorm(OverBatch):
    """Batch norm of each `ghost` samples of a batch that follow one another, with one gamma and beta for all.

    Samples that are left over belong to the last ghost; a batch of fewer samples is one ghost. The running averages
    move once for a batch, to the means over its ghosts of their mean and their unbiased variance, each ghost weighed by
    its size. Raises ValueError in training for a batch with one value per channel.
    """

    def __init__(self, channels: int, *, ghost: int, eps: float, momentum: float, affine: bool) -> None:
        super().__init__(channels, eps=eps, momentum=momentum, affine=affine)
        self.ghost = ghost

    def train_on(self, x: Tensor) -> Tensor:
        """Return each ghost of x by its own mean and variance."""
        others = max(len(x) // self.ghost, 1) - 1
        ghosts = torch.split(x, [self.ghost] * others + [len(x) - self.ghost * others])
        mean, var, normalized, seen = torch.zeros_like(self.running_mean), torch.zeros_like(self.running_var), [], 0
        for one in ghosts:
            seen += len(one)
            share = len(one) / seen  # makes mean and var the means over the samples seen
            normalized.append(
                functional.batch_norm(one, mean, var, *self.affine(x), training=True, momentum=share, eps=self.eps)
            )
        move(self.running_mean, mean, self.momentum)
        move(self.running_var, var, self.momentum)
        return torch.cat(normalized)


def layer(
    site: normbench.Site, ghost: int = 32, eps: float = 1e-5, momentum: float = 0.1, affine: bool = True
) -> nn.Module:
    """Return ghost batch norm; in NLC over all tokens of a ghost's samples.

    Raises Unsupported where each ghost would have one value per channel.
    """
    if ghost == 1 and has_one_position(site):
        raise normbench.Unsupported("a ghost of one sample has one value per channel here, of which nothing is left")
    built = GhostBatchNorm(site.channels, ghost=ghost, eps=eps, momentum=momentum, affine=affine)
    return Moved(built, -1, 1) if site.layout == "NLC" else built

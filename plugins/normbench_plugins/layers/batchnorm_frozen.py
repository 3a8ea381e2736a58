"""Batch norm whose statistics are frozen in the course of training."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

import normbench
from normbench_plugins.layers.over_batch import OverBatch
from normbench_plugins.layers.state import move
from normbench_plugins.layers.tokens import OverTokens


class FrozenBatchNorm(OverBatch):
    """Batch norm, and from the share `after` of the run on, in training too, by its running averages as constants.

    From then on the averages don't move, and no gradient flows through them; gamma and beta go on learning. Before
    that, and where nothing calls `on_step`, it is torch's batch norm. Raises ValueError in training for a batch with
    one value per channel.
    """

    frozen: Tensor

    def __init__(self, channels: int, *, after: float, eps: float, momentum: float, affine: bool) -> None:
        super().__init__(channels, eps=eps, momentum=momentum, affine=affine)
        self.after = after
        self.register_buffer("frozen", torch.tensor(False))

    def on_step(self, step: int, steps: int) -> None:
        """Freeze the averages, or not, for a step, counted from 0, out of `steps`."""
        self.frozen.fill_(step / steps >= self.after)

    def train_on(self, x: Tensor) -> Tensor:
        """Return x by its own mean and variance, or by the averages; both are computed, as `frozen` is a tensor."""
        kept = self.running_mean.clone(), self.running_var.clone()
        found = torch.zeros_like(self.running_mean), torch.zeros_like(self.running_var)
        by_averages = functional.batch_norm(x, *kept, *self.affine(x), eps=self.eps)
        by_batch = functional.batch_norm(x, *found, *self.affine(x), training=True, momentum=1.0, eps=self.eps)
        for average, old, new in zip((self.running_mean, self.running_var), kept, found, strict=True):
            move(average, torch.where(self.frozen, old, new), self.momentum)
        return torch.where(self.frozen, by_averages, by_batch)


def layer(
    site: normbench.Site, after: float = 0.5, eps: float = 1e-5, momentum: float = 0.1, affine: bool = True
) -> nn.Module:
    """Return batch norm that freezes its statistics; in NLC over all tokens of the batch."""
    built = FrozenBatchNorm(site.channels, after=after, eps=eps, momentum=momentum, affine=affine)
    return OverTokens(built) if site.layout == "NLC" else built

"""Batch normalization by another norm than the second (Hoffer et al. 2018, arXiv 1803.01814; Santurkar et al. 2018)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

import normbench
from normbench_plugins.layers.over_batch import OverBatch
from normbench_plugins.layers.rows import per_channel
from normbench_plugins.layers.state import move
from normbench_plugins.layers.tokens import OverTokens


class LpBatchNorm(OverBatch):
    """y = gamma (x - mean) / s + beta with s = sqrt(d^2 + eps), where d is a channel's average p-norm.

    With c = x - mean, or c = x where not `centred`, d is mean|c| ("1"), sqrt(mean c^2) ("2") or max|c| ("max") over the
    batch and space. With `constant` it is multiplied by what makes it the standard deviation of normal numbers: see
    `gaussian_constant`. Gradients flow through mean and s. `running_mean` and `running_scale` are averages of mean and
    s, by which evaluation computes. Raises ValueError in training for a batch with one value per channel.
    """

    running_scale: Tensor

    def __init__(
        self, channels: int, *, p: str, centred: bool, constant: bool, eps: float, momentum: float, affine: bool
    ) -> None:
        super().__init__(channels, eps=eps, momentum=momentum, affine=affine, spread="running_scale")
        self.p, self.centred, self.constant = p, centred, constant

    def train_on(self, x: Tensor) -> Tensor:
        """Return x by its own mean and s."""
        count = x.numel() // x.shape[1]
        if count == 1:
            raise ValueError(f"Expected more than 1 value per channel when training, got input size {tuple(x.shape)}")
        over = [0, *range(2, x.dim())]
        mean = x.sum(over) / count  # x.mean would fill a tensor like x with its gradient
        values = x - per_channel(mean, "NCHW"[: x.dim()]) if self.centred else x
        s = (self._square(values, over, count) + self.eps).sqrt()
        move(self.running_mean, mean, self.momentum)
        move(self.running_scale, s, self.momentum)
        gamma, beta = self.affine(x)
        scale = s.reciprocal() if gamma is None else gamma / s
        # batch_norm takes its mean and variance for constants: their gradients flow through its gamma and beta.
        fixed = mean.detach()
        shift = scale * (fixed - mean)
        return functional.batch_norm(
            x, fixed, torch.ones_like(fixed), scale, shift if beta is None else beta + shift, eps=0.0
        )

    def evaluate(self, x: Tensor) -> Tensor:
        """Return x by the running averages, of which s has eps in it."""
        return functional.batch_norm(x, self.running_mean, self.running_scale.square(), *self.affine(x), eps=0.0)

    def _square(self, values: Tensor, over: list[int], count: int) -> Tensor:
        """Return d^2."""
        if self.p == "2":
            return values.square().sum(over) / count
        size = values.abs().amax(over) if self.p == "max" else values.abs().sum(over) / count
        return (size * gaussian_constant(self.p, count)).square() if self.constant else size.square()


def gaussian_constant(p: str, count: int) -> float:
    """Return the standard deviation of `count` normal numbers over their average p-norm, as Hoffer et al. have it.

    For "max" it is their estimate, from bounds of the expected maximum that are wide: the result is up to 1.5 times the
    standard deviation.
    """
    if p == "max":
        return 0.5 * (1 + math.sqrt(math.pi * math.log(4))) / math.sqrt(2 * math.log(count))
    return math.sqrt(math.pi / 2) if p == "1" else 1.0


def layer(
    site: normbench.Site,
    p: str = "1",
    centred: bool = True,
    constant: bool = True,
    eps: float = 1e-5,
    momentum: float = 0.1,
    affine: bool = True,
) -> nn.Module:
    """Return Lp batch norm; in NLC over all tokens of the batch."""
    built = LpBatchNorm(
        site.channels, p=p, centred=centred, constant=constant, eps=eps, momentum=momentum, affine=affine
    )
    return OverTokens(built) if site.layout == "NLC" else built

"""Switchable normalization (Luo et al. 2018, arXiv 1806.10779): a learned mix of three norms' moments."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

import normbench
from normbench_plugins.layers.affine import add_affine
from normbench_plugins.layers.moments import moments
from normbench_plugins.layers.rows import at_least_float32, check_shape, per_channel
from normbench_plugins.layers.state import Float32State, move


class SwitchableNorm(Float32State):
    """y = gamma (x - mean) / sqrt(var + eps) + beta, of an input (N, C, L) or (N, C, H, W).

    The mean is a weighted sum of those of instance norm (over the space of each channel of a sample), layer norm (over
    a whole sample) and batch norm (per channel over the batch); so is the variance, biased in all three. The weights
    are softmax(mean_logits) and softmax(var_logits), in this order, learned, and alike at the start. In evaluation the
    moments of the batch are `running_mean` and `running_var`, which training moves by `momentum` to those of a batch.
    A batch without a sample moves nothing.

    Raises ValueError for an input of another shape than the layout's, or of one position, where an instance is one
    value.
    """

    weight: nn.Parameter
    bias: nn.Parameter
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, layout: str, *, eps: float, momentum: float) -> None:
        super().__init__()
        self.channels, self.layout, self.eps, self.momentum = channels, layout, eps, momentum
        self.space = list(range(2, len(layout)))
        add_affine(self, channels, affine=True)
        self.mean_logits = nn.Parameter(torch.ones(3))
        self.var_logits = nn.Parameter(torch.ones(3))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalized input, in its shape and type."""
        check_shape(x, self.layout, self.channels)
        if math.prod(x.shape[2:]) == 1:
            raise ValueError(f"expected several positions per channel of a sample, got the shape {tuple(x.shape)}")
        values = at_least_float32(x)
        mean, var = self._mixed(*moments(values, self.space))
        gamma, beta = (per_channel(one, self.layout).to(values.dtype) for one in (self.weight, self.bias))
        gain = gamma * torch.rsqrt(var + self.eps)
        # Not addcmul, whose backward takes a pass more.
        return (values * gain).add_(beta - mean * gain).to(x.dtype)

    def _mixed(self, mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mixed mean and variance from those of the instances, all of which broadcast against the input."""
        layer_mean, layer_var = _pooled(mean, var, 1)
        if self.training and len(mean):
            batch_mean, batch_var = _pooled(mean, var, 0)
            move(self.running_mean, batch_mean.flatten().to(self.running_mean.dtype), self.momentum)
            move(self.running_var, batch_var.flatten().to(self.running_var.dtype), self.momentum)
        else:
            batch_mean, batch_var = (
                per_channel(one, self.layout).to(mean.dtype) for one in (self.running_mean, self.running_var)
            )
        of_mean, of_var = (logits.to(mean.dtype).softmax(0) for logits in (self.mean_logits, self.var_logits))
        return (
            of_mean[0] * mean + of_mean[1] * layer_mean + of_mean[2] * batch_mean,
            of_var[0] * var + of_var[1] * layer_var + of_var[2] * batch_var,
        )

    def extra_repr(self) -> str:
        """Return what the layer is made with."""
        return f"{self.channels}, layout={self.layout!r}, eps={self.eps}, momentum={self.momentum}"


def _pooled(mean: Tensor, var: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Return mean and variance of groups of equal size taken together: the mean variance plus that of the means."""
    pooled, between = moments(mean, [axis])
    return pooled, var.mean(axis, keepdim=True) + between


def layer(site: normbench.Site, eps: float = 1e-5, momentum: float = 0.1) -> nn.Module:
    """Return switchable norm. Raises Unsupported for maps of one position."""
    if site.spatial is not None and math.prod(site.spatial) == 1:
        raise normbench.Unsupported("a channel of a sample has one value here, of which no variance can be taken")
    return SwitchableNorm(site.channels, site.layout, eps=eps, momentum=momentum)

"""EvoNorms, norm and activation as one (Liu, Brock, Simonyan & Le 2020, arXiv 2004.02967): B0 and S0.

At a site without an activation, before a residual sum, both are gamma and beta alone, as in the authors' code.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

import normbench
from normbench_plugins.layers.affine import add_affine, scaled_and_shifted
from normbench_plugins.layers.group_norm import groups_at
from normbench_plugins.layers.moments import moments
from normbench_plugins.layers.rows import at_least_float32, check_shape, per_channel
from normbench_plugins.layers.sites import has_activation, has_one_position
from normbench_plugins.layers.state import Float32State, move


class Affine(nn.Module):
    """gamma x + beta, one of each per channel, for an input of the shape that `layout` says.

    Raises ValueError for an input of another shape.
    """

    weight: nn.Parameter
    bias: nn.Parameter

    def __init__(self, channels: int, layout: str) -> None:
        super().__init__()
        self.channels, self.layout = channels, layout
        add_affine(self, channels, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return the output, in the input's shape and type."""
        check_shape(x, self.layout, self.channels)
        return scaled_and_shifted(x, self.weight, self.bias, self.layout)

    def extra_repr(self) -> str:
        """Return what the layer is made for."""
        return f"{self.channels}, layout={self.layout!r}"


class EvoNormB0(Affine, Float32State):
    """gamma x / max(sqrt(batch variance + eps), v x + sqrt(variance + eps)) + beta.

    Input and output are (N, C, L) or (N, C, H, W). The batch variance is over the batch and space, in evaluation
    `running_var`, an average of it; `variance` is over the space of each channel of a sample. Both are biased. v, one
    per channel, begins at 1. A batch without a sample moves nothing.

    Raises ValueError for an input of another shape, and for one with one value per channel of a sample.
    """

    running_var: Tensor

    def __init__(self, channels: int, layout: str, *, eps: float, momentum: float) -> None:
        super().__init__(channels, layout)
        self.eps, self.momentum = eps, momentum
        self.v = nn.Parameter(torch.ones(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Return the output, in the input's shape and type."""
        check_shape(x, self.layout, self.channels)
        if x.shape[2:].numel() == 1:
            raise ValueError(f"a channel of a sample has one value, whose variance is 0; got {tuple(x.shape)}")
        values = at_least_float32(x)
        mean, var = moments(values, list(range(2, x.dim())))
        left, right = (self._batch_var(mean, var) + self.eps).sqrt(), (var + self.eps).sqrt()
        # max(left, right + v x), without torch.maximum: on a CPU its backward takes several times as long as relu's.
        above = torch.addcmul(right - left, values, per_channel(self.v, self.layout)).relu_()
        return scaled_and_shifted(values / (above + left), self.weight, self.bias, self.layout).to(x.dtype)

    def _batch_var(self, mean: Tensor, var: Tensor) -> Tensor:
        """Return the variance over batch and space, from those of the samples; in evaluation the running one."""
        if not self.training or len(mean) == 0:
            return per_channel(self.running_var, self.layout)
        total = (var + (mean - mean.mean(0)).square()).mean(0)
        move(self.running_var, total.flatten(), self.momentum)
        return total

    def extra_repr(self) -> str:
        """Return what the layer is made with."""
        return f"{super().extra_repr()}, eps={self.eps}, momentum={self.momentum}"


class EvoNormS0(Affine):
    """gamma x sigmoid(v x) / sqrt(variance + eps) + beta, the biased variance over a group of a sample's channels.

    Input and output are (N, C), (N, C, L) or (N, C, H, W). v, one per channel, begins at 1. `groups` divides the
    channels. Raises ValueError for an input of another shape.
    """

    def __init__(self, channels: int, layout: str, *, groups: int, eps: float) -> None:
        super().__init__(channels, layout)
        self.groups, self.eps = groups, eps
        self.v = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Return the output, in the input's shape and type."""
        check_shape(x, self.layout, self.channels)
        values = at_least_float32(x)
        grouped = torch.unflatten(values, 1, (self.groups, -1))
        _, var = moments(grouped, list(range(2, grouped.dim())))
        gain = torch.rsqrt(var + self.eps).repeat_interleave(grouped.shape[2], 2).flatten(1, 2)
        weight, bias, v = (per_channel(one, self.layout) for one in (self.weight, self.bias, self.v))
        return torch.addcmul(bias, values * (values * v).sigmoid_(), gain * weight).to(x.dtype)

    def extra_repr(self) -> str:
        """Return what the layer is made with."""
        return f"{super().extra_repr()}, groups={self.groups}, eps={self.eps}"


def b0(site: normbench.Site, eps: float = 1e-5, momentum: float = 0.1) -> nn.Module:
    """Return EvoNorm-B0. Raises Unsupported where each channel of a sample has one value."""
    if has_one_position(site):
        raise normbench.Unsupported("a channel of a sample has one value here, whose variance is 0")
    if not has_activation(site, "relu", "silu"):
        return Affine(site.channels, site.layout)
    return EvoNormB0(site.channels, site.layout, eps=eps, momentum=momentum)


def s0(site: normbench.Site, groups: int = 8, eps: float = 1e-5) -> nn.Module:
    """Return EvoNorm-S0. Raises Unsupported where a group would have one value."""
    groups = groups_at(site, groups)
    if not has_activation(site, "relu", "silu"):
        return Affine(site.channels, site.layout)
    return EvoNormS0(site.channels, site.layout, groups=groups, eps=eps)

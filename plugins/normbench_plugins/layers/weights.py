"""Norms of weights: of the linear or convolution before a site, as torch's parametrizations of its weight.

An output unit is an output of a linear, or an output channel of a convolution; its weights are those that it is
computed with: of all inputs, or of the inputs of its group, at all positions of the kernel.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations, parametrize

import normbench


class Standardized(nn.Module):
    """gain scale (w - mean) / sqrt(var + eps), mean and biased variance over the weights w of an output unit.

    It takes and returns weights of any shape, whose axis `axis` is that of the units. `gain`, one number per unit, is
    learned and begins at 1; without a `scale` there is neither.
    """

    def __init__(self, weight: Tensor, axis: int, *, eps: float, scale: float | None = None) -> None:
        super().__init__()
        self.axis, self.eps, self.scale = axis, eps, scale
        self.gain = None if scale is None else nn.Parameter(weight.new_ones(weight.shape[axis]))

    def forward(self, weight: Tensor) -> Tensor:
        """Return the standardized weights."""
        units = weight.transpose(0, self.axis)
        gain = None if self.gain is None or self.scale is None else self.gain * self.scale
        # Batch norm of one sample whose channels are the units.
        rows = units.reshape(1, len(units), -1)
        standardized = functional.batch_norm(rows, None, None, gain, training=True, eps=self.eps)
        return standardized.view(units.shape).transpose(0, self.axis)

    def extra_repr(self) -> str:
        """Return what the layer is made with."""
        return f"axis={self.axis}, eps={self.eps}, scale={self.scale}"


def weight_norm(site: normbench.Site, module: Any) -> nn.Module:  # noqa: ARG001 - every layer takes a site
    """Return a linear or convolution with weights g v / |v|, torch's: v begins as they are, g as their length.

    Raises Unsupported where all weights of an output unit are 0.
    """
    axis = _axis_of_units(module)
    if not module.weight.transpose(0, axis).flatten(1).any(1).all():
        raise normbench.Unsupported("an output unit begins with weights that are all 0, which have no direction")
    wrapped: nn.Module = parametrizations.weight_norm(module, dim=axis)
    return wrapped


def standardization(site: normbench.Site, module: Any, eps: float = 1e-6) -> nn.Module:  # noqa: ARG001
    """Return a linear or convolution with standardized weights. Raises Unsupported where an output unit has one."""
    return _standardized(module, eps)


def scaled_standardization(
    site: normbench.Site, module: Any, eps: float = 1e-6, gamma: float | None = None
) -> nn.Module:
    """Return a linear or convolution with standardized weights times a learned gain and gamma / sqrt(fan-in).

    Without a `gamma` it is that of the site's activation. Raises Unsupported where an output unit has one weight.
    """
    return _standardized(module, eps, gamma_of(site.activation) if gamma is None else gamma)


@torch.no_grad()
def gamma_of(activation: str | None) -> float:
    """Return 1 / std(activation(z)), z standard normal (Brock, De & Smith 2021, arXiv 2101.08692): 1 for None.

    By the midpoint rule, whose cells meet at the kinks of all activations: to 7 digits. For relu it is
    sqrt(2 / (1 - 1 / pi)). Random slopes are those of evaluation, and learned ones those that they begin with.
    """
    z = (torch.arange(-(2**14), 2**14, dtype=torch.float64) + 0.5) / 2**11
    share = torch.softmax(-z.square() / 2, 0)
    y = normbench.activation(activation).eval().double()(z)
    return float((share * (y - (share * y).sum()).square()).sum().rsqrt())


def _standardized(module: Any, eps: float, gamma: float | None = None) -> nn.Module:
    weight, axis = module.weight, _axis_of_units(module)
    fan_in = weight.numel() // weight.shape[axis]
    if fan_in == 1:
        raise normbench.Unsupported("an output unit has one weight, of which nothing is left without its mean")
    scale = None if gamma is None else gamma * fan_in**-0.5
    return parametrize.register_parametrization(module, "weight", Standardized(weight, axis, eps=eps, scale=scale))


def _axis_of_units(module: Any) -> int:
    """Return the axis of the weight that counts output units. Raises Unsupported where there is none."""
    transposed = getattr(module, "transposed", False)
    if transposed and module.groups > 1:
        raise normbench.Unsupported("a transposed convolution in groups has no axis of its output channels")
    return int(transposed)

"""Layer norm scaling: what a norm gives is divided by the square root of its layer's number (Sun et al. 2025)."""

from __future__ import annotations

import math

from torch import Tensor, nn

import normbench
from normbench_plugins.layers import layer_norm, rms_norm


class Scaled(nn.Module):
    """Multiplies what a layer gives by a factor."""

    def __init__(self, layer: nn.Module, factor: float) -> None:
        super().__init__()
        self.layer, self.factor = layer, factor

    def forward(self, x: Tensor) -> Tensor:
        """Return factor * layer(x)."""
        normalized: Tensor = self.layer(x)
        return normalized * self.factor

    def extra_repr(self) -> str:
        """Return the factor."""
        return f"factor={self.factor:.4g}"


def layer(site: normbench.Site, eps: float = 1e-5, of: str = "layer") -> nn.Module:
    """Return layer norm or RMS norm, divided by sqrt(n) in the n-th block of the network, counted from 1.

    Outside of blocks it is not scaled. Raises Unsupported in a network that has no blocks.
    """
    if site.sites is not None and not site.blocks:
        raise normbench.Unsupported("it scales by the number of the residual block; this network has no blocks")
    inner = (rms_norm if of == "rms" else layer_norm).layer(site, eps=eps)
    return inner if site.block is None else Scaled(inner, 1 / math.sqrt(site.block + 1))

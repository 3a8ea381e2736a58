"""Global response normalization (Woo et al. 2023, ConvNeXt V2, arXiv 2301.00808)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import normbench
from normbench_plugins.layers.rows import at_least_float32, check_shape, per_channel


class GlobalResponseNorm(nn.Module):
    """y = x + gamma x n + beta, n = G / (mean(G) + eps), G a channel's l2 norm over space, its mean over channels.

    Input and output have the shape that `layout` says: (N, C, L), (N, C, H, W) or (N, L, C), whose tokens are its
    space. gamma and beta, one per channel, begin at 0: the layer at the identity. Raises ValueError for an input of
    another shape than the layout's.
    """

    def __init__(self, channels: int, layout: str, *, eps: float) -> None:
        super().__init__()
        self.channels, self.layout, self.eps = channels, layout, eps
        self.axis = layout.index("C")
        self.space = [axis for axis in range(1, len(layout)) if axis != self.axis]
        self.weight = nn.Parameter(torch.zeros(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Return the output, in the input's shape and type."""
        check_shape(x, self.layout, self.channels)
        values = at_least_float32(x)
        response = torch.linalg.vector_norm(values, dim=self.space, keepdim=True)
        relative = response / (response.mean(self.axis, keepdim=True) + self.eps)
        gain = torch.addcmul(torch.ones_like(relative), per_channel(self.weight, self.layout), relative)
        return torch.addcmul(per_channel(self.bias, self.layout), values, gain).to(x.dtype)

    def extra_repr(self) -> str:
        """Return what the layer is made with."""
        return f"{self.channels}, layout={self.layout!r}, eps={self.eps}"


def layer(site: normbench.Site, eps: float = 1e-6) -> nn.Module:
    """Return global response norm."""
    return GlobalResponseNorm(site.channels, site.layout, eps=eps)

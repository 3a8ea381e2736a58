"""Root mean square layer normalization (Zhang & Sennrich 2019, arXiv 1910.07467), and its zero-centred form."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import normbench
from normbench_plugins.layers.moments import inverse_rms
from normbench_plugins.layers.rows import at_least_float32, check_shape, per_channel


class RMSNorm(nn.Module):
    """y = (offset + weight) x / sqrt(mean(x^2) + eps), with one weight per channel, of which none moves the mean.

    Input and output have the shape that `layout` says: (N, C), (N, C, L), (N, C, H, W) or (N, L, C). The mean square is
    over all that belongs to a sample (`over` is "sample"), or over the channels of a position; of tokens always the
    latter. `weight` begins at 1 - offset. Raises ValueError for an input of another shape than the layout's.
    """

    def __init__(
        self, channels: int, layout: str, *, eps: float, over: str = "sample", affine: bool = True, offset: int = 0
    ) -> None:
        super().__init__()
        self.channels, self.layout, self.eps, self.offset = channels, layout, eps, offset
        self.over = [-1] if layout == "NLC" else [1] if over == "channels" else list(range(1, len(layout)))
        self.weight = nn.Parameter(torch.full((channels,), 1.0 - offset)) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalized input, in its shape and type."""
        check_shape(x, self.layout, self.channels)
        values = at_least_float32(x)
        gain = inverse_rms(values, self.over, self.eps)
        if self.weight is not None:
            gain = gain * per_channel(self.offset + self.weight, self.layout)
        return (values * gain).to(x.dtype)

    def extra_repr(self) -> str:
        """Return what the layer is made with."""
        return f"{self.channels}, layout={self.layout!r}, eps={self.eps}, over={self.over}, offset={self.offset}"


class ZeroCentredRMSNorm(RMSNorm):
    """RMS norm by 1 + weight. Weight decay acts on the weight: it pulls the gain towards 1."""

    def decayed(self) -> list[nn.Parameter]:
        """Return the weight."""
        return [] if self.weight is None else [self.weight]


def layer(site: normbench.Site, eps: float = 1e-6, over: str = "sample", affine: bool = True) -> nn.Module:
    """Return RMS norm, with a gain per channel, and no bias."""
    return RMSNorm(site.channels, site.layout, eps=eps, over=over, affine=affine)


def zero_centred(site: normbench.Site, eps: float = 1e-6, over: str = "sample") -> nn.Module:
    """Return RMS norm whose gain is 1 + weight, with the weight at 0 at the start."""
    return ZeroCentredRMSNorm(site.channels, site.layout, eps=eps, over=over, offset=1)

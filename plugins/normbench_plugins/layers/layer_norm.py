"""Layer normalization (Ba, Kiros & Hinton 2016, arXiv 1607.06450), with torch's layers.

There are several flavours. The mean and the biased variance are over channels and space of a sample, or over the
channels of each position; gamma and beta belong to channels, or to every element. For tokens (NLC) all are one: over a
token's channels.
"""

from __future__ import annotations

from torch import Tensor, nn

import normbench
from normbench_plugins.layers.group_norm import group_norm


class OverChannels(nn.Module):
    """Applies a layer for channels that come last to (N, C, ...): each position is normalized alone."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalized input, in its shape."""
        normalized: Tensor = self.layer(x.movedim(1, -1)).movedim(-1, 1)
        return normalized.contiguous() if x.is_contiguous() else normalized


def layer(site: normbench.Site, eps: float = 1e-5, over: str = "sample", affine: bool | str = True) -> nn.Module:
    """Return layer norm; `affine` is True for gamma and beta per channel, "element" for one of each per element.

    Raises Unsupported where gamma and beta per element need a size of the space that isn't known.
    """
    if affine == "element" and site.layout in ("NCL", "NCHW"):
        if over == "channels":
            raise ValueError('affine is "element"; with over = "channels" it is true or false')
        if site.spatial is None:
            raise normbench.Unsupported("gamma and beta per element need one size of the input, which isn't known here")
        return nn.LayerNorm((site.channels, *site.spatial), eps=eps)
    if site.layout == "NLC":
        return nn.LayerNorm(site.channels, eps=eps, elementwise_affine=bool(affine))
    if over == "channels" and site.layout != "NC":
        return OverChannels(nn.LayerNorm(site.channels, eps=eps, elementwise_affine=bool(affine)))
    return group_norm(1, site.channels, eps=eps, affine=bool(affine))

"""Layer normalization (Ba, Kiros & Hinton 2016, arXiv 1607.06450), with torch's layers.

There are several flavours. The mean and the biased variance are over channels and space of a sample, or over the
channels of each position; gamma and beta belong to channels, or to every element. For tokens (NLC) all are one: over a
token's channels.
"""

from __future__ import annotations

from torch import nn

import normbench
from normbench_plugins.layers.group_norm import group_norm
from normbench_plugins.layers.moved import Moved


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
        return Moved(nn.LayerNorm(site.channels, eps=eps, elementwise_affine=bool(affine)), 1, -1)
    return group_norm(1, site.channels, eps=eps, affine=bool(affine))

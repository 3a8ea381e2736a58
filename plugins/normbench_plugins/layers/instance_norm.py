"""Instance normalization (Ulyanov, Vedaldi & Lempitsky 2016, arXiv 1607.08022), with torch's layers."""

from __future__ import annotations

from torch import nn

import normbench
from normbench_plugins.layers.moved import Moved
from normbench_plugins.layers.sites import has_one_position


def layer(site: normbench.Site, eps: float = 1e-5, affine: bool = True) -> nn.Module:
    """Return instance norm: each channel of a sample over space. Raises Unsupported where that is one position."""
    if has_one_position(site):
        raise normbench.Unsupported("a channel of a sample has one value here, of which nothing is left")
    kind = nn.InstanceNorm2d if site.layout == "NCHW" else nn.InstanceNorm1d
    built = kind(site.channels, eps=eps, affine=affine)
    return Moved(built, -1, 1) if site.layout == "NLC" else built

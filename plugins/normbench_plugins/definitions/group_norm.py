"""Group norm (Wu & He 2018, arXiv 1803.08494, equation 7) and instance norm (Ulyanov et al. 2016, equation 3)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

import normbench
from normbench_plugins.definitions.state import State


def group_norm(x: Tensor, site: normbench.Site, state: Mapping[str, Tensor], eps: float, groups: int) -> Tensor:
    """Return gamma (x - mean) / sqrt(var + eps) + beta, over each group of channels; for tokens, of each token."""
    while site.channels % groups:
        groups -= 1
    axis = site.layout.index("C")
    parts = []
    for part in x.chunk(groups, axis):
        over = [axis] if site.layout == "NLC" else list(range(1, x.dim()))
        mean = part.mean(over, keepdim=True)
        parts.append((part - mean) / ((part - mean).square().mean(over, keepdim=True) + eps).sqrt())
    return State(state, site).affine(torch.cat(parts, axis))


def instance_norm(x: Tensor, site: normbench.Site, state: Mapping[str, Tensor], eps: float) -> Tensor:
    """Return gamma (x - mean) / sqrt(var + eps) + beta, over the positions of a sample."""
    over = [axis for axis, name in enumerate(site.layout) if name not in "NC"]
    mean = x.mean(over, keepdim=True)
    var = (x - mean).square().mean(over, keepdim=True)
    return State(state, site).affine((x - mean) / (var + eps).sqrt())

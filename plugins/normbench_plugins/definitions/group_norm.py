"""Group norm (Wu & He 2018, arXiv 1803.08494, equation 7) and instance norm (Ulyanov et al. 2016, equation 3)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

import normbench
from normbench_plugins.definitions.state import State, in_groups, over_sample, standardized


def group_norm(x: Tensor, site: normbench.Site, state: Mapping[str, Tensor], eps: float, groups: int) -> Tensor:
    """Return gamma (x - mean) / sqrt(var + eps) + beta, over each group of channels; for tokens, of each token."""
    parts = [standardized(part, over_sample(site), eps) for part in in_groups(x, site, groups)]
    return State(state, site).affine(torch.cat(parts, site.layout.index("C")))


def instance_norm(x: Tensor, site: normbench.Site, state: Mapping[str, Tensor], eps: float) -> Tensor:
    """Return gamma (x - mean) / sqrt(var + eps) + beta, over the positions of a sample."""
    over = [axis for axis, name in enumerate(site.layout) if name not in "NC"]
    return State(state, site).affine(standardized(x, over, eps))

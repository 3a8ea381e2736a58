"""Global response norm (Woo et al. 2023, arXiv 2301.00808, section 3: aggregate, normalize, calibrate)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

import normbench
from normbench_plugins.definitions.state import State


def grn(x: Tensor, site: normbench.Site, state: Mapping[str, Tensor], eps: float) -> Tensor:
    """Return x + gamma x G / (mean(G) + eps) + beta, with G the l2 norm over a sample's positions."""
    space = [axis for axis, name in enumerate(site.layout) if name not in "NC"]
    length = x.square().sum(space, keepdim=True).sqrt()
    relative = length / (length.mean(site.layout.index("C"), keepdim=True) + eps)
    return x + State(state, site).affine(x * relative)

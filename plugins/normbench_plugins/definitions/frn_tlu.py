"""Filter response norm and TLU (Singh & Krishnan 2019, arXiv 1911.09737, section 3)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

import normbench
from normbench_plugins.definitions.state import State


def frn_tlu(x: Tensor, site: normbench.Site, state: Mapping[str, Tensor], eps: float, learned_eps: bool) -> Tensor:
    """Return max(gamma x / sqrt(nu^2 + eps) + beta, tau), with nu^2 the mean of x^2 over a sample's positions."""
    own = State(state, site)
    space = [axis for axis, name in enumerate(site.layout) if name not in "NC"]
    count = math.prod(x.shape[axis] for axis in space)
    square = x.square().sum(space, keepdim=True) / count if space else x.square()
    added = eps + own["learned_eps"].abs() if learned_eps or count == 1 else eps
    y = own.affine(x / (square + added).sqrt())
    return y if site.activation is None else torch.maximum(y, own["tau"])

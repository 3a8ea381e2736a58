"""Layer norm (Ba, Kiros & Hinton 2016, arXiv 1607.06450, equation 4): over a sample, or over a token."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

import normbench
from normbench_plugins.definitions.state import State


def layer_norm(x: Tensor, site: normbench.Site, state: Mapping[str, Tensor], eps: float) -> Tensor:
    """Return gamma (x - mean) / sqrt(var + eps) + beta, over channels and space; for tokens, over channels."""
    over = [-1] if site.layout == "NLC" else list(range(1, x.dim()))
    mean = x.mean(over, keepdim=True)
    var = (x - mean).square().mean(over, keepdim=True)
    return State(state, site).affine((x - mean) / (var + eps).sqrt())

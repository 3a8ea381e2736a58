"""Layer norm (Ba, Kiros & Hinton 2016, arXiv 1607.06450, equation 4): over a sample, or over a position's channels."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

import normbench
from normbench_plugins.definitions.rms_norm import rms_norm
from normbench_plugins.definitions.state import State, over_sample, standardized


def layer_norm(
    x: Tensor,
    site: normbench.Site,
    state: Mapping[str, Tensor],
    eps: float,
    over: str = "sample",
    affine: bool | str = True,
) -> Tensor:
    """Return gamma (x - mean) / sqrt(var + eps) + beta, over channels and space; for tokens, over channels."""
    y = standardized(x, over_sample(site, over), eps)
    if affine == "element":
        return y * state["weight"].double() + state["bias"].double()
    return State(state, site).affine(y)


def layer_norm_scaling(x: Tensor, site: normbench.Site, state: Mapping[str, Tensor], eps: float, of: str) -> Tensor:
    """Return layer norm or RMS norm, divided by the square root of the block's number, counted from 1."""
    y = rms_norm(x, site, state, eps, "sample") if of == "rms" else layer_norm(x, site, state, eps)
    return y if site.block is None else y / math.sqrt(site.block + 1)

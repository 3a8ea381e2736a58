"""EvoNorm-B0 and -S0 (Liu, Brock, Simonyan & Le 2020, arXiv 2004.02967, table 2)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

import normbench
from normbench_plugins.definitions.state import State, over_batch


def b0(x: Tensor, site: normbench.Site, state: Mapping[str, Tensor], eps: float, training: bool) -> Tensor:
    """Return gamma x / max(sqrt(var over batch and space + eps), v x + sqrt(var over space + eps)) + beta."""
    own = State(state, site)
    if site.activation is None:
        return own.affine(x)
    batch = _var(x, over_batch(site)) if training else own["running_var"]
    of_sample = _var(x, list(range(2, x.dim())))
    return own.affine(x / torch.maximum((batch + eps).sqrt(), own["v"] * x + (of_sample + eps).sqrt()))


def s0(x: Tensor, site: normbench.Site, state: Mapping[str, Tensor], eps: float, groups: int) -> Tensor:
    """Return gamma x sigmoid(v x) / sqrt(var of a group of a sample's channels + eps) + beta."""
    own = State(state, site)
    if site.activation is None:
        return own.affine(x)
    while site.channels % groups:
        groups -= 1
    over = list(range(1, x.dim()))
    std = torch.cat([(_var(part, over) + eps).sqrt().expand_as(part) for part in x.chunk(groups, 1)], 1)
    return own.affine(x * torch.sigmoid(own["v"] * x) / std)


def _var(x: Tensor, over: list[int]) -> Tensor:
    return (x - x.mean(over, keepdim=True)).square().mean(over, keepdim=True)

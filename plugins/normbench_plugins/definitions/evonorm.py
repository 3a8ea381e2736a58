"""EvoNorm-B0 and -S0 (Liu, Brock, Simonyan & Le 2020, arXiv 2004.02967, table 2)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

import normbench
from normbench_plugins.definitions.state import State, in_groups, moments, over_batch


def b0(x: Tensor, site: normbench.Site, state: Mapping[str, Tensor], eps: float, training: bool) -> Tensor:
    """Return gamma x / max(sqrt(var over batch and space + eps), v x + sqrt(var over space + eps)) + beta."""
    own = State(state, site)
    if site.activation is None:
        return own.affine(x)
    batch = moments(x, over_batch(site))[1] if training else own["running_var"]
    _, of_sample = moments(x, list(range(2, x.dim())))
    return own.affine(x / torch.maximum((batch + eps).sqrt(), own["v"] * x + (of_sample + eps).sqrt()))


def s0(x: Tensor, site: normbench.Site, state: Mapping[str, Tensor], eps: float, groups: int) -> Tensor:
    """Return gamma x sigmoid(v x) / sqrt(var of a group of a sample's channels + eps) + beta."""
    own = State(state, site)
    if site.activation is None:
        return own.affine(x)
    over = list(range(1, x.dim()))
    std = torch.cat([(moments(part, over)[1] + eps).sqrt().expand_as(part) for part in in_groups(x, site, groups)], 1)
    return own.affine(x * torch.sigmoid(own["v"] * x) / std)

"""Batch norm (Ioffe & Szegedy 2015, arXiv 1502.03167) and batch renorm (Ioffe 2017, arXiv 1702.03275, algorithm 1)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

import normbench
from normbench_plugins.definitions.state import State, moments, over_batch


def batchnorm(
    x: Tensor,
    site: normbench.Site,
    state: Mapping[str, Tensor],
    eps: float,
    training: bool,
    evaluation: str = "running",
) -> Tensor:
    """Return gamma (x - mean) / sqrt(var + eps) + beta: of the batch in training, else of the running averages."""
    own = State(state, site)
    if training or evaluation == "batch":
        mean, var = moments(x, over_batch(site))
    else:
        mean, var = own["running_mean"], own["running_var"]
    return own.affine((x - mean) / (var + eps).sqrt())


def batch_renorm(
    x: Tensor,
    site: normbench.Site,
    state: Mapping[str, Tensor],
    eps: float,
    r_max: float,
    d_max: float,
    training: bool,
) -> Tensor:
    """Return gamma ((x - mean) / s r + d) + beta, with the clips open, as they are outside of a run."""
    own = State(state, site)
    running_mean, running_std = own["running_mean"], own["running_std"]
    if not training:
        return own.affine((x - running_mean) / running_std)
    mean = x.mean(over_batch(site), keepdim=True)
    std = ((x - mean).square().mean(over_batch(site), keepdim=True) + eps).sqrt()
    r = (std.detach() / running_std).clamp(1 / r_max, r_max)
    d = ((mean.detach() - running_mean) / running_std).clamp(-d_max, d_max)
    return own.affine((x - mean) / std * r + d)

"""Online norm's forward, sample by sample (Chiley et al. 2019, arXiv 1905.05894, equations 8a-c), and layer scaling.

The gradient is online norm's own, and no derivative of this.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

import normbench
from normbench_plugins.definitions.state import State, over_batch


def online_norm(
    x: Tensor,
    site: normbench.Site,
    state: Mapping[str, Tensor],
    alpha_forward: float,
    eps: float,
    compensation: str,
    clamp: float,
    training: bool,
) -> Tensor:
    """Return E(gamma y + beta), where y is a sample by the mean and variance of those before it."""
    own, keep = State(state, site), alpha_forward
    mean, var = own["running_mean"], own["running_var"]
    outputs = []
    for sample in torch.split(x, 1):
        outputs.append(_compensated(own.affine((sample - mean) / (var + eps).sqrt()), compensation, clamp))
        if training:
            of_sample = sample.mean(over_batch(site), keepdim=True)
            spread = (sample - of_sample).square().mean(over_batch(site), keepdim=True)
            step = of_sample - mean
            var = keep * var + (1 - keep) * spread + keep * (1 - keep) * step.square()
            mean = mean + (1 - keep) * step
    return torch.cat(outputs)


def layer_scaling(x: Tensor, site: normbench.Site, state: Mapping[str, Tensor], eps: float) -> Tensor:
    """Return p / sqrt(mean(p^2) + eps) of p = gamma x + beta, the mean over all features of a sample."""
    return _scaled(State(state, site).affine(x), eps)


def _compensated(p: Tensor, compensation: str, clamp: float) -> Tensor:
    if compensation == "layer-scaling":
        return _scaled(p, 1e-5)
    return p.clamp(-clamp, clamp) if compensation == "clamp" else p


def _scaled(p: Tensor, eps: float) -> Tensor:
    return p / (p.square().flatten(1).mean(1).view(-1, *[1] * (p.dim() - 1)) + eps).sqrt()

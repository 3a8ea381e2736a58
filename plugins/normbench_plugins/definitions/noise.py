"""Noise alone and after batch norm (Santurkar, Tsipras, Ilyas & Madry 2018, arXiv 1805.11604, appendix A).

It is drawn from torch's global generator in the order of the layer: means, scales, then per value shifts and scales.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

import normbench
from normbench_plugins.definitions.batchnorm import batchnorm


def noise(
    x: Tensor,
    site: normbench.Site,
    state: Mapping[str, Tensor],  # noqa: ARG001 - it has none
    form: str,
    per: str,
    shift: float,
    scale: float,
    spread: float,
    mean: float | Sequence[float],
    std: float | Sequence[float],
    training: bool,
) -> Tensor:
    """Return s x + m, or x + m, with m and s drawn per value; in evaluation x."""
    if not training:
        return x
    if form == "additive":
        mean, std = (one[site.index] if isinstance(one, Sequence) else one for one in (mean, std))
        return x + mean + std * torch.randn_like(x)
    shape = [site.channels if axis == "C" and per == "channel" else 1 for axis in site.layout]
    mu = -shift + 2 * shift * torch.rand(shape, dtype=x.dtype)
    sigma = 1 + scale * torch.rand(shape, dtype=x.dtype)
    m = mu + spread * (2 * torch.rand_like(x) - 1)
    s = sigma + spread * torch.randn_like(x)
    return s * x + m


def noisy_batchnorm(
    x: Tensor,
    site: normbench.Site,
    state: Mapping[str, Tensor],
    eps: float,
    evaluation: str,
    form: str,
    per: str,
    shift: float,
    scale: float,
    spread: float,
    mean: float | Sequence[float],
    std: float | Sequence[float],
    training: bool,
) -> Tensor:
    """Return the noisy output of batch norm."""
    normalized = batchnorm(x, site, state, eps, training, evaluation)
    return noise(normalized, site, state, form, per, shift, scale, spread, mean, std, training)

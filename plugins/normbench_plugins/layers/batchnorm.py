"""Batch normalization (Ioffe & Szegedy 2015, arXiv 1502.03167), with torch's layers.

Training: y = gamma (x - mean) / sqrt(var + eps) + beta, with the mean and the biased variance of each channel over the
batch and space. Evaluation uses running averages, of the unbiased variance; `momentum` is the weight of the new batch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

import normbench
from normbench_plugins.layers.affine import add_affine, scaled_and_shifted
from normbench_plugins.layers.moments import moments
from normbench_plugins.layers.rows import at_least_float32
from normbench_plugins.layers.tokens import OverTokens


class OneOfTwo(nn.Module):
    """torch's batch norm with gamma or beta alone: the other is not there, rather than fixed."""

    def __init__(self, built: Any, affine: str) -> None:
        super().__init__()
        self.norm = built
        add_affine(self, built.num_features, affine)
        self.weight: nn.Parameter | None
        self.bias: nn.Parameter | None

    def forward(self, x: Tensor) -> Tensor:
        """Return gamma y, or y + beta, of the batch norm y of x; shapes as torch's."""
        return scaled_and_shifted(self.norm(x), self.weight, self.bias, "NCHW"[: x.dim()])


class Detached(nn.Module):
    """Batch norm whose backward takes the mean and the variance of the batch for constants."""

    def __init__(self, built: Any) -> None:
        super().__init__()
        self.norm = built

    def forward(self, x: Tensor) -> Tensor:
        """Return the batch norm of x; shapes as torch's."""
        norm = self.norm
        if not norm.training:
            evaluated: Tensor = norm(x)
            return evaluated
        over = [0, *range(2, x.dim())]
        with torch.no_grad():
            norm(x)  # moves the running averages
            values = at_least_float32(x)
            mean, var = (one.flatten() for one in moments(values, over))
        gamma, beta = (None if one is None else one.to(values.dtype) for one in (norm.weight, norm.bias))
        return functional.batch_norm(values, mean, var, gamma, beta, training=False, eps=norm.eps).to(x.dtype)


def layer(
    site: normbench.Site,
    eps: float = 1e-5,
    momentum: float = 0.1,
    affine: bool | str = True,
    gamma_init: float = 1.0,
    gamma_std: float = 0.0,
    beta_init: float = 0.0,
    evaluation: str = "running",
    detach: bool = False,
) -> nn.Module:
    """Return batch norm; in NLC over all tokens of the batch.

    `affine` is True for gamma and beta, False for none, "gamma" or "beta" for one alone. Gamma begins as normal numbers
    of the mean `gamma_init` and the standard deviation `gamma_std`, beta at `beta_init`. `evaluation` is by "running"
    averages, or by the "batch" itself. With `detach` no gradient flows through mean and variance; gamma and beta are
    then both there, or none. Raises ValueError for one of them alone.
    """
    kind = nn.BatchNorm2d if site.layout == "NCHW" else nn.BatchNorm1d
    built: nn.Module = kind(
        site.channels,
        eps=eps,
        momentum=momentum,
        affine=affine is True,
        track_running_stats=evaluation == "running",
    )
    if detach:
        if affine not in (True, False):
            raise ValueError(f'affine is "{affine}"; with detach it is true or false')
        whole: nn.Module = Detached(built)
    else:
        whole = OneOfTwo(built, affine) if isinstance(affine, str) else built
    _begin(whole if isinstance(affine, str) else built, affine, gamma_init, gamma_std, beta_init)
    return OverTokens(whole) if site.layout == "NLC" else whole


def no_affine(site: normbench.Site, eps: float = 1e-5, momentum: float = 0.1) -> nn.Module:
    """Return batch norm without gamma and beta."""
    return layer(site, eps, momentum, affine=False)


def _begin(holder: Any, affine: bool | str, gamma_init: float, gamma_std: float, beta_init: float) -> None:
    """Give those of gamma and beta that are there the values that they begin with, where these are not 1 and 0."""
    if affine in (True, "gamma") and (gamma_init, gamma_std) != (1.0, 0.0):
        nn.init.normal_(holder.weight, gamma_init, gamma_std)
    if affine in (True, "beta") and beta_init:
        nn.init.constant_(holder.bias, beta_init)

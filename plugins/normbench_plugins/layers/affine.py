"""Gamma and beta, one of each per channel."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from normbench_plugins.layers.rows import per_channel


def add_affine(module: nn.Module, channels: int, affine: bool | str) -> None:
    """Give a module `weight`, gamma, at 1 and `bias`, beta, at 0, of shape (channels,), or None for either.

    `affine` is True for both, False for none, "gamma" or "beta" for one of them.
    """
    gamma, beta = affine in (True, "gamma"), affine in (True, "beta")
    module.register_parameter("weight", nn.Parameter(torch.ones(channels)) if gamma else None)
    module.register_parameter("bias", nn.Parameter(torch.zeros(channels)) if beta else None)


def scaled_and_shifted(x: Tensor, weight: Tensor | None, bias: Tensor | None, layout: str) -> Tensor:
    """Return gamma x + beta in the type of x, for an x of any layout, without what is None."""
    gamma, beta = (None if one is None else per_channel(one, layout).to(x.dtype) for one in (weight, bias))
    if gamma is not None and beta is not None:
        return torch.addcmul(beta, x, gamma)
    if gamma is not None:
        return x * gamma
    return x if beta is None else x + beta

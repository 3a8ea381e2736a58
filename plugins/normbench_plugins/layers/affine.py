"""Gamma and beta, one of each per channel."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def add_affine(module: nn.Module, channels: int, affine: bool | str) -> None:
    """Give a module `weight`, gamma, at 1 and `bias`, beta, at 0, of shape (channels,), or None for either.

    `affine` is True for both, False for none, "gamma" or "beta" for one of them.
    """
    gamma, beta = affine in (True, "gamma"), affine in (True, "beta")
    module.register_parameter("weight", nn.Parameter(torch.ones(channels)) if gamma else None)
    module.register_parameter("bias", nn.Parameter(torch.zeros(channels)) if beta else None)


def scaled_and_shifted(x: Tensor, weight: Tensor | None, bias: Tensor | None, layout: str) -> Tensor:
    """Return gamma x + beta in the type of x, for an x of any layout, without what is None."""
    if weight is None and bias is None:
        return x
    rows = x.flatten(0, 1) if layout == "NLC" else x
    gamma, beta = (None if one is None else one.to(x.dtype) for one in (weight, bias))
    # Of mean 0 and variance 1, batch norm is that, and has a backward of one pass, where autograd's takes several.
    zero, one = rows.new_zeros(rows.shape[1]), rows.new_ones(rows.shape[1])
    return functional.batch_norm(rows, zero, one, gamma, beta, eps=0.0).view_as(x)

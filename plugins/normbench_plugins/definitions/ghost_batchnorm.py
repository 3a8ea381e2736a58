"""Ghost batch norm (Hoffer, Hubara & Soudry 2017, arXiv 1705.08741, algorithm 1)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

import normbench
from normbench_plugins.definitions.batchnorm import batchnorm


def ghost_batchnorm(
    x: Tensor, site: normbench.Site, state: Mapping[str, Tensor], eps: float, ghost: int, training: bool
) -> Tensor:
    """Return batch norm of one ghost after another, of which the last has what is left over; else of all."""
    parts = []
    while training and len(x) >= 2 * ghost:
        parts.append(batchnorm(x[:ghost], site, state, eps, training))
        x = x[ghost:]
    return torch.cat([*parts, batchnorm(x, site, state, eps, training)])

"""Batch norm (Ioffe & Szegedy 2015, arXiv 1502.03167), and with frozen statistics what it is in evaluation."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

import normbench
from normbench_plugins.definitions.batchnorm import batchnorm


def batchnorm_frozen(
    x: Tensor, site: normbench.Site, state: Mapping[str, Tensor], eps: float, training: bool
) -> Tensor:
    """Return batch norm of the batch in training until the statistics are frozen, else of the running averages."""
    (frozen,) = (value for name, value in state.items() if name.endswith("frozen"))
    return batchnorm(x, site, state, eps, training and not frozen)

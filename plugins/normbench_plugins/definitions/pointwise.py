"""DyT (Zhu et al. 2025, arXiv 2503.10622) and Derf (arXiv 2512.10938): curves of each value alone."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

import normbench
from normbench_plugins.definitions.state import State


def dyt(x: Tensor, site: normbench.Site, state: Mapping[str, Tensor]) -> Tensor:
    """Return gamma tanh(alpha x) + beta."""
    own = State(state, site)
    return own.affine(torch.tanh(own["alpha"] * x))


def derf(x: Tensor, site: normbench.Site, state: Mapping[str, Tensor]) -> Tensor:
    """Return gamma erf(alpha x + s) + beta."""
    own = State(state, site)
    return own.affine(torch.erf(own["alpha"] * x + own["s"]))

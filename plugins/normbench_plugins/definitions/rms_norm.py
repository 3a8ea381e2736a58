"""RMS norm (Zhang & Sennrich 2019, arXiv 1910.07467, equation 4), with eps inside the root."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

import normbench
from normbench_plugins.definitions.state import State, over_sample


def rms_norm(x: Tensor, site: normbench.Site, state: Mapping[str, Tensor], eps: float, over: str) -> Tensor:
    """Return gamma x / sqrt(mean(x^2) + eps), over a sample, or over the channels of a position."""
    return State(state, site).affine(_by_its_square(x, site, eps, over))


def zero_centred(x: Tensor, site: normbench.Site, state: Mapping[str, Tensor], eps: float, over: str) -> Tensor:
    """Return (1 + w) x / sqrt(mean(x^2) + eps)."""
    return _by_its_square(x, site, eps, over) * (1 + State(state, site)["weight"])


def _by_its_square(x: Tensor, site: normbench.Site, eps: float, over: str) -> Tensor:
    return x / (x.square().mean(over_sample(site, over), keepdim=True) + eps).sqrt()

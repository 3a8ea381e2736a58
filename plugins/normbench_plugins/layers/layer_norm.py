"""Layer normalization (Ba, Kiros & Hinton 2016, arXiv 1607.06450), with torch's layers.

The flavour is named because there are several: the mean and the biased variance are taken over channels and space of
one sample, gamma and beta belong to channels (GroupNorm with one group). For tokens (NLC), over a token's channels.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

import normbench


def layer(site: normbench.Site, eps: float = 1e-5) -> nn.Module:
    """Return layer norm over channels and space of a sample, with gamma and beta a channel."""
    if site.layout == "NLC":
        return nn.LayerNorm(site.channels, eps=eps)
    built = nn.GroupNorm(1, site.channels, eps=eps)
    built.register_forward_pre_hook(_contiguous)
    return built


def _contiguous(module: Any, inputs: tuple[Tensor]) -> tuple[Tensor]:  # noqa: ARG001 - a hook's signature
    """Return the input with channels first in memory: of any other torch's CPU kernel takes E[x^2] - E[x]^2."""
    return inputs if inputs[0].is_cuda else (inputs[0].contiguous(),)

"""Group normalization (Wu & He 2018, arXiv 1803.08494), with torch's layer."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn

import normbench
from normbench_plugins.layers.tokens import OverTokens


def layer(site: normbench.Site, groups: int = 8, eps: float = 1e-5, affine: bool = True) -> nn.Module:
    """Return group norm, over channels and space of a sample; for tokens, over the channels of each.

    Raises Unsupported where a group would have one value.
    """
    groups = dividing(groups, site.channels)
    positions = 1 if site.layout == "NLC" else None if site.spatial is None else math.prod(site.spatial)
    if site.channels == groups and (positions == 1 or site.layout == "NC"):
        raise normbench.Unsupported(f"a group has one value: {groups} groups of {site.channels} channels, one position")
    built = group_norm(groups, site.channels, eps=eps, affine=affine)
    return OverTokens(built) if site.layout == "NLC" else built


def dividing(groups: int, channels: int) -> int:
    """Return the largest number of groups, at most `groups`, that divides the channels."""
    return next(number for number in range(min(groups, channels), 0, -1) if channels % number == 0)


def group_norm(groups: int, channels: int, *, eps: float, affine: bool) -> nn.Module:
    """Return torch's layer, given its input in the memory format in which its CPU kernel is exact."""
    built = nn.GroupNorm(groups, channels, eps=eps, affine=affine)
    built.register_forward_pre_hook(_contiguous)
    return built


def _contiguous(module: Any, inputs: tuple[Tensor]) -> tuple[Tensor]:  # noqa: ARG001 - a hook's signature
    """Return the input with channels first in memory: of any other torch's CPU kernel takes E[x^2] - E[x]^2."""
    return inputs if inputs[0].is_cuda else (inputs[0].contiguous(),)

"""Group normalization (Wu & He 2018, arXiv 1803.08494), with torch's layer."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

import normbench
from normbench_plugins.layers.sites import has_one_position
from normbench_plugins.layers.tokens import OverTokens


def layer(site: normbench.Site, groups: int = 8, eps: float = 1e-5, affine: bool = True) -> nn.Module:
    """Return group norm, over channels and space of a sample; for tokens, over the channels of each.

    Raises Unsupported where a group would have one value.
    """
    built = group_norm(groups_at(site, groups), site.channels, eps=eps, affine=affine)
    return OverTokens(built) if site.layout == "NLC" else built


def groups_at(site: normbench.Site, groups: int) -> int:
    """Return the largest number of groups, at most `groups`, that divides a site's channels; tokens are alone each.

    Raises Unsupported where a group would have one value.
    """
    divide = next(number for number in range(min(groups, site.channels), 0, -1) if site.channels % number == 0)
    if divide == site.channels and (site.layout == "NLC" or has_one_position(site)):
        raise normbench.Unsupported(f"a group has one value: {divide} groups of {site.channels} channels, one position")
    return divide


def group_norm(groups: int, channels: int, *, eps: float, affine: bool) -> nn.Module:
    """Return torch's layer, given its input in the memory format in which its CPU kernel is exact."""
    built = nn.GroupNorm(groups, channels, eps=eps, affine=affine)
    built.register_forward_pre_hook(_contiguous)
    return built


def _contiguous(module: Any, inputs: tuple[Tensor]) -> tuple[Tensor]:  # noqa: ARG001 - a hook's signature
    """Return the input with channels first in memory: of any other torch's CPU kernel takes E[x^2] - E[x]^2."""
    return inputs if inputs[0].is_cuda else (inputs[0].contiguous(),)

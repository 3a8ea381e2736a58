"""A layer's state by the short names of its tensors, in the shape of an input's channels."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

import normbench


class State:
    """Reads a layer's parameters and buffers: `weight`, wherever in the layer it stands, as (1, C, 1, 1) for NCHW."""

    def __init__(self, state: Mapping[str, Tensor], site: normbench.Site) -> None:
        self._state = {name.rpartition(".")[2]: value for name, value in state.items()}
        self._shape = [-1 if axis == "C" else 1 for axis in site.layout]

    def __getitem__(self, name: str) -> Tensor:
        """Return a tensor of one value per channel."""
        return self._state[name].double().view(self._shape)

    def affine(self, x: Tensor) -> Tensor:
        """Return gamma x + beta, where there are any."""
        if "weight" in self._state:
            x = x * self["weight"]
        return x + self["bias"] if "bias" in self._state else x


def over_sample(site: normbench.Site, over: str = "sample") -> list[int]:
    """Return the axes of all that belongs to a sample, or, over "channels" and of tokens, to one position."""
    if site.layout == "NLC" or over == "channels":
        return [site.layout.index("C")]
    return list(range(1, len(site.layout)))


def moments(x: Tensor, over: list[int]) -> tuple[Tensor, Tensor]:
    """Return the mean and the biased variance over some axes, which are kept with size 1."""
    mean = x.mean(over, keepdim=True)
    return mean, (x - mean).square().mean(over, keepdim=True)


def standardized(x: Tensor, over: list[int], eps: float) -> Tensor:
    """Return (x - mean) / sqrt(var + eps), with mean and biased variance over some axes."""
    mean, var = moments(x, over)
    return (x - mean) / (var + eps).sqrt()


def in_groups(x: Tensor, site: normbench.Site, groups: int) -> tuple[Tensor, ...]:
    """Return the parts of the channels, as many as divide them, at most `groups`."""
    while site.channels % groups:
        groups -= 1
    return x.chunk(groups, site.layout.index("C"))


def over_batch(site: normbench.Site) -> list[int]:
    """Return the axes of all but the channels: the samples and their positions."""
    return [axis for axis, name in enumerate(site.layout) if name != "C"]

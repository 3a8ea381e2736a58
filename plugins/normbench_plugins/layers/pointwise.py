"""Curves in the place of norms, without statistics: DyT (arXiv 2503.10622) and Derf (arXiv 2512.10938)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import normbench
from normbench_plugins.layers.affine import add_affine, scaled_and_shifted
from normbench_plugins.layers.rows import at_least_float32, check_shape


class DyT(nn.Module):
    """gamma tanh(alpha x) + beta: alpha is one learned number, gamma and beta are one a channel.

    Input and output have the shape that `layout` says. Raises ValueError for an input of another shape.
    """

    weight: nn.Parameter
    bias: nn.Parameter

    def __init__(self, channels: int, layout: str, *, alpha: float) -> None:
        super().__init__()
        self.channels, self.layout = channels, layout
        self.alpha = nn.Parameter(torch.tensor([float(alpha)]))
        add_affine(self, channels, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return the curve's values, in the shape and type of x."""
        check_shape(x, self.layout, self.channels)
        values = self.curve(at_least_float32(x))
        return scaled_and_shifted(values, self.weight, self.bias, self.layout).to(x.dtype)

    def curve(self, x: Tensor) -> Tensor:
        """Return the curve before gamma and beta."""
        return torch.tanh(x * self.alpha)

    def extra_repr(self) -> str:
        """Return what the layer is made for."""
        return f"{self.channels}, layout={self.layout!r}"


class Derf(DyT):
    """gamma erf(alpha x + s) + beta: alpha and s are one learned number each, s begins at 0."""

    def __init__(self, channels: int, layout: str, *, alpha: float) -> None:
        super().__init__(channels, layout, alpha=alpha)
        self.s = nn.Parameter(torch.zeros(1))

    def curve(self, x: Tensor) -> Tensor:
        """Return the curve before gamma and beta."""
        return torch.erf(torch.addcmul(self.s, x, self.alpha))


def dyt(site: normbench.Site, alpha: float = 0.5) -> nn.Module:
    """Return DyT, whose alpha begins at `alpha`."""
    return DyT(site.channels, site.layout, alpha=alpha)


def derf(site: normbench.Site, alpha: float = 0.5) -> nn.Module:
    """Return Derf, whose alpha begins at `alpha`."""
    return Derf(site.channels, site.layout, alpha=alpha)

"""Layer scaling: the compensation of online normalization (Chiley et al. 2019, arXiv 1905.05894), also on its own."""

from __future__ import annotations

from torch import Tensor, nn

import normbench
from normbench_plugins.layers.affine import add_affine, scaled_and_shifted
from normbench_plugins.layers.moments import inverse_rms
from normbench_plugins.layers.rows import at_least_float32, check_shape


def layer_scaled(p: Tensor, eps: float) -> Tensor:
    """Return z = p / sqrt(mean(p^2) + eps), with the mean over all features of a sample: all axes but the first."""
    return p * inverse_rms(p, list(range(1, p.dim())), eps)


class LayerScaling(nn.Module):
    """Layer scaling of p = gamma x + beta, where gamma and beta are one a channel, or of x without `affine`.

    Input and output have the shape that `layout` says: (N, C), (N, C, L), (N, C, H, W) or (N, L, C). The mean square is
    over everything that belongs to a sample, in NLC over all its tokens.

    Raises ValueError for an input of another shape than the layout's.
    """

    weight: nn.Parameter | None
    bias: nn.Parameter | None

    def __init__(self, channels: int, layout: str = "NCHW", *, eps: float = 1e-5, affine: bool = True) -> None:
        super().__init__()
        self.channels, self.layout, self.eps = channels, layout, eps
        add_affine(self, channels, affine)

    def forward(self, x: Tensor) -> Tensor:
        """Return the scaled input, in its shape and dtype."""
        check_shape(x, self.layout, self.channels)
        p = scaled_and_shifted(at_least_float32(x), self.weight, self.bias, self.layout)
        return layer_scaled(p, self.eps).to(x.dtype)

    def extra_repr(self) -> str:
        """Return what the layer is made with."""
        return f"{self.channels}, layout={self.layout!r}, eps={self.eps}, affine={self.weight is not None}"


def layer(site: normbench.Site, eps: float = 1e-5, affine: bool = True) -> nn.Module:
    """Return layer scaling; in NLC over all tokens of a sample, as in online norm."""
    return LayerScaling(site.channels, site.layout, eps=eps, affine=affine)

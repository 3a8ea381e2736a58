"""Filter response normalization with the thresholded linear unit (Singh & Krishnan 2019, arXiv 1911.09737)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import normbench
from normbench_plugins.layers.affine import add_affine
from normbench_plugins.layers.moments import inverse_rms
from normbench_plugins.layers.rows import at_least_float32, check_shape, per_channel
from normbench_plugins.layers.sites import has_activation, has_one_position

#: What a learned eps begins at, above its least value.
LEARNED_EPS = 1e-4


class FilterResponseNorm(nn.Module):
    """max(gamma x / sqrt(mean(x^2) + eps) + beta, tau), the mean over the space of each channel of a sample.

    Input and output have the shape that `layout` says: (N, C), (N, C, L), (N, C, H, W) or (N, L, C), whose tokens are
    its space. gamma, beta and tau, one per channel, begin at 1, 0 and 0; without `threshold` there is no tau and no
    maximum. With `learned` eps is eps + |e|, where e is one learned number that begins at 1e-4.

    Raises ValueError for an input of another shape than the layout's, and for one value per channel of a sample unless
    eps is learned: with a small eps the output would be the sign of x, through which no gradient passes.
    """

    weight: nn.Parameter
    bias: nn.Parameter

    def __init__(self, channels: int, layout: str, *, eps: float, learned: bool, threshold: bool) -> None:
        super().__init__()
        self.channels, self.layout, self.eps = channels, layout, eps
        self.space = [axis for axis, name in enumerate(layout) if name not in "NC"]
        add_affine(self, channels, affine=True)
        self.tau = nn.Parameter(torch.zeros(channels)) if threshold else None
        self.learned_eps = nn.Parameter(torch.full((1,), LEARNED_EPS)) if learned else None

    def forward(self, x: Tensor) -> Tensor:
        """Return the output, in the input's shape and type."""
        check_shape(x, self.layout, self.channels)
        if self.learned_eps is None and 0 < x.numel() == len(x) * self.channels:
            raise ValueError(f"with one value per channel of a sample eps is to be learned; got {tuple(x.shape)}")
        values = at_least_float32(x)
        eps = self.eps if self.learned_eps is None else self.eps + self.learned_eps.abs()
        inverse = inverse_rms(values, self.space, eps) if self.space else torch.rsqrt(values.square() + eps)
        gain, bias = inverse * per_channel(self.weight, self.layout), self.bias
        if self.tau is None:
            return torch.addcmul(per_channel(bias, self.layout), values, gain).to(x.dtype)
        # max(y, tau) = relu(y - tau) + tau: on a CPU the backward of torch.maximum takes several times as long.
        above = torch.addcmul(per_channel(bias - self.tau, self.layout), values, gain).relu_()
        return (above + per_channel(self.tau, self.layout)).to(x.dtype)

    def extra_repr(self) -> str:
        """Return what the layer is made with."""
        return f"{self.channels}, layout={self.layout!r}, eps={self.eps}, threshold={self.tau is not None}"


def layer(site: normbench.Site, eps: float = 1e-6, learned_eps: bool = False) -> nn.Module:
    """Return FRN with TLU in the place of relu; at a site without an activation, FRN alone.

    Where each channel of a sample has one value eps is learned in any case, as in the paper.
    """
    threshold = has_activation(site, "relu")
    learned = learned_eps or has_one_position(site)
    return FilterResponseNorm(site.channels, site.layout, eps=eps, learned=learned, threshold=threshold)

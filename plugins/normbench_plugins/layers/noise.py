"""Noise on activations, after batch norm and alone (Santurkar, Tsipras, Ilyas & Madry 2018, arXiv 1805.11604)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

import normbench
from normbench_plugins.layers import batchnorm
from normbench_plugins.layers.rows import at_least_float32, check_shape, per_channel


class Noise(nn.Module):
    """Adds noise to an input in training, and returns it as it is in evaluation.

    Input and output have the shape that `layout` says. With the form "scale-and-shift" each value x becomes s x + m:

        in each forward, for each channel (`per` is "channel") or for all of them ("layer"):
            mu ~ uniform(-shift, shift)             sigma ~ uniform(1, 1 + scale)
        for each value:
            m ~ uniform(mu - spread, mu + spread)   s ~ normal(sigma, spread), of this standard deviation

    With the form "additive" it becomes x + m, with m ~ normal(mean, std). Numbers are drawn from torch's generator of
    the input's device, in float32 where the input is in half precision, and no gradient flows through them. Raises
    ValueError for an input of another shape than the layout's.
    """

    def __init__(
        self,
        channels: int,
        layout: str,
        *,
        form: str,
        per: str,
        shift: float,
        scale: float,
        spread: float,
        mean: float,
        std: float,
    ) -> None:
        super().__init__()
        self.channels, self.layout = channels, layout
        self.form, self.per = form, per
        self.shift, self.scale, self.spread = shift, scale, spread
        self.mean, self.std = mean, std

    def forward(self, x: Tensor) -> Tensor:
        """Return the noisy input, in its shape and type."""
        check_shape(x, self.layout, self.channels)
        if not self.training:
            return x
        values = at_least_float32(x)
        if self.form == "additive":
            return (values + torch.randn_like(values).mul_(self.std).add_(self.mean)).to(x.dtype)
        mu = self.shift * (2 * self._uniform(values) - 1)
        sigma = 1 + self.scale * self._uniform(values)
        # In place, and not addcmul, whose backward takes a pass more: memory is what the arithmetic costs.
        m = torch.rand_like(values).mul_(2 * self.spread).add_(mu - self.spread)
        s = torch.randn_like(values).mul_(self.spread).add_(sigma)
        return (values * s).add_(m).to(x.dtype)

    def _uniform(self, like: Tensor) -> Tensor:
        """Return numbers from 0 to 1, one per distribution, in a shape that broadcasts against an input."""
        drawn = torch.rand(self.channels if self.per == "channel" else 1, dtype=like.dtype, device=like.device)
        return per_channel(drawn, self.layout)

    def extra_repr(self) -> str:
        """Return what the layer is made with."""
        if self.form == "additive":
            return f"{self.channels}, layout={self.layout!r}, form={self.form!r}, mean={self.mean}, std={self.std}"
        ranges = f"shift={self.shift}, scale={self.scale}, spread={self.spread}"
        return f"{self.channels}, layout={self.layout!r}, form={self.form!r}, per={self.per!r}, {ranges}"


def noise(
    site: normbench.Site,
    form: str = "scale-and-shift",
    per: str = "channel",
    shift: float = 0.5,
    scale: float = 0.25,
    spread: float = 0.1,
    mean: float | Sequence[float] = 0.15,
    std: float | Sequence[float] = 0.3,
) -> nn.Module:
    """Return the noise alone, without a norm.

    `mean` and `std` are one number for all sites of the network, or one for each, in their order. Raises ValueError for
    another count of numbers than of sites.
    """
    ranges = {"shift": shift, "scale": scale, "spread": spread, "mean": _at(site, "mean", mean)}
    return Noise(site.channels, site.layout, form=form, per=per, **ranges, std=_at(site, "std", std))


def noisy_batchnorm(
    site: normbench.Site,
    eps: float = 1e-5,
    momentum: float = 0.1,
    gamma_init: float = 1.0,
    gamma_std: float = 0.0,
    evaluation: str = "running",
    form: str = "scale-and-shift",
    per: str = "channel",
    shift: float = 0.5,
    scale: float = 0.25,
    spread: float = 0.1,
    mean: float | Sequence[float] = 0.15,
    std: float | Sequence[float] = 0.3,
) -> nn.Module:
    """Return batch norm with gamma and beta, and the noise after these."""
    norm = batchnorm.layer(site, eps, momentum, gamma_init=gamma_init, gamma_std=gamma_std, evaluation=evaluation)
    # Modules of their own: who puts batch norm alone into training mode, to take its averages anew, gets no noise.
    return nn.Sequential(norm, noise(site, form, per, shift, scale, spread, mean, std))


def _at(site: normbench.Site, name: str, value: float | Sequence[float]) -> float:
    """Return a site's own number."""
    if not isinstance(value, Sequence):
        return value
    sites = site.sites or 1  # a layer outside of a network stands at one
    if len(value) != sites:
        raise ValueError(f"{name} has {len(value)} numbers; it is one number, or one for each of the {sites} sites")
    return value[site.index]

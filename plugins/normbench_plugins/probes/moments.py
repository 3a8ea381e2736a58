"""Moments and percentiles of what goes into activations or norms, or of what linears give, and how they change.

Santurkar et al. 2018 (arXiv 1805.11604) and Ioffe & Szegedy 2015 (arXiv 1502.03167, figure 1b, c) draw them against the
step: the change of a layer's distribution is what batch norm was first said to reduce.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import normbench
from normbench_plugins.watching import but_channels, by_site, watched

if TYPE_CHECKING:
    from torch import Tensor, nn

#: The percentiles that Ioffe & Szegedy 2015 draw.
PERCENTILES = (15, 50, 85)
_NOW = ("mean", "std", "variance", *(f"p{percentile}" for percentile in PERCENTILES))
_CHANGES = ("mean_change", "variance_change")
_NOTHING = {
    "activation": "activation outside of the norms",
    "norm": "norm that wraps no linear",
    "linear": "linear or convolution before a norm",
}


class Moments:
    """Gives moments and percentiles of a step's batch per site, before the step is taken."""

    def __init__(self, training: Any, every: int = 10, at: str = "activation") -> None:  # noqa: ARG002 - the host's
        """Find what to watch. Raises Unsupported where there is nothing of the kind."""
        linears = [(linear.site, linear.module) for linear in training.linears if linear.site is not None]
        wrapped = {linear.module for linear in training.linears}
        norms = [(site, module) for site, module in training.sites if wrapped.isdisjoint(module.modules())]
        self._watched = {"activation": training.activations, "norm": norms, "linear": linears}[at]
        if not self._watched:
            raise normbench.Unsupported(f"the network has no {_NOTHING[at]}")
        self._training, self._inputs = training, at != "linear"
        #: Mean and variance of each channel at the last look, (2, C), by site.
        self._before: dict[int, Tensor] = {}

    def on_step(self, step: int) -> dict[str, list[float]]:  # noqa: ARG002 - the host counts
        """Return the series, each with a number per site; the changes from the second look on."""
        sites = len(self._training.sites)
        found = watched(self._training, self._watched, _measured, inputs=self._inputs)
        now = {site: moments for site, (moments, _) in found.items()}
        series = by_site(_NOW, sites, {site: numbers for site, (_, numbers) in found.items()})
        if self._before:
            both = now.keys() & self._before.keys()
            changes = {site: (now[site] - self._before[site]).abs().mean(1) for site in both}
            series |= by_site(_CHANGES, sites, changes)
        self._before |= now
        return series

    def state_dict(self) -> dict[str, Any]:
        """Return the moments of the last look."""
        return {"before": self._before}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self._before = dict(state["before"])


def _measured(site: normbench.Site, _: nn.Module, values: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance of each channel, (2, C), and the numbers of `_NOW`, in double precision."""
    import torch

    exact, others = values.double(), but_channels(site, values)
    means = exact.mean(others, keepdim=True)
    variances = (exact - means).square_().mean(others)  # var() is several times slower
    moments = torch.stack([means.flatten(), variances]).cpu()
    mean, variance = moments.mean(1)
    # All channels have equally many values.
    std = (variance + moments[0].var(correction=0)).sqrt()
    return moments, torch.cat([torch.stack([mean, std, variance]), _percentiles(values)])


def _percentiles(values: Tensor) -> Tensor:
    """Return the percentiles of all values, interpolated linearly, in double precision."""
    import numpy as np
    import torch

    values = values.flatten()
    if values.device.type == "cpu":  # where torch sorts many times slower
        values = torch.from_numpy(np.sort((values if values.dtype == torch.double else values.float()).numpy()))
    else:
        values = values.sort().values
    at = (len(values) - 1) * torch.tensor(PERCENTILES, dtype=torch.float64) / 100
    below, above = (values[index.long().to(values.device)].double().cpu() for index in (at.floor(), at.ceil()))
    return torch.lerp(below, above, at - at.floor())


PROBES = [
    normbench.Probe(
        "moments",
        "normbench_plugins.probes.moments:Moments",
        summary="Per site: mean, variance and percentiles of what goes into the activation, and their change",
        params={"every": 10, "at": "activation"},
        types={"at": Literal["activation", "norm", "linear"]},
    )
]

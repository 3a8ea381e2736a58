"""How much of what activations give is no longer active: units that are off for the whole batch, zeros, saturation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import normbench
from normbench_plugins.watching import but_channels, by_site, watched

if TYPE_CHECKING:
    from torch import Tensor, nn

#: A sigmoid or tanh is saturated beyond this share of its range about the middle.
SATURATED = 0.95


class Activity:
    """Gives shares of channels and of values that are not active, per site, on a step's batch."""

    def __init__(self, training: Any, every: int = 10) -> None:  # noqa: ARG002 - the host's
        """Find the activations. Raises Unsupported where there is none outside of the norms."""
        from torch import nn

        if not training.activations:
            raise normbench.Unsupported("the network has no activation outside of the norms")
        self._training = training
        self._saturates = any(isinstance(module, nn.Sigmoid | nn.Tanh) for _, module in training.activations)

    def on_step(self, step: int) -> dict[str, list[float]]:  # noqa: ARG002 - the host counts
        """Return the series, each with a number per site."""
        found = watched(self._training, self._training.activations, _shares)
        series = by_site(("never_active", "zeros", "saturated"), len(self._training.sites), found)
        if not self._saturates:
            del series["saturated"]
        return series


def _shares(site: normbench.Site, module: nn.Module, output: Tensor) -> list[float]:
    """Return the shares of channels never active, of values that are zero, and of values that are saturated."""
    from torch import nn

    saturated = float("nan")
    if isinstance(module, nn.Sigmoid | nn.Tanh):
        about_0 = 2 * output - 1 if isinstance(module, nn.Sigmoid) else output
        saturated = (about_0.abs() > SATURATED).double().mean().item()
    largest = output.amax(but_channels(site, output))
    return [(largest <= 0).double().mean().item(), (output == 0).double().mean().item(), saturated]


PROBES = [
    normbench.Probe(
        "activity",
        "normbench_plugins.probes.activity:Activity",
        summary="Per site: share of channels that are never active on the batch, of zeros, of saturated values",
        params={"every": 10},
    )
]

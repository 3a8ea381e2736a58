"""The length of all weights: with a norm behind them, steps at a high rate make it grow, which tames the rate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import normbench

if TYPE_CHECKING:
    from torch import Tensor, nn


class WeightNorm:
    """Gives the Euclidean norm of all weights of linears and convolutions, taken together."""

    def __init__(self, network: nn.Module) -> None:
        self._weights = [weight for weight in network.parameters() if weight.dim() > 1]

    def on_epoch(self, epoch: int) -> Mapping[str, Tensor]:  # noqa: ARG002 - the same after every epoch
        """Return the series `weight_norm`."""
        import torch

        lengths = torch.stack([weight.detach().norm() for weight in self._weights])
        return {"weight_norm": lengths.norm()}


PROBES = [
    normbench.Probe(
        "weight-norm",
        "normbench_plugins.probes.weight_norm:WeightNorm",
        summary="Length of the weights of all linears and convolutions, after each epoch",
    )
]

"""What the probes of an optimizer step share: the weights before it and after it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


class StepWeights:
    """Keeps the weights of a step from `on_step` to `after_step`, and no longer.

    `weights` are the network's parameters in its order.
    """

    def __init__(self, training: Any) -> None:
        self.training = training
        self.weights: list[Tensor] = list(training.network.parameters())
        self._before: list[Tensor] = []

    def on_step(self, step: int) -> None:  # noqa: ARG002 - as all of a probe's methods
        """Keep the weights; no checkpoint is taken before `after_step`."""
        self._before = copies(self.weights)

    def let_go(self) -> list[Tensor]:
        """Return the weights before the step, which are kept no longer."""
        before, self._before = self._before, []
        return before


def copies(weights: Sequence[Tensor]) -> list[Tensor]:
    """Return the values of weights."""
    return [weight.detach().clone() for weight in weights]


def put(values: Sequence[Tensor], weights: Sequence[Tensor]) -> None:
    """Give weights these values."""
    for weight, value in zip(weights, values, strict=True):
        weight.detach().copy_(value)

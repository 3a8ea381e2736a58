"""The methods that the modules of a network may have beside `forward`: see "A layer's own clock" in docs/plugins.md."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def having(network: nn.Module, method: str) -> list[Any]:
    """Return the modules of a network that have a method, the outer before the inner."""
    return [module for module in network.modules() if callable(getattr(module, method, None))]


class Methods:
    """Calls them, on all modules that have them; these are found once, so that no step looks for them."""

    def __init__(self, network: nn.Module) -> None:
        self._on_step = [module.on_step for module in having(network, "on_step")]
        self._after_step = [module.after_step for module in having(network, "after_step")]
        self._before_evaluation = [module.before_evaluation for module in having(network, "before_evaluation")]
        self._with_loss = having(network, "own_loss")

    def on_step(self, step: int, steps: int) -> None:
        """Tell which step of how many begins, counted from 0."""
        for on_step in self._on_step:
            on_step(step, steps)

    def after_step(self, step: int, steps: int) -> None:
        """Tell that the optimizer has taken a step."""
        for after_step in self._after_step:
            with torch.no_grad():
                after_step(step, steps)

    def before_evaluation(self) -> None:
        """Tell that the network is about to leave training mode."""
        for before_evaluation in self._before_evaluation:
            with torch.no_grad():
                before_evaluation()

    def with_own_losses(self, loss: Tensor) -> Tensor:
        """Return a loss with what layers add to it. Raises TypeError or ValueError where that can't be added."""
        for module in self._with_loss:
            own, what = module.own_loss(), f"{type(module).__name__}.own_loss returned"
            if not isinstance(own, Tensor):
                raise TypeError(f"{what} {own!r}; it returns a tensor, a scalar")
            if own.dim():
                raise ValueError(f"{what} the shape {tuple(own.shape)}; it returns a scalar, of shape ()")
            if not own.requires_grad:
                raise ValueError(
                    f"{what} a number without a gradient; compute it from weights, or from forward's input"
                )
            loss = loss + own
        return loss

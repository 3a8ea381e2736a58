"""Lengths of weights and gradients, and the rate that the direction of the weights sees.

Where rescaling a weight changes nothing, its gradient is orthogonal to it, so that steps make it grow, and a step turns
it by about rate / |w|^2 times the gradient at length 1 (van Laarhoven 2017, arXiv 1706.05350; Hoffer et al. 2018, arXiv
1803.01814).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import normbench

if TYPE_CHECKING:
    from torch import Tensor


class Gradients:
    """Gives lengths and angles per linear or convolution, when the gradients of a step are there."""

    def __init__(self, training: Any, every: int = 10) -> None:  # noqa: ARG002 - the host's
        """Find the linears. Raises Unsupported where there is none."""
        if not training.linears:
            raise normbench.Unsupported("the network has no linear or convolution")
        self._training = training
        self._invariant = [linear.scale_invariant for linear in training.linears]

    def on_step(self, step: int) -> dict[str, Any]:  # noqa: ARG002 - the host counts
        """Return `all_weights`, a number, and the other series, each with a number per linear."""
        import torch

        measured = torch.stack([_measured(linear.weight) for linear in self._training.linears]).cpu()
        weight, gradient, angle = measured.unbind(1)
        series = {"gradient": gradient, "weight": weight, "angle": angle, "all_weights": weight.norm()}
        if any(self._invariant):
            effective = self._training.rate / weight.square()
            series["effective_rate"] = effective.where(torch.tensor(self._invariant), math.nan)
        return series


def _measured(weight: Any) -> Tensor:
    """Return the lengths of a weight and of its gradient, and the angle between them in degrees, double precision.

    Without a gradient both are NaN.
    """
    import torch

    weight, gradient = weight.detach().double(), weight.grad
    gradient = torch.full_like(weight, math.nan) if gradient is None else gradient.double()
    weight_length, gradient_length = weight.norm(), gradient.norm()
    cosine = (weight * gradient).sum() / (weight_length * gradient_length)
    return torch.stack([weight_length, gradient_length, cosine.clamp(-1, 1).acos().rad2deg()])


PROBES = [
    normbench.Probe(
        "gradients",
        "normbench_plugins.probes.gradients:Gradients",
        summary="Per linear: lengths of weight and gradient, the angle between them, the effective rate",
        params={"every": 10},
    )
]

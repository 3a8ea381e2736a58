"""How loss and gradient change along the gradient (Santurkar, Tsipras, Ilyas & Madry 2018, arXiv 1805.11604).

At w - eta g, with g the gradient of the loss at the weights w and several eta, the paper looks at the loss (figure 4a),
at |g(w) - g(w - eta g)|, "gradient predictiveness" (4b), and at the largest

    beta = |g(w) - g(w - eta g)| / |eta g|,

the "effective" beta-smoothness (4c).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import normbench
from normbench_plugins.limits import Reach

if TYPE_CHECKING:
    from torch import Tensor


class Smoothness:
    """Measures the batch of a step at w - eta g, with eta = `reach` times the rate, before the step is taken.

    The gradient g is computed anew: that of the very loss which is measured, where a step adds up several. At each
    point the batch's statistics are taken anew, and the same random numbers are drawn.
    """

    def __init__(
        self,
        training: Any,
        every: int = 10,  # noqa: ARG002 - the host counts it
        reach: Sequence[float] = (0.5, 1, 2, 4),
    ) -> None:
        self._training, self._reach = training, reach

    def on_step(self, step: int) -> dict[str, Tensor]:  # noqa: ARG002 - the same at every step
        """Return the series, a number each; what is not finite counts as inf."""
        import torch

        etas = [reach * self._training.rate for reach in self._reach]
        with self._training.untouched():
            weights = [weight for weight in self._training.network.parameters() if weight.requires_grad]
            start = [weight.detach().clone() for weight in weights]
            loss, gradient = self._measured(weights)
            losses, changes = [], []
            for eta in etas:
                with torch.no_grad():
                    for weight, begun, along in zip(weights, start, gradient, strict=True):
                        torch.sub(begun, along, alpha=eta, out=weight)
                moved_loss, moved_gradient = self._measured(weights)
                losses.append(moved_loss)
                changes.append(length(torch._foreach_sub(gradient, moved_gradient)))
        beta = effective_beta(changes, length(gradient), etas)
        loss_low, loss_high = torch.aminmax(or_inf(torch.stack(losses)))
        gradient_low, gradient_high = torch.aminmax(or_inf(torch.stack(changes)))
        return {
            "loss": or_inf(loss),
            "loss_low": loss_low,
            "loss_high": loss_high,
            "gradient_low": gradient_low,
            "gradient_high": gradient_high,
            "beta": beta,
            "relative_beta": or_inf(beta * length(start).square()),
        }

    def _measured(self, weights: Sequence[Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the loss of the batch where the weights stand, and its gradient."""
        import torch

        loss = self._training.loss()
        return loss.detach(), torch.autograd.grad(loss, weights, materialize_grads=True)


def length(tensors: Iterable[Tensor]) -> Tensor:
    """Return the Euclidean norm of all numbers together, in double precision, where squares do not overflow."""
    import torch

    lengths = torch.stack([torch.linalg.vector_norm(one, dtype=torch.float64) for one in tensors])
    together: Tensor = torch.linalg.vector_norm(lengths)
    return together


def effective_beta(changes: Sequence[Tensor], gradient: Tensor, etas: Sequence[float]) -> Tensor:
    """Return the largest change of a gradient per distance eta |g|, given its length |g|; 0 where it is 0."""
    import torch

    distances = gradient * torch.tensor(etas, dtype=gradient.dtype, device=gradient.device)
    return or_inf((torch.stack(list(changes)) / distances).where(distances != 0, 0.0)).max()


def or_inf(values: Tensor) -> Tensor:
    """Return values with inf for each that is NaN, which no smallest or largest would be."""
    return values.nan_to_num(nan=math.inf, posinf=math.inf, neginf=-math.inf)


PROBES = [
    normbench.Probe(
        "smoothness",
        "normbench_plugins.probes.smoothness:Smoothness",
        summary="How the loss and its gradient change along the gradient, and the effective beta-smoothness",
        params={"every": 10, "reach": (0.5, 1.0, 2.0, 4.0)},
        types={"reach": Reach},
    )
]

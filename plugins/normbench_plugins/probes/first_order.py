"""How much of what an optimizer step does to the loss its gradient predicts: the higher-order part is the rest.

Where each layer's update is right only as long as the others stand still, the change of the loss is not the one that
the gradient predicts (Goodfellow, Bengio & Courville 2016, Deep Learning, section 8.7.1).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import normbench
from normbench_plugins.step_weights import StepWeights, put


class FirstOrder(StepWeights):
    """Compares the change of the batch's loss over the optimizer's step with what its gradient predicts.

    Both losses and the gradient are of the same batch and the same random draws, with the batch's statistics anew. The
    weights move as the optimizer moved them, with momentum and weight decay.
    """

    def __init__(self, training: Any, every: int = 10) -> None:  # noqa: ARG002 - the host counts it
        super().__init__(training)

    def after_step(self, step: int) -> Mapping[str, float]:  # noqa: ARG002 - the same at every step
        """Return the series `actual`, `predicted` and `ratio`, numbers; the ratio is NaN where 0 is predicted."""
        import torch

        before = self.let_go()
        with self.training.untouched():
            moved = [weight.detach() - was for weight, was in zip(self.weights, before, strict=True)]
            with torch.no_grad():
                after = self.training.loss().item()
            put(before, self.weights)
            loss = self.training.loss()
            learning = [(weight, by) for weight, by in zip(self.weights, moved, strict=True) if weight.requires_grad]
            gradients = torch.autograd.grad(loss, [weight for weight, _ in learning], materialize_grads=True)
        parts = [
            (gradient * by).sum(dtype=torch.float64) for gradient, (_, by) in zip(gradients, learning, strict=True)
        ]
        actual, predicted = after - loss.item(), torch.stack(parts).sum().item()
        return {"actual": actual, "predicted": predicted, "ratio": actual / predicted if predicted else float("nan")}


PROBES = [
    normbench.Probe(
        "first-order",
        "normbench_plugins.probes.first_order:FirstOrder",
        summary="Change of the loss over a step, and what its gradient predicts",
        params={"every": 10},
    )
]

"""Internal covariate shift as Santurkar et al. (2018, arXiv 1805.11604, definition 2.1) measure it, by gradients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import normbench
from normbench_plugins.step_weights import StepWeights, copies, put

if TYPE_CHECKING:
    from torch import Tensor


class Shift(StepWeights):
    """Compares, for each linear, the gradient G of its weight with G', the one once the layers below have stepped.

    G is the gradient of the batch's loss at the weights of the step. For G' all parameters below the linear stand where
    the optimizer took them, with momentum and weight decay, and all others where they were. Below a linear is every
    parameter before its own, in the order of the network's parameters; in a residual network too. Both gradients are of
    the same batch and the same random draws, with the batch's statistics anew.
    """

    def __init__(self, training: Any, every: int = 10) -> None:  # noqa: ARG002 - the host counts it
        super().__init__(training)
        order = {id(weight): index for index, weight in enumerate(self.weights)}
        #: Each linear's weight, and how many parameters are below it.
        self._linears: list[tuple[Tensor, int]] = [
            (linear.weight, min(order[id(own)] for own in linear.module.parameters())) for linear in training.linears
        ]

    def after_step(self, step: int) -> Mapping[str, Tensor]:  # noqa: ARG002 - the same at every step
        """Return the series `distance`, |G - G'|, `cosine` of the two, and `gradient`, |G|; a number per linear.

        A cosine with a gradient of 0 is NaN.
        """
        import torch

        with self.training.untouched():
            rows = [
                torch.stack([(here - there).norm(), (here * there).sum() / (here.norm() * there.norm()), here.norm()])
                for here, there in self._gradients()
            ]
        distance, cosine, gradient = torch.stack(rows, dim=1)
        return {"distance": distance, "cosine": cosine, "gradient": gradient}

    def _gradients(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield G and G' of each linear in double precision."""
        import torch

        loss, after = self.training.loss, copies(self.weights)
        put(self.let_go(), self.weights)
        linears = [weight.requires_grad_() for weight, _ in self._linears]  # also one that does not learn
        at_step = torch.autograd.grad(loss(), linears, materialize_grads=True)
        for (weight, below), here in zip(self._linears, at_step, strict=True):
            put(after[:below], self.weights[:below])
            # With nothing below, the gradient is the one that is there.
            there = torch.autograd.grad(loss(), weight, materialize_grads=True)[0] if below else here
            yield here.double(), there.double()


PROBES = [
    normbench.Probe(
        "shift",
        "normbench_plugins.probes.shift:Shift",
        summary="How far the step of the layers below turns a layer's gradient: internal covariate shift",
        params={"every": 10},
    )
]

"""What norms by statistics of the batch share: gamma and beta, running averages, and the type to compute in."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from normbench_plugins.layers.affine import add_affine
from normbench_plugins.layers.state import Float32State


class OverBatch(Float32State):
    """A norm of inputs (N, C), (N, C, L) or (N, C, H, W) by statistics of each channel over the batch and space.

    In training it computes `train_on`, which moves the running averages by the share `momentum`; in evaluation
    `evaluate`, which is batch norm by them. Both compute in the type of the averages, which is never half precision. A
    batch without a sample moves nothing. `spread` is the name of the average beside `running_mean`; it begins at 1.
    """

    weight: Tensor | None
    bias: Tensor | None
    running_mean: Tensor
    running_var: Tensor

    def __init__(
        self, channels: int, *, eps: float, momentum: float, affine: bool, spread: str = "running_var"
    ) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        add_affine(self, channels, affine)
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer(spread, torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Return x normalized, with its shape, type and memory format."""
        values = x.to(self.running_mean.dtype)
        return (self.train_on(values) if self.training and x.numel() else self.evaluate(values)).to(x.dtype)

    def train_on(self, x: Tensor) -> Tensor:
        """Return a batch of training normalized, and move the running averages."""
        raise NotImplementedError

    def evaluate(self, x: Tensor) -> Tensor:
        """Return x normalized by the running averages."""
        return functional.batch_norm(x, self.running_mean, self.running_var, *self.affine(x), eps=self.eps)

    def affine(self, x: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Return gamma and beta in the type of x, or None for what is not there."""
        gamma, beta = (None if one is None else one.to(x.dtype) for one in (self.weight, self.bias))
        return gamma, beta

"""Means, variances and mean squares over several axes.

Variances take two passes, so that a large mean takes no digits from them.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor


class Moments(torch.autograd.Function):
    """The mean and the biased variance over some axes, which are kept with size 1.

    The gradient, gm / n + 2 gv (x - mean) / n over n values, is what autograd would find, in fewer passes over x.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, over: list[int]) -> tuple[Tensor, Tensor]:
        """Return the mean and the variance."""
        if x.is_cuda:
            var, mean = torch.var_mean(x, over, correction=0, keepdim=True)
            return mean, var
        # var_mean reads x once, but on a CPU takes several times as long as this.
        mean = x.mean(over, keepdim=True)
        centred = x - mean
        return mean, centred.mul_(centred).mean(over, keepdim=True)  # not square_, which vmap computes lane by lane

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, list[int]], output: tuple[Tensor, Tensor]) -> None:
        """Keep what the gradient needs."""
        x, over = inputs
        ctx.save_for_backward(x, output[0])
        ctx.count = math.prod([x.shape[axis] for axis in over])  # a list: torch.compile takes no generator

    @staticmethod
    def backward(ctx: Any, of_mean: Tensor, of_var: Tensor) -> tuple[Tensor, None]:
        """Return the gradient of x."""
        x, mean = ctx.saved_tensors
        return torch.addcmul(of_mean / ctx.count, x - mean, of_var * 2 / ctx.count), None


def moments(x: Tensor, over: list[int]) -> tuple[Tensor, Tensor]:
    """Return the mean and the biased variance over some axes, which are kept with size 1. Gradients pass both."""
    # Where nothing is to be kept for a gradient, a call of the function itself takes a fraction of the time.
    mean, var = (Moments.apply if torch.is_grad_enabled() else Moments.forward)(x, over)
    return mean, var


class MeanSquare(torch.autograd.Function):
    """The mean of x^2 over some axes, which are kept with size 1. Its gradient, 2 g x / n, is autograd's.

    No tensor of squares is made, and where squares overflow a gradient of 0 stays 0, unlike that of vector_norm.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, over: list[int]) -> Tensor:
        """Return the mean square."""
        norm: Tensor = torch.linalg.vector_norm(x, dim=over, keepdim=True)
        return norm.square() * (norm.numel() / max(x.numel(), 1))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, list[int]], output: Tensor) -> None:
        """Keep what the gradient needs."""
        x, _ = inputs
        ctx.save_for_backward(x)
        ctx.share = output.numel() / max(x.numel(), 1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """Return the gradient of x."""
        (x,) = ctx.saved_tensors
        gradient: Tensor = x * (grad * (2 * ctx.share))
        return gradient, None


def inverse_rms(x: Tensor, over: list[int], eps: float | Tensor) -> Tensor:
    """Return 1 / sqrt(mean(x^2) + eps) over some axes, which are kept with size 1. Gradients pass."""
    square: Tensor = (MeanSquare.apply if torch.is_grad_enabled() else MeanSquare.forward)(x, over)
    return torch.rsqrt(square + eps)

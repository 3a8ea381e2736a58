"""Means and variances over several axes: in two passes, so that a large mean takes no digits from the variance."""

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
    mean, var = Moments.apply(x, over)
    return mean, var

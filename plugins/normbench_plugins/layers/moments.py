"""Means and variances over several axes: in two passes, so that a large mean takes no digits from the variance."""

from __future__ import annotations

import torch
from torch import Tensor


def moments(x: Tensor, over: list[int]) -> tuple[Tensor, Tensor]:
    """Return the mean and the biased variance over some axes, which are kept with size 1. Gradients pass both."""
    if x.is_cuda:
        var, mean = torch.var_mean(x, over, correction=0, keepdim=True)
        return mean, var
    # var_mean reads x once, but on a CPU takes several times as long as this.
    mean = x.mean(over, keepdim=True)
    return mean, (x - mean).square().mean(over, keepdim=True)

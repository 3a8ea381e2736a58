"""A recipe's optimizer, and what its schedule makes of the rate."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from normbench.recipe import Recipe

#: One cycle (Smith & Topin 2018, arXiv 1708.07120, as torch's OneCycleLR has it): the share of the run in which the
#: rate rises, the factor it begins at, and the one it ends at; both ways along half a cosine.
RISE, FIRST, LAST = 0.3, 1 / 25, 1 / 25 / 1e4


def optimizer(network: nn.Module, norms: Iterable[nn.Module], recipe: Recipe) -> torch.optim.Optimizer:
    """Return a recipe's optimizer of a network. `norms` are the network's norms, whose parameters it may spare."""
    groups = _groups(network, norms, recipe)
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=recipe.rate, momentum=recipe.momentum)
    if recipe.optimizer == "adam":
        return torch.optim.Adam(groups, lr=recipe.rate)
    return torch.optim.AdamW(groups, lr=recipe.rate)


def multiplier(recipe: Recipe, step: int, steps: int) -> float:
    """Return what the rate is multiplied by at a step, counted from 0, of a run of `steps`."""
    if recipe.schedule == "steps":
        # 0.55 x 100 is above 55 in floating point; 55 / 100 is 0.55.
        return recipe.milestone_factor ** sum(step / steps >= milestone for milestone in recipe.milestones)
    if recipe.schedule == "cosine":
        return _between(1.0, 0.0, step / steps)
    if recipe.schedule == "one-cycle":
        top = RISE * steps - 1
        if step < top:
            return _between(FIRST, 1.0, step / top)
        return _between(1.0, LAST, (step - top) / (steps - 1 - top))
    return 1.0


def _between(start: float, end: float, way: float) -> float:
    """Return the point on half a cosine from `start` to `end`."""
    return end + (start - end) * (1 + math.cos(math.pi * way)) / 2


def _groups(network: nn.Module, norms: Iterable[nn.Module], recipe: Recipe) -> list[dict[str, Any]]:
    """Return the optimizer's parameter groups: those that weight decay acts on, and those that it spares."""
    spared: set[nn.Parameter] = set()
    if recipe.weight_decay and recipe.weight_decay_spares == "norms-and-biases":
        spared = {parameter for norm in norms for parameter in norm.parameters()}
        spared |= {parameter for parameter in network.parameters() if parameter.dim() <= 1}
    decayed = [parameter for parameter in network.parameters() if parameter not in spared]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}]
    if spared:
        rest = [parameter for parameter in network.parameters() if parameter in spared]
        groups.append({"params": rest, "weight_decay": 0.0})
    return groups

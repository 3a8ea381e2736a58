"""A recipe's initialization: the same weights for every norm at one seed."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from normbench.recipe import Recipe
from normbench.train.streams import generator

_LINEAR = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d)


@torch.no_grad()
def initialize(network: nn.Module, recipe: Recipe, seed: int, norms: Collection[nn.Module]) -> None:
    """Give a network's linears and convolutions the recipe's initial weights; what is inside of `norms` is left alone.

    Each draws from a stream of its own, numbered in the network's order, so that no norm moves another's weights.
    """
    if recipe.init == "default" and recipe.init_scale == 1:
        return
    for index, linear in enumerate(_linears(network, norms)):
        weight = linear.weight.detach().clone()
        if recipe.init == "he":
            nn.init.kaiming_normal_(weight, nonlinearity="relu", generator=generator(seed, "init", index))
        elif recipe.init == "xavier":
            nn.init.xavier_uniform_(weight, generator=generator(seed, "init", index))
        _put(linear, weight * recipe.init_scale)
        if recipe.init != "default" and isinstance(linear.bias, Tensor):
            linear.bias.zero_()


def _linears(network: nn.Module, norms: Collection[nn.Module]) -> Iterator[Any]:
    own = {module for norm in norms for module in norm.modules()}
    return (module for module in network.modules() if isinstance(module, _LINEAR) and module not in own)


def _put(linear: Any, weight: Tensor) -> None:
    if parametrize.is_parametrized(linear, "weight"):
        # A wrapped linear computes its weight: the parametrization finds what gives this one.
        linear.weight = weight
    else:
        linear.weight.copy_(weight)

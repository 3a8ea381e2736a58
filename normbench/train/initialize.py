"""A recipe's initialization: the same weights for every norm at one seed."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from normbench.recipe import Recipe
from normbench.train.streams import generator

_LINEAR = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d)


class Initializer:
    """Gives linears and convolutions the recipe's initial weights, each once.

    Each draws from a stream of its own, numbered in the order of the calls, so that no norm moves another's weights.
    A linear that a norm wraps is given its weights before that.
    """

    def __init__(self, recipe: Recipe, seed: int) -> None:
        self._recipe, self._seed = recipe, seed
        self._done: list[nn.Module] = []

    @torch.no_grad()
    def __call__(self, linear: Any) -> None:
        """Give one linear or convolution its weights; anything else is left alone."""
        recipe = self._recipe
        if not isinstance(linear, _LINEAR) or (recipe.init == "default" and recipe.init_scale == 1):
            return
        stream = generator(self._seed, "init", len(self._done))
        self._done.append(linear)
        weight = linear.weight.detach().clone()
        if recipe.init == "he":
            nn.init.kaiming_normal_(weight, nonlinearity="relu", generator=stream)
        elif recipe.init == "xavier":
            nn.init.xavier_uniform_(weight, generator=stream)
        weight *= recipe.init_scale
        if parametrize.is_parametrized(linear, "weight"):
            # The task's own network computes this weight: the parametrization finds what gives it.
            linear.weight = weight
        else:
            linear.weight.copy_(weight)
        if recipe.init != "default" and isinstance(linear.bias, Tensor):
            linear.bias.zero_()

    def rest(self, network: nn.Module, layers: Collection[nn.Module]) -> None:
        """Give all other linears and convolutions of a network theirs, apart from those inside of a norm's `layers`.

        What wraps a linear may be a new one with its weights, which have been given.
        """
        left_alone = {*self._done, *(module for layer in layers for module in layer.modules())}
        for module in network.modules():
            if module not in left_alone:
                self(module)

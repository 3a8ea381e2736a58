"""MNIST with a perceptron of any depth, whose activations may saturate: where batch norm was shown first.

At the defaults it is the network of Ioffe & Szegedy 2015 (arXiv 1502.03167, section 4.1): binary images, three hidden
layers of 100 sigmoids, small normal weights, cross-entropy, batches of 60. They give neither the size of the weights
nor the rate, and train for 50,000 steps. Here the standard deviation of the weights is 1 / sqrt(fan in), biases begin
at 0, and the rate and 1,000 steps are ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import normbench
from normbench_plugins.limits import Count

if TYPE_CHECKING:
    from torch import nn

PIXELS = 28 * 28


def network(place: normbench.Place, recipe: normbench.Recipe, depth: int, width: int, activation: str) -> nn.Module:
    """Return a perceptron of `depth` hidden layers of `width` units on binary images."""
    from torch import nn

    from normbench_plugins.images.binary import Binary

    layers: list[nn.Module] = []
    before = PIXELS
    for _ in range(depth):
        layers.append(place(_linear(before, width), activation))
        if recipe.dropout:
            layers.append(nn.Dropout(recipe.dropout))
        before = width
    return nn.Sequential(Binary(), nn.Flatten(), *layers, _linear(before, 10))


def _linear(before: int, width: int) -> nn.Linear:
    from torch import nn

    linear = nn.Linear(before, width)
    nn.init.normal_(linear.weight, std=before**-0.5)
    nn.init.zeros_(linear.bias)
    return linear


TASKS = [
    normbench.Task(
        "mnist-mlp",
        1,
        summary="MNIST, binary, a perceptron of sigmoids (Ioffe & Szegedy 2015), relu or tanh. samples: training "
        "images, 0 for all",
        recipe=normbench.Recipe(rate=0.3, batch_size=60, steps=1000),
        chance=0.1,
        reference=0.95,
        data="normbench_plugins.images.mnist:often_validated",
        network="normbench_plugins.tasks.mnist_mlp:network",
        example="normbench_plugins.images.mnist:example",
        params={"depth": 3, "width": 100, "activation": "sigmoid", "samples": 0},
        types={"depth": Count, "width": Count, "activation": Literal["sigmoid", "tanh", "relu"]},
    )
]

"""Fashion-MNIST with the multilayer perceptron of Online Normalization, by its published recipe.

The recipe is that of Chiley et al., "Online Normalization for Training Neural Networks" (NeurIPS 2019, arXiv
1905.05894), as their code runs it (Cerebras/online-normalization at fe08b9f, experiments/mlp): 784-500-300-10, ReLU,
the norm before it on the two hidden layers; Xavier-uniform weights; raw pixels in [0, 1]; SGD at rate 0.04 without
momentum; weight decay 1e-4, which spares the norms; batches of 32, the last incomplete one dropped; 10 epochs. No
linear has a bias, not the output either, and not without a norm: the code means to give them one there, but its test
never holds. They report the median test accuracy of 400 runs (experiments/ExpReproducibility.md): batch norm 88.8
(standard deviation 0.58), online norm 88.9, layer norm 88.3, none 88.2.

Two things differ here. The score is that after the last epoch, not the best one of the median curve. And unless the
suite's protocol is "published", the last 10,000 of the 60,000 training images validate instead of training.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import normbench

if TYPE_CHECKING:
    from torch import Tensor, nn

PIXELS = 28 * 28
HIDDEN = (500, 300)


def data(folder: Path, recipe: normbench.Recipe, samples: int) -> normbench.Splits:  # noqa: ARG001 - data takes both
    """Return Fashion-MNIST, images as bytes: see `normbench_plugins.images.mnist.splits`."""
    from torchvision.datasets import FashionMNIST

    from normbench_plugins.images import mnist

    return mnist.splits(FashionMNIST, folder, samples)


def example(recipe: normbench.Recipe) -> Tensor:  # noqa: ARG001 - as all of a task's functions
    """Return images of noise, as bytes."""
    from normbench_plugins.images.splits import noise

    return noise(1, 28)


def network(place: normbench.Place, recipe: normbench.Recipe) -> nn.Module:
    """Return the perceptron 784-500-300-10, without biases."""
    from torch import nn

    from normbench_plugins.images.standardize import Standardize

    layers: list[nn.Module] = []
    before = PIXELS
    for width in HIDDEN:
        layers.append(place(nn.Linear(before, width, bias=False), "relu"))
        if recipe.dropout:
            layers.append(nn.Dropout(recipe.dropout))
        before = width
    # Mean 0 and deviation 1 leave the pixels in [0, 1], as the published recipe has them.
    return nn.Sequential(Standardize([0.0], [1.0]), nn.Flatten(), *layers, nn.Linear(before, 10, bias=False))


TASKS = [
    normbench.Task(
        "fashion-mnist-mlp",
        1,
        summary="Fashion-MNIST, the perceptron of Online Normalization (2019). samples: training images, 0 for all",
        recipe=normbench.Recipe(
            rate=0.04,
            batch_size=32,
            epochs=10,
            weight_decay=1e-4,
            weight_decay_spares="norms-and-biases",
            init="xavier",
        ),
        chance=0.1,
        reference=0.888,
        data="normbench_plugins.tasks.fashion_mnist_mlp:data",
        network="normbench_plugins.tasks.fashion_mnist_mlp:network",
        example="normbench_plugins.tasks.fashion_mnist_mlp:example",
        params={"samples": 0},
    )
]

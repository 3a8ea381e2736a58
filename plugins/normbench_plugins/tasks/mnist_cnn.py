"""MNIST with a small convolutional network, 156 steps long: where the learning rate decides what trains at all.

The data are LeCun, Cortes & Burges' handwritten digits: 60,000 images of 28 x 28 to train on, of which the last 10,000
validate, and 10,000 to test. 156 steps of 128 images are 0.4 epochs. With momentum 0.9 the network without a norm
trains at 0.1 and is lost from 1 up; with batch norm it trains from 0.01 to 3.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import normbench

if TYPE_CHECKING:
    from torch import Tensor, nn

CHANNELS = (8, 16, 32)
#: Mean and standard deviation of the training images' pixels, between 0 and 1.
MEAN, STD = 0.1307, 0.3081


def data(folder: Path, recipe: normbench.Recipe, samples: int) -> normbench.Splits:  # noqa: ARG001 - data takes both
    """Return MNIST, images as bytes: see `normbench_plugins.images.mnist.splits`."""
    from torchvision.datasets import MNIST

    from normbench_plugins.images import mnist

    return mnist.splits(MNIST, folder, samples)


def example(recipe: normbench.Recipe) -> Tensor:  # noqa: ARG001 - as all of a task's functions
    """Return images of noise, as bytes."""
    from normbench_plugins.images.splits import noise

    return noise(1, 28)


def network(place: normbench.Place, recipe: normbench.Recipe) -> nn.Module:
    """Return three 3 x 3 convolutions of 8, 16 and 32 channels, stride 2, global average pooling, and a linear."""
    from torch import nn

    from normbench_plugins.images.standardize import Standardize

    blocks, before = [], 1
    for channels in CHANNELS:
        blocks.append(place(nn.Conv2d(before, channels, kernel_size=3, stride=2, padding=1), "relu"))
        before = channels
    dropout = [nn.Dropout(recipe.dropout)] if recipe.dropout else []
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), *dropout, nn.Linear(before, 10)]
    return nn.Sequential(Standardize([MEAN], [STD]), *blocks, *head)


TASKS = [
    normbench.Task(
        "mnist-cnn",
        1,
        summary="MNIST, three convolutions, 156 steps: seconds a trial. samples: training images, 0 for all",
        recipe=normbench.Recipe(rate=0.1, batch_size=128, steps=156, momentum=0.9),
        chance=0.1,
        reference=0.95,
        data="normbench_plugins.tasks.mnist_cnn:data",
        network="normbench_plugins.tasks.mnist_cnn:network",
        example="normbench_plugins.tasks.mnist_cnn:example",
        params={"samples": 0},
    )
]

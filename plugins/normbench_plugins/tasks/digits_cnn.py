"""Handwritten digits: 1,797 real images of 8 x 8 inside scikit-learn, so that nothing has to be downloaded.

They are the test part of the UCI set "Optical Recognition of Handwritten Digits" (Alpaydin & Kaynak 1998).
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import normbench

if TYPE_CHECKING:
    from torch import Tensor, nn

TRAIN, VALIDATION, TEST = 1077, 360, 360
WIDTH = 16


def data(folder: Path, recipe: normbench.Recipe) -> normbench.Splits:  # noqa: ARG001 - a task's data takes both
    """Return the digits with pixels in [0, 1], split by a permutation that is fixed."""
    import numpy as np
    import torch
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    # The legacy generator's stream is frozen by NumPy's policy, so that the split is the same everywhere.
    order = np.random.RandomState(0).permutation(len(images))
    inputs = torch.from_numpy(images[order] / 16).float().view(-1, 1, 8, 8)
    targets = torch.from_numpy(labels[order]).long()
    ends = (0, TRAIN, TRAIN + VALIDATION, TRAIN + VALIDATION + TEST)
    train, validation, test = ((inputs[i:j], targets[i:j]) for i, j in pairwise(ends))
    return normbench.Splits(train, validation, test)


def example(recipe: normbench.Recipe) -> Tensor:  # noqa: ARG001 - as all of a task's functions
    """Return images of noise."""
    import torch

    return torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def network(place: normbench.Place, recipe: normbench.Recipe) -> nn.Module:
    """Return four 3 x 3 convolutions of 16 channels, strides 1, 2, 1, 2, global average pooling, and a linear."""
    from torch import nn

    blocks, channels = [], 1
    for stride in (1, 2, 1, 2):
        blocks.append(place(nn.Conv2d(channels, WIDTH, kernel_size=3, stride=stride, padding=1), "relu"))
        channels = WIDTH
    dropout = [nn.Dropout(recipe.dropout)] if recipe.dropout else []
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), *dropout, nn.Linear(channels, 10))


TASKS = [
    normbench.Task(
        "digits-cnn",
        1,
        summary="Handwritten digits (1,797 images of 8 x 8, inside scikit-learn), four convolutions; a second a trial",
        recipe=normbench.Recipe(rate=0.1, batch_size=64, epochs=6, momentum=0.9),
        chance=0.1,
        reference=0.98,
        data="normbench_plugins.tasks.digits_cnn:data",
        network="normbench_plugins.tasks.digits_cnn:network",
        example="normbench_plugins.tasks.digits_cnn:example",
    )
]

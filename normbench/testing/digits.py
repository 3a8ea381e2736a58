"""Small tasks on scikit-learn's digits, one for each layout of a norm's input: what the check `trains` trains."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

from normbench.contract import Layout, Place, Splits, Task
from normbench.recipe import Recipe
from normbench.testing.subject import linear

#: Channels of every layer: many norms have groups that divide them.
WIDTH = 32
RECIPE = Recipe(rate=0.05, batch_size=64, epochs=2, momentum=0.9)


class Residual(nn.Module):
    """A block of two linears, whose output is added to its input."""

    def __init__(self, place: Place, layout: Layout) -> None:
        super().__init__()
        with place.block():
            self.first = place(linear(layout, WIDTH, WIDTH), "relu", layout)
            self.last = place.sum(linear(layout, WIDTH, WIDTH), activation="relu", layout=layout)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output, of its input's shape."""
        result: Tensor = self.last(self.first(x), x)
        return result


class Mean(nn.Module):
    """The mean over some axes."""

    def __init__(self, *axes: int) -> None:
        super().__init__()
        self.axes = axes

    def forward(self, x: Tensor) -> Tensor:
        """Return the means, (N, C)."""
        return x.mean(self.axes)


@cache
def task(layout: Layout) -> Task:
    """Return the task whose norms have a layout: pixels, rows as channels, images, or rows as tokens.

    It is one each time, so that its data is kept from one training to the next.
    """

    def data(folder: Path, recipe: Recipe) -> Splits:  # noqa: ARG001 - a task's data takes both
        return _digits(layout)

    def network(place: Place, recipe: Recipe) -> nn.Module:  # noqa: ARG001 - a network takes both
        width = {"NC": 64, "NCL": 8, "NCHW": 1, "NLC": 8}[layout]
        first = place(linear(layout, width, WIDTH, stride=2 if layout == "NCHW" else 1), "relu", layout)
        axes = [axis for axis, name in enumerate(layout) if name not in "NC"]
        mean = [Mean(*axes)] if axes else []
        return nn.Sequential(first, Residual(place, layout), *mean, nn.Linear(WIDTH, 10))

    return Task(
        f"digits-{layout.lower()}",
        1,
        summary=f"Digits for norms of {layout}",
        recipe=RECIPE,
        chance=0.1,
        reference=0.9,
        data=data,
        network=network,
    )


def _digits(layout: Layout) -> Splits:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    shapes = {"NC": (64,), "NCL": (8, 8), "NCHW": (1, 8, 8), "NLC": (8, 8)}
    inputs = torch.from_numpy(images / 16).float().view(-1, *shapes[layout])
    targets = torch.from_numpy(labels).long()
    ends = (0, 1280, 1408, 1536)
    train, validation, test = ((inputs[i:j], targets[i:j]) for i, j in pairwise(ends))
    return Splits(train, validation, test)

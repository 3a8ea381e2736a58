"""Small tasks on scikit-learn's digits, one for each layout of a norm's input: what the check `trains` trains."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

from normbench.contract import Layout, Place, Splits, Task
from normbench.recipe import Recipe

#: Channels of every layer: many norms have groups that divide them.
WIDTH = 32
RECIPE = Recipe(rate=0.05, batch_size=64, epochs=2, momentum=0.9)


class Residual(nn.Module):
    """A block of two linears, whose output is added to its input."""

    def __init__(self, place: Place, linear: Callable[[int], nn.Module], layout: Layout) -> None:
        super().__init__()
        with place.block():
            self.first = place(linear(WIDTH), "relu", layout)
            self.last = place.sum(linear(WIDTH), activation="relu", layout=layout)

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


def task(layout: Layout) -> Task:
    """Return the task whose norms have a layout: pixels, rows as channels, images, or rows as tokens."""

    def data(folder: Path, recipe: Recipe) -> Splits:  # noqa: ARG001 - a task's data takes both
        return _digits(layout)

    def network(place: Place, recipe: Recipe) -> nn.Module:  # noqa: ARG001 - a network takes both
        kinds: dict[Layout, tuple[int, Callable[[int], nn.Module], tuple[int, ...]]] = {
            "NC": (64, lambda width: nn.Linear(width, WIDTH), ()),
            "NCL": (8, lambda width: nn.Conv1d(width, WIDTH, 3, padding=1), (2,)),
            "NCHW": (1, lambda width: nn.Conv2d(width, WIDTH, 3, stride=2 if width == 1 else 1, padding=1), (2, 3)),
            "NLC": (8, lambda width: nn.Linear(width, WIDTH), (1,)),
        }
        width, linear, axes = kinds[layout]
        mean = [Mean(*axes)] if axes else []
        blocks = [place(linear(width), "relu", layout), Residual(place, linear, layout)]
        return nn.Sequential(*blocks, *mean, nn.Linear(WIDTH, 10))

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

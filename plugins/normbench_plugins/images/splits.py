"""The fixed split of an image data set into training, validation and test, and smaller ones to try things on."""

from __future__ import annotations

import torch
from torch import Tensor

from normbench.contract import Splits
from normbench.errors import UsageError

Pair = tuple[Tensor, Tensor]


def split(train: Pair, test: Pair, *, validation: int, samples: int) -> Splits:
    """Return official training and test images with the last `validation` training images held out.

    With `samples` above 0, only the first so many training images, and the same share of the first validation and test
    images, at least one of each. Raises UsageError where there are not so many.
    """
    images, labels = train
    kept = len(images) - validation
    if not 0 <= samples <= kept:
        raise UsageError(f"samples is {samples}; it is 1 to {kept} training images, or 0 for all of them")
    share = samples / kept if samples else 1.0
    parts = ((images[:kept], labels[:kept]), (images[kept:], labels[kept:]), test)
    return Splits(*(_first(part, share) for part in parts))


def noise(channels: int, size: int) -> Tensor:
    """Return four images of noise, as bytes, shape (4, channels, size, size)."""
    draws = torch.Generator().manual_seed(0)
    return torch.randint(256, (4, channels, size, size), generator=draws, dtype=torch.uint8)


def _first(part: Pair, share: float) -> Pair:
    count = max(1, round(share * len(part[0])))
    return part[0][:count], part[1][:count]

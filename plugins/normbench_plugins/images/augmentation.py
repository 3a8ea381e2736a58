"""Training images changed at random, a whole batch at once, on the device where it lies."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

#: Pixels added on every side before an image is cut out again.
PAD = 4


def crop_and_flip(images: Tensor, draws: Tensor) -> Tensor:
    """Return images padded with 4 black pixels, cut to their size at a random place, and every other one mirrored.

    images: (N, C, H, W); draws: (N, 3), uniform in [0, 1), which give the row and the column where the cut begins and,
    below 1/2, a mirrored image. No step waits for the device.
    """
    samples, channels, height, width = images.shape
    device = images.device
    begin = (draws[:, :2] * (2 * PAD + 1)).long()
    across = torch.arange(width, device=device)
    columns = begin[:, 1:] + torch.where(draws[:, 2:] < 0.5, width - 1 - across, across)
    rows = begin[:, :1] + torch.arange(height, device=device)
    padded = functional.pad(images, (PAD, PAD, PAD, PAD))
    return padded[
        torch.arange(samples, device=device).view(-1, 1, 1, 1),
        torch.arange(channels, device=device).view(1, -1, 1, 1),
        rows.view(samples, 1, height, 1),
        columns.view(samples, 1, 1, width),
    ]

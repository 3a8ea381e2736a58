"""The first module of an image network: from the bytes of the pixels to standardized numbers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Standardize(nn.Module):
    """Pixels as bytes, (N, C, H, W), to (pixels / 255 - mean) / std in float32, a mean and a std a channel.

    Images stay bytes until here: they take a quarter of the memory, and what augmentation pads with 0 is black.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", 255 * torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", 255 * torch.tensor(std).view(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Return the standardized images, in the memory format that they come in."""
        return (images - self.mean) / self.std

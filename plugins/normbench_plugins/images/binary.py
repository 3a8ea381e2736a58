"""The first module of a network of black-and-white images."""

from __future__ import annotations

from torch import Tensor, nn


class Binary(nn.Module):
    """Pixels as bytes to 0 and 1, in float32: 1 from the middle, 128, on."""

    def forward(self, images: Tensor) -> Tensor:
        """Return the binary images, in their shape and memory format."""
        return (images >= 128).float()

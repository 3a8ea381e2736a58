"""A layer that has its channels on another axis than the input has."""

from __future__ import annotations

from torch import Tensor, nn


class Moved(nn.Module):
    """Applies a layer to an input whose axis `source` is moved to `destination`, and moves that back.

    Moved(layer, 1, -1) is for a layer of channels that come last and an input (N, C, ...), Moved(layer, -1, 1) for a
    layer of (N, C, L) and tokens, (N, L, C).
    """

    def __init__(self, layer: nn.Module, source: int, destination: int) -> None:
        super().__init__()
        self.layer, self.source, self.destination = layer, source, destination

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's output, in the shape of x; contiguous if x is."""
        output: Tensor = self.layer(x.movedim(self.source, self.destination)).movedim(self.destination, self.source)
        return output.contiguous() if x.is_contiguous() else output

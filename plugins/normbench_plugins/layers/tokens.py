"""A norm over channels for tokens: every token of every sample counts as a sample."""

from __future__ import annotations

from torch import Tensor, nn


class OverTokens(nn.Module):
    """Applies a layer for (N, C) to (N, L, C), over all N x L tokens."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalized tokens, shape (N, L, C) as given."""
        normalized: Tensor = self.layer(x.flatten(0, 1))
        return normalized.view_as(x)

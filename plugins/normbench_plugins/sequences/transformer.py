"""A small causal transformer, with norms before (pre) or after (post) the sum of each residual branch."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

import normbench

HEADS = 2


class Attention(nn.Module):
    """Causal self-attention of several heads (Vaswani et al. 2017, arXiv 1706.03762, section 3.2)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.projections, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(N, L, width) to the same; a position sees itself and those before it."""
        query, key, value = (
            part.unflatten(2, (HEADS, -1)).transpose(1, 2) for part in self.projections(x).chunk(3, dim=2)
        )
        seen = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        result: Tensor = self.out(seen.transpose(1, 2).flatten(2))
        return result


class Block(nn.Module):
    """Attention and a perceptron: x + branch(norm(x)) each where `pre`, else norm(x + branch(x)).

    Both norms are in one block of `place`: it counts transformer blocks, as papers that scale by depth do.
    """

    def __init__(self, place: normbench.Place, width: int, *, pre: bool) -> None:
        super().__init__()
        self.pre = pre
        with place.block():
            self.norms = nn.ModuleList(place.norm(width, "NLC") for _ in range(2))
        perceptron = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.branches = nn.ModuleList([Attention(width), perceptron])

    def forward(self, x: Tensor) -> Tensor:
        """(N, L, width) to the same."""
        for norm, branch in zip(self.norms, self.branches, strict=True):
            x = x + branch(norm(x)) if self.pre else norm(x + branch(x))
        return x


class Transformer(nn.Module):
    """Learned positions, blocks, a final norm where `pre`, and a linear that gives each position scores of classes."""

    def __init__(
        self, place: normbench.Place, *, tokens: int, length: int, width: int, blocks: int, classes: int, pre: bool
    ) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(tokens, width), nn.Parameter(torch.empty(length, width))
        for weight in (self.tokens.weight, self.positions):
            nn.init.normal_(weight, std=0.3)
        self.blocks = nn.Sequential(*(Block(place, width, pre=pre) for _ in range(blocks)))
        self.norm = place.norm(width, "NLC") if pre else nn.Identity()
        self.head = nn.Linear(width, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, length) to (N, length, classes)."""
        result: Tensor = self.head(self.norm(self.blocks(self.tokens(tokens) + self.positions)))
        return result

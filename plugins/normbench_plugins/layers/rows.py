"""Inputs of any layout: what belongs to channels, and the one space axis that all others can be flattened to."""

from __future__ import annotations

import torch
from torch import Tensor


def check_shape(x: Tensor, layout: str, channels: int) -> None:
    """Raise ValueError where x doesn't have the layout's number of axes, or the number of channels."""
    if x.dim() != len(layout) or x.shape[layout.index("C")] != channels:
        raise ValueError(f"the input's shape is {tuple(x.shape)}; it is {layout} with C = {channels}")


def per_channel(values: Tensor, layout: str) -> Tensor:
    """Return values of channels, (C,), in a shape that broadcasts against an input."""
    return values.view(-1, *[1] * (len(layout) - 1 - layout.index("C")))


def to_rows(x: Tensor, layout: str) -> tuple[Tensor, int]:
    """Return x as (N, C, S) or (N, S, C), as it lies in memory, and which axis S is.

    S counts what is neither a sample nor a channel: pixels, tokens, or 1 where there is nothing else.
    """
    if layout == "NC":
        return x.unsqueeze(1), 1
    if layout == "NLC":
        return x, 1
    if x.stride(1) == 1:
        return x.movedim(1, -1).flatten(1, -2), 1
    return x.flatten(2), 2


def from_rows(rows: Tensor, space: int, layout: str, shape: torch.Size) -> Tensor:
    """Return what `to_rows` made of an input of that shape in its layout again."""
    if space == 1 and layout in ("NCL", "NCHW"):
        return rows.reshape(shape[0], *shape[2:], shape[1]).movedim(-1, 1)
    return rows.reshape(shape)


def at_least_float32(x: Tensor) -> Tensor:
    """Return half precision as float32, in which statistics are taken; anything else as it is."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x

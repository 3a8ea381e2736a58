"""A state that training moves by small steps, kept out of half precision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn


def move(average: Tensor, new: Tensor, momentum: float) -> None:
    """Move a running average, a buffer, towards a new value of its shape, by the share `momentum`."""
    # Not lerp_, which vmap would compute lane by lane.
    average.add_(new.detach() - average, alpha=momentum)


class Float32State(nn.Module):
    """A module whose own buffers stay in float32 when it is cast to half precision, where their steps would be lost."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Apply `fn` as any module does, but to the buffers only where that leaves them out of half precision."""
        before = dict(self.named_buffers(recurse=False))
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, tensor in before.items():
            moved = self.get_buffer(name)
            if moved.dtype in (torch.float16, torch.bfloat16):
                setattr(self, name, tensor.to(moved.device, torch.float32))
        return self

"""Telling a lack of memory from other errors."""

from __future__ import annotations

import torch

#: What a lack of memory is called by those that have no type for it: CUDA as it starts, cuBLAS, NCCL.
_WORDS = ("out of memory", "alloc_failed")


def ran_out(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on the device or off it."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in _WORDS)

"""No normalization."""

from __future__ import annotations

from torch import Tensor


def none(x: Tensor, site: object, state: object) -> Tensor:  # noqa: ARG001 - as every definition
    """Return x."""
    return x

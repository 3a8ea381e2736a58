"""How numbers are compared, and what shows a difference: in words, at which input, and how far off."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from normbench.testing.results import Failed, Verdict

#: Units in the last place by which sums of a few hundred numbers may differ where they are added in another order.
IN_ANOTHER_ORDER = 1000


@dataclass(frozen=True)
class Seen:
    """What shows a difference: in words, at which input, how far a number is off, and how far it may be."""

    said: str
    input: str = ""
    off: float | None = None
    allowed: float | None = None

    @property
    def fields(self) -> dict[str, Any]:
        """What a verdict says beside the words."""
        return {"input": self.input, "off": self.off, "allowed": self.allowed}


def tolerance(dtype: torch.dtype, scale: float = 1.0, times: float = 10.0) -> float:
    """Return how far numbers of a size may be off by rounding: `times` as many units in the last place of `scale`."""
    return times * torch.finfo(dtype).eps * scale


def off(found: Tensor, wanted: Tensor) -> float:
    """Return the largest difference; infinite where one is not finite and the other is, 0 where neither is."""
    if found.shape != wanted.shape:
        return float("inf")
    if not found.numel():
        return 0.0
    found, wanted = found.detach().double(), wanted.detach().double()
    same = (found == wanted) | (found.isnan() & wanted.isnan())
    difference = torch.where(same, 0.0, (found - wanted).abs()).nan_to_num(nan=float("inf"))
    return float(difference.max())


def largest(x: Tensor) -> float:
    """Return the largest size of a number."""
    return float(x.detach().double().abs().max()) if x.numel() else 0.0


def shown(x: Tensor, said: str = "") -> str:
    """Return an input in words: its shape, and what else there is to say."""
    return f"{tuple(x.shape)}, {said}" if said else f"{tuple(x.shape)}"


def normal(x: Tensor) -> str:
    """Return an input of normal numbers in words."""
    return shown(x, "normal numbers")


def check_near(found: Tensor, wanted: Tensor, allowed: float, said: str, where: str, **fields: Any) -> None:
    """Raise Failed where two tensors are further apart than is allowed."""
    if (distance := off(found, wanted)) > allowed:
        raise Failed(said, input=where, off=distance, allowed=allowed, **fields)


def differs(found: Tensor, wanted: Tensor, said: str, where: str = "", times: float = 100.0) -> Seen | None:
    """Return by how much two tensors differ beyond `times` units in the last place; whole numbers may not differ."""
    allowed = 0.0
    if wanted.is_floating_point():
        # Gradients at the output are of size 1: what is left of them where all cancels is rounding of that size.
        allowed = tolerance(wanted.dtype, max(1.0, largest(wanted.nan_to_num(0, 0, 0))), times)
    distance = off(found, wanted)
    return Seen(said, where, distance, allowed) if distance > allowed else None


def compared(
    found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], words: str, where: str = "", times: float = 100.0
) -> Seen | None:
    """Return the first difference, in words that name it: what is in one alone is infinitely far off."""
    for name in {**wanted, **found}:
        said = words.format(name)
        if name not in found or name not in wanted:
            return Seen(said, where, float("inf"), 0.0)
        if seen := differs(found[name], wanted[name], said, where, times):
            return seen
    return None


def check_same(
    when: str,
    found: Mapping[str, Tensor],
    wanted: Mapping[str, Tensor],
    x: Tensor | None = None,
    *,
    times: float = 0.0,
    verdict: type[Verdict] = Failed,
    cause: str = "",
) -> None:
    """Raise the verdict where what came of an input `x` differs beyond `times` units in the last place.

    `when` begins its sentence, and the usual `cause` ends it.
    """
    where = "" if x is None else normal(x)
    if seen := compared(found, wanted, f"{when} {{}} is another{cause and ': '}{cause}", where, times):
        raise verdict(seen.said, **seen.fields)


def generators() -> dict[str, Any]:
    """Return where the global generators stand, by name."""
    numpy: Any = np.random.get_state()
    return {
        "torch's generator": torch.get_rng_state().numpy().tobytes(),
        "NumPy's generator": (numpy[1].tobytes(), *numpy[2:]),
        "Python's generator": random.getstate(),
    }

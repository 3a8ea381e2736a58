"""Linear recurrences along the first axis, for all steps at once, in log2 N rounds.

A step is an affine map. Each round composes every map with the one as far behind it as the maps already reach, which
doubles their reach (Hillis & Steele 1986). Nothing is divided by a product of factors, so that a product that
underflows to 0 is as good as 0.
"""

from __future__ import annotations

import torch
from torch import Tensor


def decayed_sums(decay: float, initial: Tensor, terms: Tensor) -> Tensor:
    """Return s with s[0] = initial and s[t + 1] = decay * s[t] + terms[t].

    `initial` has the shape (C,), `terms` (N, C) and the result (N + 1, C).
    """
    sums = torch.cat([initial[None] * decay + terms[:1], terms[1:]])
    reach = 1
    while reach < len(terms):
        sums = torch.cat([sums[:reach], torch.add(sums[reach:], sums[:-reach], alpha=decay**reach)])
        reach *= 2
    return torch.cat([initial[None], sums])


def linear_recurrence(factors: Tensor, initial: Tensor, terms: Tensor) -> Tensor:
    """Return s with s[0] = initial and s[t + 1] = factors[t] * s[t] + terms[t].

    `initial` has the shape (C,), `factors` and `terms` (N, C), the result (N + 1, C).
    """
    largest = torch.finfo(factors.dtype).max
    sums = torch.cat([torch.addcmul(terms[:1], factors[:1], initial), terms[1:]])
    reach = 1
    while reach < len(terms):
        sums = torch.cat([sums[:reach], torch.addcmul(sums[reach:], factors[reach:], sums[:-reach])])
        # Without a bound, a product that overflows would make nan of a sum that is 0.
        factors = torch.cat([factors[:reach], (factors[reach:] * factors[:-reach]).clamp(-largest, largest)])
        reach *= 2
    return torch.cat([initial[None], sums])

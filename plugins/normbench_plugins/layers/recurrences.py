"""Recurrences along the first axis, over the samples of a batch, in few operations and in float64.

A value that is not finite reaches the steps before it, too.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

#: As many steps as one matrix is for: its cost grows with their square.
STEPS = 64
#: As many factors as have a product in the range of float64, for any factor between 2^-60 and 2^63.
FACTORS = 16


def moving_averages(keep: float, initial: Tensor, terms: Tensor) -> tuple[Tensor, Tensor]:
    """Return s[:-1] and s[-1], with s[0] = initial and s[t + 1] = keep * s[t] + (1 - keep) * terms[t].

    `initial` has the shape (C,), `terms` and the result (N, C).
    """
    before = []
    for begin in range(0, max(len(terms), 1), STEPS):
        part = terms[begin : begin + STEPS]
        averages = _weights(keep, len(part), terms.device) @ torch.cat([initial[None], part]).double()
        before.append(averages[:-1])
        initial = averages[-1]
    return before[0] if len(before) == 1 else torch.cat(before), initial


@lru_cache(maxsize=64)
def _weights(keep: float, steps: int, device: torch.device) -> Tensor:
    """Return what the initial value and each term, in columns, weigh in the averages, in rows."""
    steps_since = torch.arange(steps + 1, dtype=torch.float64, device=device)
    steps_since = steps_since[:, None] - steps_since
    weights = keep ** steps_since.clamp(min=0) * (steps_since >= 0)
    weights[:, 1:] *= 1 - keep
    return weights


def linear_recurrence(factors: Tensor, initial: Tensor, terms: Tensor) -> tuple[Tensor, Tensor]:
    """Return s[:-1] and s[-1], with s[0] = initial and s[t + 1] = factors[t] * s[t] + terms[t], for factors up to 1.

    `initial` has the shape (C,), `factors` and `terms` and the result (N, C).

    With P the products of the factors so far, s[t] = P[t] * (initial + the sum of terms / P). What rounding loses of a
    sum is carried on as what it loses of s in the recurrence, so this is as exact, as long as P stays in range.
    """
    # 2^-60 is lost in the rounding of any factor but 0. Below -2^63, where s has long lost its meaning, a product that
    # overflows would make nan of a sum that is 0.
    factors = (factors + 2**-60).clamp_(min=-(2**63))
    steps = [initial[None]]
    for begin in range(0, len(terms), FACTORS):
        products = factors[begin : begin + FACTORS].cumprod(0)
        sums = (terms[begin : begin + FACTORS] / products).cumsum_(0)
        steps.append(sums.add_(steps[-1][-1]).mul_(products))
    return torch.cat(steps)[:-1], steps[-1][-1]

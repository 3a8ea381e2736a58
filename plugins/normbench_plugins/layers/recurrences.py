"""Recurrences over the samples of a batch, in few operations: on a CPU most of the time of small ones is their calls.

Tables have the shape (N + 1, C): a first row for the state between batches, and one for each of the N samples. They
are computed in their own type. A value that is not finite reaches the samples before it, too.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

#: As many samples as one matrix is for: its cost grows with their square.
STEPS = 64
#: As many factors as have a product in the range of float64, for any factor between 2^-60 and 2^63.
FACTORS = 16
#: Otherwise products of factors are above 2 to the power of minus this: terms up to its inverse fit in float32.
HALVINGS = 64


def moving_averages(keep: float, table: Tensor) -> Tensor:
    """Return the average before each sample, and in the first row that after the last.

    The table has the average before the first sample in its first row, then the terms of the samples: an average moves
    from s to keep * s + (1 - keep) * term.
    """
    weights = _weights(keep, min(len(table) - 1, STEPS), table.dtype, table.device)
    if len(table) <= STEPS + 1:
        return weights @ table
    first = weights @ table[: STEPS + 1]
    rest = moving_averages(keep, torch.cat([first[:1], table[STEPS + 1 :]]))
    return torch.cat([rest[:1], first[1:], rest[1:]])


def deviations(keep: float, initial: Tensor, terms: Tensor) -> Tensor:
    """Return each term, (N, C), less the moving average before it, and in the first row how far that moves in all.

    What all have in common with the average before the first, (C,), is taken off before anything else: rounding is
    relative to the deviations from it.
    """
    weights = _weights_of_deviations(keep, min(len(terms), STEPS), terms.dtype, terms.device)
    if len(terms) <= STEPS:
        return weights @ (terms - initial)
    first = weights @ (terms[:STEPS] - initial)
    rest = deviations(keep, initial + first[0], terms[STEPS:])
    return torch.cat([first[:1] + rest[:1], first[1:], rest[1:]])


@lru_cache(maxsize=64)
def _weights(keep: float, steps: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return what the initial average and each term, in columns, weigh in the averages, in rows, the last one first."""
    steps_since = torch.arange(steps + 1, dtype=torch.float64, device=device)
    steps_since = steps_since[:, None] - steps_since
    weights = keep ** steps_since.clamp(min=0) * (steps_since >= 0)
    weights[:, 1:] *= 1 - keep
    return weights.roll(1, 0).to(dtype)


@lru_cache(maxsize=64)
def _weights_of_deviations(keep: float, steps: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return what each term, in columns, weighs in the last average, in the first row, and in the deviations."""
    weights = _weights(keep, steps, torch.float64, device)[:, 1:].clone()
    weights[1:] = torch.eye(steps, dtype=torch.float64, device=device) - weights[1:]
    return weights.to(dtype)


def linear_recurrence(factors: Tensor, table: Tensor, look: bool) -> Tensor:
    """Return s before each sample, and in the last row that after the last, where s moves to factor * s + term.

    `factors` is a table with ones in its first row, and otherwise no factor above 1. `table` has s before the first
    sample in its first row, then the terms of the samples; it may be overwritten. With `look` the smallest factor
    decides how this is computed, which waits for it.

    With P the products of the factors so far, s is P * (the sum of terms / P). What rounding loses of a sum is carried
    on as what it loses of s in the recurrence, so this is as exact, as long as P stays in range.
    """
    if look and float(factors.amin()) > 2 ** (-HALVINGS / len(factors)):
        products = factors.cumprod(0)
        return table.div_(products).cumsum_(0).mul_(products)
    # 2^-60 is lost in the rounding of any factor but 0. Below -2^63, where s has long lost its meaning, a product that
    # overflows would make nan of a sum that is 0.
    factors = (factors.double() + 2**-60).clamp_(min=-(2**63))
    steps = [table[:1].double()]
    for begin in range(1, len(table), FACTORS):
        products = factors[begin : begin + FACTORS].cumprod(0)
        sums = (table[begin : begin + FACTORS] / products).cumsum_(0)
        steps.append(sums.add_(steps[-1][-1]).mul_(products))
    return torch.cat(steps).to(table.dtype)

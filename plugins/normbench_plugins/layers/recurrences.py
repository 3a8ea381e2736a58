"""Recurrences over the samples of a batch, in few operations: on a CPU most of the time of small ones is their calls.

Tables have the shape (N + 1, C): a first row for the state between batches, and one for each of the N samples. They
are computed in their own type. A value that is not finite reaches the samples before it, too.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

#: As many samples as one matrix is for: its cost grows with their square.
STEPS = 128
#: As many factors as have a product in the range of float64, for any factor between 2^-60 and 2^63.
FACTORS = 16
#: Otherwise products of factors are above 2 to the power of minus this: terms up to its inverse fit in float32.
HALVINGS = 64


def moving_averages(keep: float, initial: Tensor, table: Tensor) -> Tensor:
    """Return the average before each sample, and in the first row that after the last.

    An average moves from s to keep * s + (1 - keep) * term. `initial`, (C,), is that before the first sample. The table
    has the terms less `initial`, below a row that has no effect: so rounding is relative to how an average moves.
    """
    samples, steps = len(table) - 1, _steps(keep)
    if samples <= steps:
        return torch.addmm(initial, _weights(keep, samples, table.dtype, table.device), table)
    found, last = [], initial
    for begin in range(1, samples + 1, steps):
        part = torch.cat([table[:1], table[begin : begin + steps] + (initial - last)])
        found.append(torch.addmm(last, _weights(keep, len(part) - 1, table.dtype, table.device), part))
        last = found[-1][0]
    return torch.cat([last[None], *(part[1:] for part in found)])


def deviations(keep: float, initial: Tensor, terms: Tensor) -> Tensor:
    """Return each term, (N, C), less the moving average before it, and in the first row how far that moves in all.

    What all have in common with `initial` is taken off before anything else: rounding is relative to the rest.
    """
    terms, steps = terms - initial, STEPS
    if len(terms) <= steps:
        return _weights_of_deviations(keep, len(terms), terms.dtype, terms.device) @ terms
    move, found = torch.zeros_like(terms[:1]), []
    for part in torch.split(terms, steps):
        found.append(_weights_of_deviations(keep, len(part), terms.dtype, terms.device) @ (part - move))
        move = move + found[-1][:1]
    return torch.cat([move, *(part[1:] for part in found)])


@lru_cache(maxsize=64)
def _steps(keep: float) -> int:
    """Return for how many samples one matrix is, at most: an average may not fall below 1/16 of its first value."""
    return max((step for step in range(1, STEPS + 1) if keep**step >= 1 / 16), default=1)


@lru_cache(maxsize=64)
def _weights(keep: float, steps: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return what each row of the table, in columns, weighs in the averages, in rows, the last average first."""
    steps_since = torch.arange(steps + 1, dtype=torch.float64, device=device)
    steps_since = steps_since[:, None] - steps_since
    weights = (1 - keep) * keep ** steps_since.clamp(min=0) * (steps_since >= 0)
    weights[:, 0] = 0
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
    # Not in place: vmap would compute these lane by lane.
    factors = (factors.double() + 2**-60).clamp(min=-(2**63))
    steps = [table[:1].double()]
    for begin in range(1, len(table), FACTORS):
        products = factors[begin : begin + FACTORS].cumprod(0)
        sums = (table[begin : begin + FACTORS] / products).cumsum(0)
        steps.append(sums.add_(steps[-1][-1]).mul_(products))
    return torch.cat(steps).to(table.dtype)

"""Streams of randomness: derived from a seed and a name, and disturbing nothing else."""

import random

import numpy as np
import torch

from normbench.train.streams import derive, generator, global_stream


def test_streams_are_pinned():
    """A stream's start is the same on every machine and in every version: stored trials depend on it."""
    assert 1519069808562059438 == derive(0, "init")
    assert 3 == len({derive(0, "init"), derive(0, "order"), derive(1, "init")})


def test_the_order_of_an_epoch_depends_on_seed_and_epoch_alone():
    """Two generators of one stream draw the same; other epochs draw others."""
    first, again, other = (torch.rand(3, generator=generator(7, "order", epoch)) for epoch in (0, 0, 1))

    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_global_generators_are_set_and_put_back():
    """What draws from torch, NumPy or Python within a stream repeats, and what draws after it is undisturbed."""

    def draw():
        return torch.rand(1).item(), np.random.rand(), random.random()

    def within():
        with global_stream(torch.device("cpu"), 3, "layer"):
            return draw()

    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
    undisturbed = draw()
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
    first, second = within(), within()

    assert first == second
    assert undisturbed == draw()

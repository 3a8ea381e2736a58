"""Streams of randomness: each is derived from a trial's seed and a name, so that none disturbs another.

`init` gives the network's weights, `layer-init` what a layer draws for itself at construction, `order` the order of the
samples in each epoch, `augment` the draws of a sample, and `layer` the global generators while training, on several
ranks one for each. The first, third and fourth are the same for every norm at one seed: comparisons are paired.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def derive(seed: int, *names: str | int) -> int:
    """Return the seed of the stream with these names: 63 bits of a hash."""
    text = "/".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *names: str | int) -> torch.Generator:
    """Return a generator on the CPU at the start of a stream."""
    return torch.Generator().manual_seed(derive(seed, *names))


@contextmanager
def global_stream(device: torch.device, seed: int, *names: str | int) -> Iterator[None]:
    """Set the global generators of torch, NumPy and Python to a stream, and put them back as they were."""
    devices = [device] if device.type == "cuda" else []
    start = derive(seed, *names)
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=devices):
        # torch.manual_seed also seeds devices that are not there, which costs more than a small layer does.
        seed_torch = torch.default_generator.manual_seed if device.type == "cpu" else torch.manual_seed
        seed_torch(start)
        random.seed(start)
        np.random.seed(start % 2**32)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)

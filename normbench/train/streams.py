"""Streams of randomness: each is derived from a trial's seed and a name, so that none disturbs another.

`init` gives the network's weights, `layer-init` what a layer draws for itself at construction, `order` the order of the
samples in each epoch, `augment` the draws of a sample, and `layer` the global generators while training, on several
ranks one for each. The first, third and fourth are the same for every norm at one seed: comparisons are paired.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

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
    start = derive(seed, *names)
    with generators_kept(device):
        # torch.manual_seed also seeds devices that are not there, which costs more than a small layer does.
        cuda: Any = torch.cuda
        alone = device.type == "cpu" and not cuda.is_initialized()
        seed_torch = torch.default_generator.manual_seed if alone else torch.manual_seed
        seed_torch(start)
        random.seed(start)
        np.random.seed(start % 2**32)
        yield


@contextmanager
def generators_kept(device: torch.device) -> Iterator[None]:
    """Put the global generators back as they were."""
    states = generators(device)
    try:
        yield
    finally:
        set_generators(states, device)


def generators(device: torch.device) -> dict[str, Any]:
    """Return the states of the global generators of torch, NumPy and Python, as plain values and tensors."""
    numpy: Any = np.random.get_state()
    kind, keys, *rest = numpy
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "numpy": (kind, keys.tolist(), *rest),
        "python": random.getstate(),
    }


def set_generators(states: Mapping[str, Any], device: torch.device) -> None:
    """Put the global generators into states that `generators` returned."""
    torch.set_rng_state(states["torch"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)
    np.random.set_state(states["numpy"])
    random.setstate(states["python"])

"""Running averages taken anew for an evaluation, so that a bad average is told from a bad norm."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


@contextmanager
def recalibrated(network: nn.Module, forwards: Iterator[Callable[[], object]]) -> Iterator[None]:
    """Have each running average of a network be the plain mean over some batches; afterwards what it was.

    `network` is in evaluation mode, and each of `forwards` computes its outputs on one batch. Layers with running
    averages are those that have `momentum`, the weight of a new batch in them, and a buffer running_*. Meanwhile these
    alone are in training mode: no dropout, and no noise, of the training moves the averages. Without such a layer
    nothing happens.
    """
    layers: list[Any] = [module for module in network.modules() if _averages(module)]
    if not layers:
        yield
        return
    kept = {name: buffer.clone() for name, buffer in network.named_buffers()}
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.training = True
    _average(layers, forwards)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum, layer.training = momentum, False
    yield
    with torch.no_grad():
        for name, buffer in network.named_buffers():
            buffer.copy_(kept[name])


def _average(layers: list[Any], forwards: Iterable[Callable[[], object]]) -> None:
    """Move averages by 1, 1/2, 1/3 …: after each forward they are the mean over the batches so far."""
    for count, forward in enumerate(forwards, start=1):
        for layer in layers:
            layer.momentum = 1 / count
        with torch.no_grad():
            forward()


def _averages(module: nn.Module) -> bool:
    running = any(name.startswith("running_") for name, _ in module.named_buffers(recurse=False))
    return running and hasattr(module, "momentum")

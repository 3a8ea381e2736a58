"""Checks of how a layer is made, and of what it refuses."""

from __future__ import annotations

from torch import nn

from normbench.contract import Unsupported
from normbench.testing.kit import check
from normbench.testing.results import Failed, NotApplicable
from normbench.testing.subject import Subject

#: The numbers of channels that are tried.
CHANNELS = (1, 3, 8, 64)


@check("builds")
def builds(subject: Subject) -> None:
    """A layer for any number of channels returns a tensor of its input's shape, type and device.

    Networks are built around that: what comes after a norm expects what came before it.
    """
    built = 0
    for channels in CHANNELS:
        for activation in (None, "relu") if subject.norm.placement == "fused" else (None,):
            try:
                layer = subject.layer(channels, activation=activation)
            except Unsupported:
                continue
            built += 1
            _check_output(subject, layer, channels)
    if not built:
        raise NotApplicable(f"it supports none of {', '.join(map(str, CHANNELS))} channels in {subject.layout}")


def _check_output(subject: Subject, layer: nn.Module, channels: int) -> None:
    x = subject.input(8, channels)
    output = subject.run(layer, x)
    given, got = (f"{tuple(one.shape)} {one.dtype} on {one.device}" for one in (x, output))
    if given != got:
        raise Failed(f"its output is {got}", input=given)

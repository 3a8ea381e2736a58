"""A layer as checks train and evaluate it: two that are made and trained alike are alike, to the bit."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from normbench.testing.subject import Subject

#: The methods of a layer's own clock.
CLOCK = ("on_step", "after_step", "before_evaluation")
#: The steps of training that a layer has behind it, so that its state is not that of the start; and of how many.
WARM, STEPS = 2, 100


class Step(NamedTuple):
    """What a forward and a backward gave: the output, and the gradient of the input, zeros where none reaches it."""

    output: Tensor
    gradient: Tensor


@dataclass(frozen=True)
class Altered(Subject):
    """The same norm as one of a group of ranks, late in its training, or around weights that are scaled and shifted."""

    group: Any = None
    late: bool = False
    factor: float = 1.0
    shift: float = 0.0

    def linear(self, channels: int) -> nn.Module:
        """Return the linear with its weights rescaled, and those of the first output channel shifted."""
        linear = super().linear(channels)
        assert isinstance(linear.weight, Tensor)
        with torch.no_grad():
            linear.weight *= self.factor
            linear.weight[0] += self.shift
        return linear

    def _site(self, *args: Any, **named: Any) -> Any:
        return replace(super()._site(*args, **named), group=self.group)

    def built_bare(self) -> nn.Module:
        """Return a layer that was built with the global generators as they are, and left as it leaves them."""
        wrapped = [self.linear(self.channels)] if self.wraps else []
        return self.norm.build(self._site(self.channels, self.spatial, self.activation), self.params, *wrapped)

    @classmethod
    def of(cls, subject: Subject, **changes: Any) -> Altered:
        """Return a subject with such changes."""
        return cls(**{field.name: getattr(subject, field.name) for field in fields(subject)} | changes)


def made(subject: Subject, **named: Any) -> nn.Module:
    """Return a new layer with parameters that it does not begin with; weights that it wraps are random as they are."""
    layer = subject.layer(**named)
    return layer if subject.wraps else subject.moved(layer)


def stepped(subject: Subject, layer: nn.Module, x: Tensor, gradient: Tensor | None = None) -> Step:
    """Return what a forward and a backward give, with the draws of a layer the same each time."""
    x = x.detach().clone().requires_grad_()

    def forward_and_backward() -> Tensor:
        output: Tensor = layer(x)
        if output.requires_grad:
            torch.autograd.backward(output, subject.gradient(output) if gradient is None else gradient)
        return output.detach()

    output = subject.called(forward_and_backward)
    return Step(output, torch.zeros_like(x) if x.grad is None else x.grad)


def warm(subject: Subject, steps: int = WARM, samples: int = 8, **named: Any) -> nn.Module:
    """Return a layer that has been trained for some steps, told of the next: two of the same arguments are alike."""
    layer = made(subject, **named)
    dtype = named.get("dtype", torch.float32)
    first = STEPS - 1 - steps if isinstance(subject, Altered) and subject.late else 0
    for step in range(steps):
        told(layer, "on_step", first + step, STEPS)
        stepped(subject, layer, subject.input(samples, mean=0.5, std=1.5, draw=100 + step, dtype=dtype))
        told(layer, "after_step", first + step, STEPS)
    told(layer, "on_step", first + steps, STEPS)
    return layer


def phases(subject: Subject) -> list[Subject]:
    """Return a subject early and late in its training, if its layers have a clock; else as it is."""
    return [subject, Altered.of(subject, late=True)] if has_clock(made(subject)) else [subject]


def has_clock(layer: nn.Module) -> bool:
    """Whether a module of the layer has a method of a clock."""
    return any(callable(getattr(module, method, None)) for module in layer.modules() for method in CLOCK)


def told(layer: nn.Module, method: str, *args: int) -> None:
    """Call one of the methods of a layer's own clock on all modules that have it, as a training does."""
    for module in list(layer.modules()):
        if callable(call := getattr(module, method, None)):
            with nullcontext() if method == "on_step" else torch.no_grad():
                call(*args)


def evaluating(layer: nn.Module) -> nn.Module:
    """Put a layer into evaluation, as a training does."""
    told(layer, "before_evaluation")
    return layer.eval()


def stepped_here(layer: nn.Module, x: Tensor) -> Tensor:
    """Return the output of a forward, and take a backward where there is one, with the draws that come."""
    output: Tensor = layer(x.detach().clone().requires_grad_())
    if output.requires_grad:
        torch.autograd.backward(output, torch.ones_like(output))
    return output.detach()


def drawn(call: Callable[[], Any]) -> list[str]:
    """Call something, and return which of the global generators it moved."""
    before = generators()
    call()
    now = generators()
    return [name for name, state in before.items() if state != now[name]]


def generators() -> dict[str, Any]:
    """Return where the global generators stand."""
    numpy: Any = np.random.get_state()
    return {
        "torch's generator": torch.get_rng_state().numpy().tobytes(),
        "NumPy's generator": (numpy[1].tobytes(), *numpy[2:]),
        "Python's generator": random.getstate(),
    }


def trained(subject: Subject, layer: nn.Module, steps: int) -> Iterator[int]:
    """Train a layer for some steps as a run does, with its clock, by plain gradient descent; yield after each."""
    for step in range(steps):
        told(layer, "on_step", step, steps)
        layer.zero_grad()
        stepped(subject, layer, subject.input(mean=0.5, std=1.5, draw=200 + step))
        with torch.no_grad():
            for parameter in layer.parameters():
                if parameter.grad is not None:
                    parameter.sub_(parameter.grad, alpha=1e-3)
        told(layer, "after_step", step, steps)
        yield step


def contents(layer: nn.Module) -> dict[str, Tensor]:
    """Return copies of a layer's buffers, by name."""
    return {name: buffer.detach().clone() for name, buffer in layer.named_buffers()}

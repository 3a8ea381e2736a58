"""A layer as checks train and evaluate it: two that are made and trained alike are alike, to the bit."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from normbench.testing.comparing import Seen, compared, generators, shown
from normbench.testing.subject import Subject
from normbench.train.methods import Methods, having

#: What came of a step, by what it is.
Came: TypeAlias = dict[str, Tensor]

#: The methods of a layer's own clock.
CLOCK = ("on_step", "after_step", "before_evaluation")
#: The learning rate of a step, and the number of steps that `on_step` is told of, as sites are.
RATE, STEPS = 0.01, 100
#: The steps of training that a layer has behind it, so that its state is not that of the start.
WARM = 2
#: What every module has in its dictionary.
_MODULES_OWN = frozenset(vars(nn.Module()))


class Step(NamedTuple):
    """What a forward and a backward gave: the output, and the gradient of the input, zeros where none reaches it."""

    output: Tensor
    gradient: Tensor

    def at(self, index: Any) -> Step:
        """Return the same of some samples."""
        return Step(self.output[index], self.gradient[index])


def steps_differ(found: Step, wanted: Step, words: str, x: Tensor) -> Seen | None:
    """Return what differs of two steps, in words that name it."""
    return compared(found._asdict(), wanted._asdict(), words, shown(x))


def made(subject: Subject, **named: Any) -> nn.Module:
    """Return a new layer with parameters that it does not begin with; weights that it wraps are random as they are."""
    layer = subject.layer(**named)
    return layer if subject.wraps else subject.moved(layer)


def with_state_of(subject: Subject, layer: nn.Module) -> nn.Module:
    """Return a new layer with another's parameters and buffers, those that are not persistent too."""
    fresh = subject.layer()
    fresh.load_state_dict(copy.deepcopy(layer.state_dict()))
    others = dict(layer.named_buffers())
    with torch.no_grad():
        for name, buffer in fresh.named_buffers():
            buffer.copy_(others[name])
    return fresh


def passed(subject: Subject, layer: Callable[[Tensor], Tensor], x: Tensor, gradient: Tensor | None = None) -> Tensor:
    """Return the output of a forward, and take its backward, from a random gradient unless one is given.

    What is drawn comes from the global generators as they are.
    """
    output = layer(x.clone())  # no leaf, as in a network: of that torch would refuse any change in place
    _backward(subject, output, gradient)
    return output.detach()


def stepped(subject: Subject, layer: nn.Module, x: Tensor, gradient: Tensor | None = None) -> Step:
    """Return what a forward and a backward give, with the draws of a layer the same each time."""
    x = x.detach().clone().requires_grad_()
    output = subject.called(lambda: passed(subject, layer, x, gradient))
    return Step(output, torch.zeros_like(x) if x.grad is None else x.grad)


def gradients(
    subject: Subject,
    layer: nn.Module,
    x: Tensor,
    number: int = 0,
    *,
    steps: int = STEPS,
    call: Callable[[Tensor], Tensor] | None = None,
    of_input: bool = True,
) -> Came:
    """Compute forward and backward of a step, and return its output and all gradients, that of its input `of_input`.

    `call` is called in the layer's place, to compute the same.
    """
    layer.train()
    Methods(layer).on_step(number, steps)
    layer.zero_grad()
    x = x.detach().clone().requires_grad_(of_input)
    output = subject.called(lambda: passed(subject, layer if call is None else call, x))
    return of_step(output, x, dict(layer.named_parameters()))


def step(
    subject: Subject,
    layer: nn.Module,
    x: Tensor,
    number: int = 0,
    *,
    steps: int = STEPS,
    call: Callable[[Tensor], Tensor] | None = None,
) -> Came:
    """Take a training step as a run does, the `number`-th from 0, and return its output, all gradients and the state.

    `call` is called in the layer's place, to compute the same.
    """
    came = gradients(subject, layer, x, number, steps=steps, call=call)
    with torch.no_grad():
        for parameter in layer.parameters():
            if parameter.grad is not None:
                parameter.sub_(RATE * parameter.grad)
    Methods(layer).after_step(number, steps)
    return came | state(layer)


def warm(subject: Subject, steps: int = WARM, samples: int = 8, **named: Any) -> nn.Module:
    """Return a layer that has seen some steps, and is told of the next: two of the same arguments are alike."""
    layer = made(subject, **named)
    dtype = named.get("dtype", torch.float32)
    first = STEPS - 1 - steps if subject.late else 0
    for number in range(steps):
        gradients(
            subject, layer, subject.input(samples, mean=0.5, std=1.5, draw=100 + number, dtype=dtype), first + number
        )
        Methods(layer).after_step(first + number, STEPS)
    Methods(layer).on_step(first + steps, STEPS)
    return layer


def trained(subject: Subject, layer: nn.Module, steps: int) -> Iterator[None]:
    """Train a layer for some steps as a run does, by plain gradient descent; yield after each."""
    for number in range(steps):
        step(subject, layer, subject.input(mean=0.5, std=1.5, draw=200 + number), number, steps=steps)
        yield


def fed(layer: nn.Module, inputs: Iterable[Tensor], steps: int) -> nn.Module:
    """Give a layer one batch after another as in training, with its clock, but without a backward; return it."""
    clock = Methods(layer)
    with torch.no_grad():
        for number, x in enumerate(inputs):
            clock.on_step(number, steps)
            layer(x)
            clock.after_step(number, steps)
    return layer


def evaluating(layer: nn.Module) -> nn.Module:
    """Put a layer into evaluation, as a training does."""
    Methods(layer).before_evaluation()
    return layer.eval()


def has_clock(layer: nn.Module) -> bool:
    """Whether a module of the layer has a method of a clock."""
    return any(having(layer, method) for method in CLOCK)


def phases(subject: Subject) -> list[Subject]:
    """Return a subject early and late in its training, if its layers have a clock; else as it is."""
    return [subject, replace(subject, late=True)] if has_clock(made(subject)) else [subject]


def drawn(call: Callable[[], Any]) -> list[str]:
    """Call something, and return which of the global generators it moved."""
    before = generators()
    call()
    now = generators()
    return [name for name, state in before.items() if state != now[name]]


def backward(subject: Subject, output: Tensor, gradient: Tensor | None = None) -> None:
    """Compute the backward of an output, where it has one, from a random gradient unless one is given."""
    subject.called(lambda: _backward(subject, output, gradient))


def _backward(subject: Subject, output: Tensor, gradient: Tensor | None) -> None:
    if output.requires_grad:
        torch.autograd.backward(output, subject.gradient(output) if gradient is None else gradient)


def toward(
    output: Tensor, leaves: Mapping[str, Tensor], gradient: Tensor | None = None, *, again: bool = False
) -> dict[str, Tensor]:
    """Return the gradients of an output, or a scalar, by leaf, 0 where there is none.

    They can be differentiated `again`.
    """
    if not output.requires_grad:
        return {name: torch.zeros_like(leaf) for name, leaf in leaves.items()}
    given = None if gradient is None else gradient.to(output.dtype)
    found = torch.autograd.grad(output, list(leaves.values()), given, create_graph=again, allow_unused=True)
    return {
        name: torch.zeros_like(leaf) if one is None else one
        for (name, leaf), one in zip(leaves.items(), found, strict=True)
    }


def of_step(output: Tensor, x: Tensor, parameters: Mapping[str, Tensor]) -> Came:
    """Return copies of an output and of the gradients that its backward has given."""
    named = {"its output": output, "the gradient of its input": x.grad}
    named |= {f"the gradient of its parameter {name!r}": value.grad for name, value in parameters.items()}
    return {name: value.detach().clone() for name, value in named.items() if value is not None}


def registered(layer: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield a layer's parameters and buffers, by what they are."""
    yield from ((f"its parameter {name!r}", value) for name, value in layer.named_parameters())
    yield from ((f"its buffer {name!r}", value) for name, value in layer.named_buffers())


def state(layer: nn.Module) -> Came:
    """Return copies of a layer's parameters and buffers."""
    return {name: value.detach().clone() for name, value in registered(layer)}


def contents(layer: nn.Module) -> dict[str, Tensor]:
    """Return copies of a layer's buffers, by name."""
    return {name: buffer.detach().clone() for name, buffer in layer.named_buffers()}


def attributes(layer: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors that are no parameters or buffers, by the attribute of a layer or its modules that holds them.

    It may hold them in lists, tuples, sets and dictionaries.
    """
    for at, module in layer.named_modules():
        for name, value in vars(module).items():
            if name not in _MODULES_OWN:
                yield from ((f"{at}.{name}" if at else name, tensor) for tensor in _held(value))


def _held(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple | set | dict):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _held(one)


def memory_of(tensor: Tensor) -> int:
    """Return the address of the memory that a tensor is in, with all its views."""
    return tensor.untyped_storage().data_ptr()

"""Training steps as checks take them, and how two are compared: what came of a step is tensors, by what they are."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from normbench.testing.results import Failed, Verdict
from normbench.testing.subject import Subject, off, tolerance

Came: TypeAlias = dict[str, Tensor]

#: The learning rate of a step, and the number of steps that `on_step` is told of, as sites are.
RATE, STEPS = 0.01, 100
#: What every module has in its dictionary.
_MODULES_OWN = frozenset(vars(nn.Module()))


def with_state_of(subject: Subject, layer: nn.Module) -> nn.Module:
    """Return a new layer with another's parameters and buffers, those that are not persistent too."""
    fresh = subject.layer()
    fresh.load_state_dict(copy.deepcopy(layer.state_dict()))
    others = dict(layer.named_buffers())
    with torch.no_grad():
        for name, buffer in fresh.named_buffers():
            buffer.copy_(others[name])
    return fresh


def step(
    subject: Subject, layer: nn.Module, x: Tensor, number: int = 0, *, call: Callable[[Tensor], Tensor] | None = None
) -> Came:
    """Take a training step as a run does, the `number`-th from 0, and return its output, all gradients and the state.

    `call` is called in the layer's place, to compute the same.
    """
    came = gradients(subject, layer, x, number, call=call)
    with torch.no_grad():
        for parameter in layer.parameters():
            if parameter.grad is not None:
                parameter.sub_(RATE * parameter.grad)
    tell(layer, "after_step", number)
    return came | state(layer)


def gradients(
    subject: Subject,
    layer: nn.Module,
    x: Tensor,
    number: int = 0,
    *,
    call: Callable[[Tensor], Tensor] | None = None,
    of_input: bool = True,
) -> Came:
    """Compute forward and backward of a step, and return its output and all gradients, that of its input `of_input`."""
    layer.train()
    tell(layer, "on_step", number)
    layer.zero_grad()
    given = x.detach().clone().requires_grad_(of_input)
    between = given.clone()  # no leaf, as in a network: of that torch would refuse any change in place
    output = subject.called(lambda: layer(between) if call is None else call(between))
    backward(subject, output)
    return of_step(output, given, dict(layer.named_parameters()))


def backward(subject: Subject, output: Tensor, gradient: Tensor | None = None) -> None:
    """Compute the backward of an output, where it has one, from a random gradient unless one is given."""
    if output.requires_grad:
        given = subject.gradient(output) if gradient is None else gradient
        subject.called(lambda: torch.autograd.backward(output, given))


def of_step(output: Tensor, x: Tensor, parameters: Mapping[str, Tensor]) -> Came:
    """Return copies of an output and of the gradients that its backward has given."""
    named = {"its output": output, "the gradient of its input": x.grad}
    named |= {f"the gradient of its parameter {name!r}": value.grad for name, value in parameters.items()}
    return {name: value.detach().clone() for name, value in named.items() if value is not None}


def state(layer: nn.Module) -> Came:
    """Return copies of a layer's parameters and buffers."""
    named: list[tuple[str, Tensor]] = [(f"its parameter {name!r}", value) for name, value in layer.named_parameters()]
    named += [(f"its buffer {name!r}", value) for name, value in layer.named_buffers()]
    return {name: value.detach().clone() for name, value in named}


def attributes(layer: nn.Module) -> Iterator[tuple[str, Any]]:
    """Yield what a layer and its modules hold that is no parameter, buffer or module, by its name."""
    for at, module in layer.named_modules():
        for name, value in vars(module).items():
            if name not in _MODULES_OWN:
                yield f"{at}.{name}" if at else name, value


def held(value: Any) -> Iterator[Tensor]:
    """Yield the tensors that an attribute holds, in lists, tuples and dictionaries too."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple | set | dict):
        for one in value.values() if isinstance(value, dict) else value:
            yield from held(one)


def different(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], times: float = 0.0) -> dict[str, Any] | None:
    """Return the first thing that differs beyond `times` units in the last place, and how far off it is; else None."""
    for name in {**wanted, **found}:
        if name not in found or name not in wanted:
            return {"what": name, "off": float("inf"), "allowed": 0.0}
        one, other = found[name], wanted[name]
        floating = other.is_floating_point() and other.numel()
        largest = max(1.0, float(other.detach().abs().nan_to_num(0, 0, 0).max())) if floating else 0.0
        allowed = tolerance(other.dtype, largest, times) if floating else 0.0
        if (distance := off(one, other)) > allowed:
            return {"what": name, "off": distance, "allowed": allowed}
    return None


def check_same(
    when: str,
    found: Mapping[str, Tensor],
    wanted: Mapping[str, Tensor],
    *,
    times: float = 0.0,
    verdict: type[Verdict] = Failed,
    cause: str = "",
    **fields: Any,
) -> None:
    """Raise the verdict where two steps differ beyond `times` units in the last place.

    `when` begins its sentence, and the usual `cause` ends it.
    """
    if seen := different(found, wanted, times):
        said = f"{when} {seen['what']} is another{cause and ': '}{cause}"
        raise verdict(said, off=seen["off"], allowed=seen["allowed"], **fields)


def memory_of(tensor: Tensor) -> int:
    """Return the address of the memory that a tensor is in, with all its views."""
    return tensor.untyped_storage().data_ptr()


def shown(x: Tensor) -> str:
    """Return an input as a report has it."""
    return f"{tuple(x.shape)}, normal numbers"


def tell(layer: nn.Module, hook: str, number: int) -> None:
    """Call a hook of a layer's modules, "on_step" or "after_step", as a run calls it at a step."""
    modules: list[Any] = list(layer.modules())
    for module in modules:
        if callable(getattr(module, hook, None)):
            getattr(module, hook)(number, STEPS)

"""Checks of a layer in other hands: compiled by torch, and as one of several lanes that are computed at once."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from normbench.testing.comparing import IN_ANOTHER_ORDER, check_same, normal
from normbench.testing.kit import check
from normbench.testing.results import Advice
from normbench.testing.steps import (
    STEPS,
    Came,
    attributes,
    backward,
    gradients,
    of_step,
    state,
    step,
)
from normbench.testing.subject import Subject
from normbench.train.methods import Methods

LANES = 2
#: The batch sizes that a compiled layer is given; all at one layout: each is compiled anew, which takes long.
SIZES = (4, 5, 1)


@check("compile", slow=True)
def compiles(subject: Subject) -> None:
    """Compiled without a break, a layer takes the same training steps as without, at one batch size after another.

    `compile = true` in a recipe compiles the network whole.
    """
    torch._dynamo.reset()
    layer, eager = subject.layer(), subject.layer()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    try:
        layouts = subject.norm.layouts
        sizes = SIZES if subject.layout == ("NCHW" if "NCHW" in layouts else min(layouts)) else SIZES[:1]
        for number, size in enumerate(sizes):
            _check_compiled(subject, compiled, layer, eager, subject.input(size, draw=number), number)
    finally:
        torch._dynamo.reset()


def _check_compiled(
    subject: Subject, compiled: Any, layer: nn.Module, eager: nn.Module, x: Tensor, number: int
) -> None:
    for again in range(2):
        try:
            wanted = step(subject, eager, x, 2 * number + again)
        except Exception:
            if number == 0:
                raise
            return  # a size that it can't have
        try:
            with warnings.catch_warnings(action="ignore"):
                came = step(subject, layer, x, 2 * number + again, call=compiled)
        except Exception as error:
            raise Advice(f"torch.compile(fullgraph=True) refuses it: {_first_line(error)}", input=normal(x)) from None
        if not subject.traits.draws:  # the compiler draws in an order of its own
            check_same("compiled,", came, wanted, x, times=IN_ANOTHER_ORDER)


@check("vectorised", slow=True)
def vectorised(subject: Subject) -> None:
    """Two layers of one kind are trained at once under torch.func.vmap as each is alone, their buffers as well.

    Trials of one norm that differ in their seed alone can be trained as the lanes of one.
    """
    x = torch.stack([subject.input(4, draw=draw) for draw in range(LANES)])
    base, *lanes = (subject.layer() for _ in range(LANES + 1))
    alone = [subject.layer() for _ in range(LANES)]
    for layers in (lanes, alone):
        for factor, layer in enumerate(layers, 1):
            subject.moved(layer)
            with torch.no_grad():
                for parameter in layer.parameters():
                    parameter.mul_(factor)  # lanes that are alike would show nothing
    for layer in (base, *lanes):
        Methods(layer).on_step(0, STEPS)
    try:
        with warnings.catch_warnings(action="ignore"):  # of what it is slow in
            came = _together(subject, base, lanes, x)
    except Exception as error:
        raise Advice(f"torch.func.vmap refuses it: {_first_line(error)}", input=normal(x[0])) from None
    for name, tensor in attributes(base):
        if torch._C._functorch.is_functorch_wrapped_tensor(tensor):
            raise Advice(f"its attribute {name!r} is lost under torch.func.vmap: make it a buffer", input=normal(x[0]))
    for number, layer in enumerate(alone):
        wanted = gradients(subject, layer, x[number]) | state(layer)
        lane = {name: value[number] for name, value in came.items()}
        if not subject.traits.draws:  # each lane draws in its turn
            when = "as one of two lanes under torch.func.vmap"
            check_same(when, lane, wanted, x[0], times=IN_ANOTHER_ORDER, verdict=Advice)


def _together(subject: Subject, base: nn.Module, lanes: Sequence[nn.Module], x: Tensor) -> Came:
    """Return what comes of forward and backward of all lanes at once, each tensor with the lanes as its first axis."""
    # Not torch.func.stack_module_state, which wants one class: a parametrized module has one of its own.
    states = [{**dict(lane.named_parameters()), **dict(lane.named_buffers())} for lane in lanes]
    stacked = {name: torch.stack([state[name].detach() for state in states]) for name in states[0]}
    buffers = {name: stacked[name] for name, _ in base.named_buffers()}
    parameters = {name: stacked[name].requires_grad_(like.requires_grad) for name, like in base.named_parameters()}
    given = x.clone().requires_grad_()

    def forward(parameters: Came, buffers: Came, x: Tensor) -> tuple[Tensor, Came]:
        named = {**parameters, **buffers}
        output = torch.func.functional_call(base, named, (x,))
        return output, {name: named[name] for name in buffers}  # a layer may have put others there

    lanes_of = torch.func.vmap(forward, randomness="different")
    output, moved = subject.called(lambda: lanes_of(parameters, buffers, given))
    backward(subject, output, torch.stack([subject.gradient(output[0])] * len(lanes)))
    came = of_step(output, given, parameters)
    came |= {f"its parameter {name!r}": value.detach() for name, value in parameters.items()}
    return came | {f"its buffer {name!r}": value.detach() for name, value in moved.items()}


def _first_line(error: Exception) -> str:
    """Return what an error says first: torch's go on for pages."""
    return textwrap.shorten(str(error).strip().partition("\n")[0] or type(error).__name__, 200)

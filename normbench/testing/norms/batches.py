"""Checks of what a layer does to its input, in the next batch, in two forwards at once, and in the same one again."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import torch
from torch import Tensor, nn

from normbench.testing.comparing import IN_ANOTHER_ORDER, check_same, differs, normal
from normbench.testing.kit import check
from normbench.testing.results import Failed
from normbench.testing.steps import (
    STEPS,
    Came,
    backward,
    gradients,
    memory_of,
    of_step,
    state,
    step,
    with_state_of,
)
from normbench.testing.subject import Subject
from normbench.train.methods import Methods

#: How many numbers make torch compute a batch in two threads.
LARGE = 2**16


@check("input")
def input_(subject: Subject) -> None:
    """A layer changes neither its input nor the gradient of its output, and its output is its own.

    What came before needs its output for its backward, and so does a shortcut around the layer.
    """
    for training, with_graph in ((True, True), (True, False), (False, False)):
        layer, x = subject.moved(subject.layer()), subject.input(4)
        step(subject, layer, subject.input(4, draw=1))  # statistics may be 0 and 1 at first
        layer.train(training)
        given = x.clone().requires_grad_(with_graph)
        when = f"in {'training' if training else 'evaluation'}{'' if with_graph else ' under no_grad'}"
        with torch.set_grad_enabled(with_graph):
            # Not the leaf itself, of which torch would refuse any change.
            between = given.clone()
            output = subject.run(layer, between)
        check_same(f"{when},", {"the input": between}, {"the input": x}, x)
        if memory_of(output) == memory_of(between) and differs(output, x, "", times=0):
            raise Failed(f"{when}, its output lies in the memory of its input and is not the same", input=normal(x))
        if with_graph:
            gradient = subject.gradient(output)
            before = {"the gradient of its output": gradient.clone()}
            backward(subject, output, gradient)
            check_same("in its backward,", {"the gradient of its output": gradient}, before, x)


@check("next batch")
def next_batch(subject: Subject) -> None:
    """Nothing of a batch is left for the next but the state: what follows is what a fresh layer computes from there.

    Batches differ in size, are evaluated in between, and fail; a checkpoint knows the state alone.
    """
    events: dict[str, Callable[[nn.Module], object]] = {
        "a larger batch": nn.Module.train,  # the first step has one
        "an evaluation of a larger batch": lambda layer: _evaluated(subject, layer, subject.input(12, draw=2)),
        "a batch that raised": lambda layer: _skipped(subject, layer, subject.input(8, subject.channels + 1)),
        "a batch of nan that was skipped": lambda layer: _skipped(subject, layer, subject.input(8) * torch.nan),
    }
    x = subject.input(4)
    for name, event in events.items():
        layer = subject.moved(subject.layer())
        step(subject, layer, subject.input(8, draw=1))
        event(layer)
        layer.train()
        fresh = with_state_of(subject, layer)
        came, wanted = (step(subject, one, x, 1) for one in (layer, fresh))
        check_same(f"in the step after {name}", came, wanted, x)
    for training in (True, False):
        layer = subject.layer().train(training)
        modes = [module.training for module in layer.modules()]
        with torch.no_grad():
            output = subject.run(layer, x)
            before = {"the output of the batch before": output.clone()}
            subject.run(layer, subject.input(4, draw=1))
        check_same("after the next batch", {"the output of the batch before": output}, before, x)
        if modes != [module.training for module in layer.modules()]:
            raise Failed(
                f"a forward in {'training' if training else 'evaluation'} ends in the other mode", input=normal(x)
            )


def _evaluated(subject: Subject, layer: nn.Module, x: Tensor) -> None:
    with torch.no_grad():
        subject.run(layer.eval(), x)


def _skipped(subject: Subject, layer: nn.Module, x: Tensor) -> None:
    with suppress(Exception):
        gradients(subject, layer, x)


@check("twice")
def twice(subject: Subject) -> None:
    """Two forwards before their backwards give the right gradients, and a forward moves statistics once, graph or not.

    A network may be given two batches before its loss is known, and weights that are shared see several inputs.
    """

    def forward(layer: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
        given = x.clone().requires_grad_()
        return subject.run(layer, given), given

    def gradients_of(layer: nn.Module, output: Tensor, x: Tensor) -> Came:
        layer.zero_grad()
        backward(subject, output)
        return of_step(output, x, dict(layer.named_parameters()))

    inputs = [subject.input(4, draw=draw) for draw in (0, 1)]
    after_another, together = subject.layer(), subject.layer()
    for layer in (after_another, together):
        Methods(layer).on_step(0, STEPS)
    wanted = [gradients_of(after_another, *forward(after_another, x)) for x in inputs]
    both = [forward(together, x) for x in inputs]
    moved = state(together)
    for which, one, alone in zip(("first", "second"), both, wanted, strict=True):
        came = gradients_of(together, *one)
        check_same(f"of two forwards before two backwards, in the {which}", came, alone, inputs[0])
    _check_moved_once(subject, moved, state(together))


def _check_moved_once(subject: Subject, before: dict[str, Tensor], after: dict[str, Tensor]) -> None:
    """Raise Failed where a backward moves what a forward has moved, or a forward without a graph moves it otherwise."""
    x, came = subject.input(4), []
    for graph in (False, True):
        layer = subject.layer()
        Methods(layer).on_step(0, STEPS)
        begun = state(layer)
        with torch.set_grad_enabled(graph):
            came.append({"its output": subject.run(layer, x).detach(), **state(layer)})
    without, with_graph = came
    check_same("in a forward under no_grad in training", without, with_graph, x, times=100)
    for name, value in begun.items():
        by_forward = differs(with_graph[name], value, "", times=0)
        if by_forward and differs(after[name], before[name], "", times=0):
            raise Failed(f"{name} moves in a forward, and once more in its backward", input=normal(x))


@check("repeats")
def repeats(subject: Subject) -> None:
    """From the same state, the same input gives the same bits.

    A trial is repeated from its seed, and two norms are compared on the same draws.
    """
    x = subject.input(4)
    came, again = (step(subject, subject.moved(subject.layer()), x) for _ in range(2))
    check_same("in a second try", again, came, x)


@check("threads", slow=True)
def threads(subject: Subject) -> None:
    """In two threads a layer computes what it computes in one, to rounding.

    The number of threads is no property of a norm, and a task says how many it is trained with.
    """
    x = subject.input(LARGE // subject.input(1).numel())
    came = []
    for number in (1, 2):
        torch.set_num_threads(number)
        came.append(step(subject, subject.moved(subject.layer()), x))
    check_same("in two threads", came[1], came[0], x, times=IN_ANOTHER_ORDER)

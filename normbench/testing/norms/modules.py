"""Checks of a layer as a module: its copies, its twin, its parameters, where it can be moved, the hooks on it."""

from __future__ import annotations

import copy
import functools
import pickle
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from normbench.testing.comparing import IN_ANOTHER_ORDER, check_same, normal
from normbench.testing.kit import check
from normbench.testing.results import Advice, Failed
from normbench.testing.steps import (
    attributes,
    gradients,
    memory_of,
    registered,
    state,
    step,
    with_state_of,
)
from normbench.testing.subject import Subject
from normbench.texts import in_a_line


@check("copies")
def copies(subject: Subject) -> None:
    """A copy of a layer, or a fresh one with its state_dict, takes the same next step to the bit, and shares nothing.

    Checkpoints, averaged weights and a network that is tried before it is trained are made of copies.
    """
    layer = subject.moved(subject.layer())
    x, following = subject.input(4), subject.input(4, draw=1)
    names = list(layer.state_dict())
    untouched = copy.deepcopy(layer)
    wanted = step(subject, layer, x)
    check_same("in a step of a deep copy", step(subject, untouched, x), wanted, x)
    if changed := set(names) ^ set(layer.state_dict()):
        raise Failed(f"its first forward changed the names in its state_dict: {', '.join(sorted(changed))}")
    copied = copy.deepcopy(layer)
    fresh = subject.layer()
    fresh.load_state_dict(copy.deepcopy(layer.state_dict()))
    try:
        pickled = pickle.loads(pickle.dumps(layer))
    except Exception as error:
        pickled, refused = None, error
    before = state(layer)
    came = step(subject, copied, following, 1)
    check_same("after a step of its deep copy", state(layer), before, x)
    wanted = step(subject, layer, following, 1)
    lost = "something that it computes with is in no state_dict; make it a buffer"
    check_same("in the step after a deep copy", came, wanted, x)
    came = step(subject, fresh, following, 1)
    check_same("in the step after load_state_dict into a fresh layer", came, wanted, x, cause=lost)
    if pickled is None:
        raise Advice(f"it can't be pickled: {in_a_line(refused)}")
    check_same("in the step after pickle", step(subject, pickled, following, 1), wanted, x)


@check("two layers")
def two_layers(subject: Subject) -> None:
    """Two layers that are built alike begin alike and share nothing: the steps of one leave the other as it was.

    A network has one layer at each site, and a process trains one network after another.
    """
    one, other = subject.layer(), subject.layer()
    check_same("of two that are built from one seed,", state(other), state(one))
    shared = {memory_of(tensor): name for name, tensor in _own(one)}
    for name, tensor in _own(other):
        if (known := shared.get(memory_of(tensor))) and tensor.numel():
            raise Failed(f"two layers share memory: {known} of one is {name} of the other")
    x = subject.input(4)
    first = step(subject, one, x)
    before = state(other)
    for number in (1, 2):
        step(subject, one, subject.input(4, draw=number), number)
    check_same("after steps of another layer,", state(other), before, x)
    check_same(
        "in a first step that follows those of another layer,",
        step(subject, other, x),
        first,
        x,
        cause="they keep something in one place, as in their class, their module or a default argument",
    )


@check("parameters")
def parameters(subject: Subject) -> None:
    """Weights are parameters from the start, each gets a gradient in every training step, and they can be frozen.

    The optimizer is made before the first step, and training on several devices waits for the gradient of each.
    """
    layer = subject.moved(subject.layer())
    before = dict(layer.named_parameters())
    for name, parameter in before.items():
        if isinstance(parameter, nn.UninitializedParameter):
            raise Failed(f"its parameter {name!r} has no shape before the first forward")
        if not parameter.is_leaf or not (parameter.is_floating_point() or parameter.is_complex()):
            raise Failed(f"its parameter {name!r} can't be trained: {parameter.dtype}, leaf {parameter.is_leaf}")
    x = subject.input(4).requires_grad_()
    output = subject.run(layer, x)
    known = {id(value) for value in before.values()} | {id(x)}
    if strangers := [leaf for leaf in _leaves(output) if id(leaf) not in known]:
        raise Failed(
            f"it computes with a weight of shape {tuple(strangers[0].shape)} that is not among its parameters as it "
            "was built: nothing trains it",
            input=normal(x),
        )
    gradients(subject, layer, x)
    after = dict(layer.named_parameters())
    if changed := [name for name in {**before, **after} if before.get(name) is not after.get(name)]:
        raise Failed(f"its parameter {changed[0]!r} was replaced or removed in a forward", input=normal(x))
    for name, parameter in before.items():
        if parameter.requires_grad and parameter.grad is None:
            raise Failed(
                f"its parameter {name!r} gets no gradient in a training step",
                input=normal(x),
                declare='expected={"parameters": "why"}; on several devices it needs ddp_find_unused_parameters_true',
            )
    _check_assigned(subject)
    _check_frozen(subject)


def _check_assigned(subject: Subject) -> None:
    saved, x = subject.moved(subject.layer()).state_dict(), subject.input(4)
    came = []
    for assign in (False, True):
        layer = subject.layer()
        layer.load_state_dict(copy.deepcopy(saved), assign=assign)
        came.append(step(subject, layer, x))
    check_same("after load_state_dict(..., assign=True)", came[1], came[0], x)


def _check_frozen(subject: Subject) -> None:
    x = subject.input(4)
    usual, frozen, first = (subject.moved(subject.layer()) for _ in range(3))
    wanted = gradients(subject, usual, x)
    of_input = {name: value for name, value in wanted.items() if "parameter" not in name}
    came = gradients(subject, frozen.requires_grad_(False), x)
    check_same("with frozen parameters", came, of_input, x, times=IN_ANOTHER_ORDER)
    wanted.pop("the gradient of its input", None)
    came = gradients(subject, first, x, of_input=False)
    check_same("with an input that needs no gradient", came, wanted, x, times=IN_ANOTHER_ORDER)


@check("moves")
def moves(subject: Subject) -> None:
    """A layer that is moved to another type or device takes all with it that it computes with, what it cached as well.

    A network is built on the CPU, and moved to where it is trained.
    """
    x, following = subject.input(4), subject.input(4, draw=1, dtype=torch.float64)
    used = subject.moved(subject.layer())
    step(subject, used, x)
    fresh = with_state_of(subject, used)
    wanted, came = (step(subject, layer.double(), following, 1) for layer in (fresh, used))
    cached = "it keeps something of the other type; make it a buffer"
    check_same("in a step after double(), which followed one in float32,", came, wanted, x, cause=cached)
    layer = subject.layer()
    step(subject, layer, x)
    layer.to("meta")
    behind = [name for name, tensor in _own(layer) if tensor.device.type != "meta" and tensor.dim()]
    if not behind:
        return
    try:
        subject.run(layer, x.to("meta"))
    except Exception as error:
        raise Failed(
            f"to('meta') leaves {behind[0]} behind, and a forward there raises {in_a_line(error)}; make it a buffer",
            input=normal(x),
        ) from None
    raise Advice(f"to(device) leaves {behind[0]} behind, so that each forward moves it: make it a buffer")


@check("hooks")
def hooks(subject: Subject) -> None:
    """Hooks of the user's on a layer and on its modules are called, once for each forward, and change nothing.

    Probes, profilers, pruning and quantization work through them.
    """
    x = subject.input(4)
    wanted = gradients(subject, subject.layer(), x)
    layer = subject.layer()
    called: Counter[str] = Counter()
    for name, module in layer.named_modules():
        module.register_forward_hook(lambda *_, name=name: called.update([name]))
        module.forward = functools.partial(_counted, module.forward, called, f"{name}()")
    layer.register_full_backward_hook(lambda *_: called.update(["backward"]))
    check_same("with hooks on it", gradients(subject, layer, x), wanted, x)
    if called[""] != 1:
        raise Failed(f"a forward hook of the layer was called {called['']} times in a forward", input=normal(x))
    if "the gradient of its input" in wanted and called["backward"] != 1:
        raise Failed(f"a backward hook of the layer was called {called['backward']} times", input=normal(x))
    for name, _ in layer.named_modules():
        if called[name] < called[f"{name}()"]:
            raise Advice(f"it calls the forward of its module {name!r} and not the module: hooks there see nothing")


def _counted(forward: Callable[..., Any], called: Counter[str], name: str, *inputs: Any, **named: Any) -> Any:
    called[name] += 1
    return forward(*inputs, **named)


def _own(layer: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield every tensor that a layer holds, by what it is."""
    yield from registered(layer)
    yield from ((f"its attribute {name!r}", tensor) for name, tensor in attributes(layer))


def _leaves(output: Tensor) -> Iterator[Tensor]:
    """Yield the tensors that an output's graph ends in."""
    todo, seen = [output.grad_fn], set()
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        todo += [before for before, _ in node.next_functions]
        leaf = getattr(node, "variable", None)
        if isinstance(leaf, Tensor):
            yield leaf

"""Checks of how a layer is made, and of what it takes and gives."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from normbench.contract import Unsupported
from normbench.testing.comparing import off, shown
from normbench.testing.kit import check
from normbench.testing.results import Advice, Failed, NotApplicable
from normbench.testing.subject import Subject
from normbench.texts import in_a_line

#: The numbers of channels that are tried.
CHANNELS = (1, 3, 8, 64)


@check("builds")
def builds(subject: Subject) -> None:
    """A layer for any number of channels returns a tensor of its input's shape, type and device.

    Networks are built around that: what comes after a norm expects what came before it. A parameter that is given at
    its default changes nothing, as a suite that names it is to train the same layer.
    """
    built = [
        _check_output(subject, channels, activation)
        for channels in CHANNELS
        for activation in ((None, "relu") if subject.norm.placement == "fused" else (None,))
    ]
    if not any(built):
        # All other checks of this layout would not apply, and a norm that was checked for nothing would pass.
        numbers = ", ".join(map(str, CHANNELS))
        said = f"it supports none of {numbers} channels, so that nothing can be checked"
        raise Failed(said, declare=f"layouts without {subject.layout!r}")
    _check_activation(subject)
    x = subject.input()
    left_out, given = (one.run(one.layer(), x) for one in (subject, subject.with_params(**subject.every_param)))
    if off(left_out, given):
        raise Failed("with every parameter given at its default it computes something else", input=shown(x))


def _check_output(subject: Subject, channels: int, activation: str | None) -> bool:
    """Return whether there is such a layer; raise `Failed` for what it gives."""
    try:
        layer = subject.layer(channels, activation=activation)
    except Unsupported:
        return False
    except Exception as error:
        said = f"with {channels} channels it raises {type(error).__name__}: {in_a_line(error)}"
        raise Failed(said, declare='raise normbench.Unsupported("why") as such a layer is built') from error
    x = subject.input(8, channels)
    for training in (True, False):
        mode = "training" if training else "evaluation"
        try:
            output = subject.run(layer.train(training), x)
        except Unsupported as error:
            # A forward comes after hours of other trials; and a check that meets it would say nothing.
            said = f"in {mode} its forward raises Unsupported: {in_a_line(error)}"
            raise Failed(said, input=_described(x), declare="raise it as the layer is built, from its site") from None
        if not isinstance(output, Tensor):
            raise Failed(f"in {mode} its output is a {type(output).__name__}", input=_described(x))
        if _described(output) != _described(x):
            raise Failed(f"in {mode} its output is {_described(output)}", input=_described(x))
    return True


def _check_activation(subject: Subject) -> None:
    """Raise `Failed` where a fused layer gives the same with an activation and without."""
    if subject.activation is None:
        return
    x = subject.input()
    try:
        without = subject.run(subject.layer(activation=None), x)
    except Unsupported:
        return
    if not off(subject.run(subject.layer(), x), without):
        said = f"it gives the same with the activation {subject.activation} and without: it is to include it"
        raise Failed(said, input=shown(x), declare='placement="before"')


def _described(x: Tensor) -> str:
    return f"{tuple(x.shape)} {x.dtype} on {x.device}"


@check("wrong shape")
def wrong_shape(subject: Subject) -> None:
    """An input with one channel more is refused.

    A network that was put together wrongly would train all the same, and be believed. It is advice where a layer has
    nothing of the size of its channels, and so cannot know; and where it makes another shape of an input with one
    channel, or with an axis less.
    """
    if subject.traits.identity:
        raise NotApplicable("it normalizes nothing, and takes what there is")
    layer, channels = subject.layer(), subject.channels
    x = subject.input(channels=channels + 1)
    if _output(subject, x) is not None:
        said = f"a layer for {channels} channels takes {channels + 1}"
        if _shapes(layer) != _shapes(subject.layer(2 * channels)):
            raise Failed(said, input=shown(x))
        raise Advice(f"{said}: it has nothing of the size of its channels", input=shown(x))
    single, space = subject.input(channels=1), 1 if subject.layout == "NLC" else -1
    for x in (single, subject.input().select(space, 0) if subject.spatial else single):
        output = _output(subject, x)
        if output is not None and output.shape != x.shape:
            raise Advice(f"it takes a wrong shape, and makes {tuple(output.shape)} of it", input=shown(x))


def _shapes(layer: nn.Module) -> list[torch.Size]:
    """Return the shapes of a layer's parameters and buffers: those per channel are others at another number of them."""
    return [value.shape for value in [*layer.parameters(), *layer.buffers()]]


def _output(subject: Subject, x: Tensor) -> Tensor | None:
    """Return a new layer's output, or None where it refuses the input."""
    try:
        return subject.run(subject.layer(), x)
    except Exception:
        return None


@check("memory format")
def memory_format(subject: Subject) -> None:
    """The output lies in memory as the input does: channels last stays channels last.

    The next convolution pays for another order with a copy. That is advice: the numbers are the same.
    """
    if subject.layout != "NCHW":
        raise NotApplicable("torch has channels last for NCHW alone")
    for form, name in ((torch.contiguous_format, "contiguous"), (torch.channels_last, "channels last")):
        x = subject.input().contiguous(memory_format=form)
        if not subject.run(subject.layer(), x).is_contiguous(memory_format=form):
            raise Advice(f"of an input that is {name} the output is not", input=shown(x, name))

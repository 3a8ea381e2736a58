"""Checks of what a layer does in other types than float32."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle, islice

import torch
from torch import Tensor

from normbench.testing.comparing import check_near, largest, off, shown
from normbench.testing.kit import check
from normbench.testing.norms.numbers import (
    EVALUATED,
    GRADIENT,
    OUTPUT,
    Exact,
    computed,
    drawn_parameters,
    shrunk,
    with_parameters,
)
from normbench.testing.results import Advice, Failed, NotApplicable
from normbench.testing.steps import fed
from normbench.testing.subject import Subject
from normbench.texts import in_a_line

HALVES = (torch.bfloat16, torch.float16)
#: How many steps running statistics are followed, and how far off they may be then.
STEPS, SHARE = 1000, 0.05


@check("dtypes")
def dtypes(subject: Subject) -> None:
    """The output has its input's type, under autocast autocast's or float32, and numbers near those of float32.

    In half precision the next layer refuses another type, and float32 by oversight costs twice the memory. A float32
    layer that promotes an input in half precision, or refuses it, is advice, as are large numbers in half precision.
    """
    for dtype in (torch.float64, torch.bfloat16):
        shrunk(lambda samples, dtype=dtype: _check_module(subject, dtype, samples))  # type: ignore[misc]
    shrunk(lambda samples: _check_autocast(subject, samples))
    advice = [said for said in (*(_mixed(subject, dtype) for dtype in HALVES), _large(subject)) if said]
    if advice:
        raise Advice("; ".join(advice))


def _named(dtype: torch.dtype) -> str:
    """Return the name of a type, without `torch.`."""
    return str(dtype).removeprefix("torch.")


def _check_module(subject: Subject, dtype: torch.dtype, samples: int) -> None:
    """Raise `Failed` where a layer of a type gives another type, or numbers that are not near."""
    parameters, x = drawn_parameters(subject, dtype), subject.input(samples, dtype=dtype)
    gradient = subject.gradient(x)
    found = computed(subject, with_parameters(subject, dtype, parameters), x, gradient)
    for name in (name for name in (OUTPUT, EVALUATED, GRADIENT) if name in found):
        if found[name].dtype != dtype:
            given = shown(x, f"layer and input in {_named(dtype)}")
            raise Failed(f"{name} is {_named(found[name].dtype)}", input=given)
    if dtype != torch.float64:
        _exact(subject, x, gradient, parameters).check(found, f"in {_named(dtype)}", x, "")


def _exact(subject: Subject, x: Tensor, gradient: Tensor, parameters: dict[str, Tensor]) -> Exact:
    return Exact(subject, x, gradient, parameters, std=float(x.double().std()))


def _check_autocast(subject: Subject, samples: int) -> None:
    parameters = drawn_parameters(subject, torch.float32)
    x = subject.input(samples, dtype=torch.bfloat16)
    gradient = subject.gradient(x)
    exact = _exact(subject, x, gradient, parameters)
    for given in (x, x.float()):
        layer = with_parameters(subject, torch.float32, parameters)
        with torch.autocast("cpu", torch.bfloat16):
            found = computed(subject, layer, given, gradient)
        said = f"autocast to bfloat16, input in {_named(given.dtype)}"
        for name in (OUTPUT, EVALUATED):
            if found[name].dtype not in (torch.bfloat16, torch.float32):
                raise Failed(f"{name} is {_named(found[name].dtype)}", input=shown(x, said))
            exact.check({name: found[name]}, "under autocast", x, said)


def _mixed(subject: Subject, dtype: torch.dtype) -> str:
    """Return what is to be said of a float32 layer with an input in half precision; raise `Failed` where it is wrong.

    One that wraps a linear is left out: linears refuse that.
    """
    if subject.wraps:
        return ""
    parameters, x = drawn_parameters(subject, torch.float32), subject.input(dtype=dtype)
    try:
        output = subject.run(with_parameters(subject, torch.float32, parameters), x).detach()
    except Exception as error:
        return f"in float32 it refuses an input in {_named(dtype)}: {in_a_line(error)}"
    given = shown(x, f"layer in float32, input in {_named(dtype)}")
    if output.dtype not in (dtype, torch.float32):
        raise Failed(f"{OUTPUT} is {_named(output.dtype)}", input=given)
    _exact(subject, x, subject.gradient(x), parameters).check({OUTPUT: output}, f"of {_named(dtype)}", x, given)
    return f"in float32 it makes float32 of {_named(dtype)}" if output.dtype != dtype else ""


def _large(subject: Subject) -> str:
    """Return what is to be said of numbers whose squares half precision can't hold."""
    parameters, x = drawn_parameters(subject, torch.float16), subject.input(std=300.0, dtype=torch.float16)
    gradient = subject.gradient(x)
    try:
        found = computed(subject, with_parameters(subject, torch.float16, parameters), x, gradient)
        exact = Exact(subject, x, gradient, parameters, std=300.0)
        exact.check({OUTPUT: found[OUTPUT]}, "in float16", x, "")
    except Failed:
        return "in float16 numbers of 300 give wrong ones: their squares are infinite"
    except Exception as error:
        return f"in float16 it raises {type(error).__name__}: {in_a_line(error)}"
    return ""


@check("running statistics", slow=True, once=True)
def running_statistics(subject: Subject) -> None:
    """After 1,000 steps in bfloat16 a layer's buffers are within 5% of those of the same layer in float32.

    A step of a running average, or of a count, is soon smaller than bfloat16's last digit: the average stops on its
    way, and a count at 256. Evaluation then computes with statistics that nothing ever had.
    """
    pool = [subject.input(mean=3.0, std=2.0, dtype=torch.bfloat16, draw=draw) for draw in range(16)]
    before = dict(subject.layer().named_buffers())
    truth, found = (_after(subject, dtype, pool) for dtype in (torch.float32, torch.bfloat16))
    moved = [name for name, one in truth.items() if one.is_floating_point() and off(one, before[name])]
    if not moved:
        raise NotApplicable("no buffer moves in training")
    for name in moved:
        said, where = f"in bfloat16 {name} is off after {STEPS} steps", f"{STEPS} times {shown(pool[0])}, mean 3, std 2"
        check_near(found[name], truth[name], SHARE * largest(truth[name]), said, where)


def _after(subject: Subject, dtype: torch.dtype, pool: Sequence[Tensor]) -> dict[str, Tensor]:
    """Return the buffers of a layer of a type after the steps."""
    layer, inputs = subject.layer(dtype=dtype, steps=STEPS), [x.to(dtype) for x in pool]
    subject.called(lambda: fed(layer, islice(cycle(inputs), STEPS), STEPS))
    return dict(layer.named_buffers())

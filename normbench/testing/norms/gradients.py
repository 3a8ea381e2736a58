"""Checks of what a layer gives back: its gradients, against finite differences and against each other."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from normbench.testing.comparing import check_near, largest, shown
from normbench.testing.kit import check
from normbench.testing.norms.numbers import INPUT, shrunk
from normbench.testing.results import Advice, Failed, NotApplicable
from normbench.testing.steps import STEPS as RUN
from normbench.testing.steps import phases, toward
from normbench.testing.subject import Subject
from normbench.train.methods import Methods

Moves = Mapping[str, Tensor]


class _Steps(NamedTuple):
    """The step of finite differences, and what is asked of them, each a share of the size of what it is about.

    Where those of two steps are more than `settled` apart, they say nothing. A derivative may be off by `allowed`, and
    what is differentiated by `rounding`.
    """

    step: float
    settled: float
    allowed: float
    rounding: float


#: In float64, and for what computes in float32 whatever it is given.
STEPS = (_Steps(1e-6, 1e-6, 1e-5, 1e-14), _Steps(1e-4, 3e-3, 3e-2, 1e-7))
#: The last step of a training.
LAST = RUN - 1
#: How many inputs are tried until finite differences settle.
TRIES = 4


class _Point(NamedTuple):
    """A layer's output, and what it was computed from, by name: the input and the parameters."""

    output: Tensor
    leaves: dict[str, Tensor]


def _point(
    subject: Subject, x: Tensor, moves: Moves, *, training: bool = True, only: Collection[str] | None = None
) -> _Point:
    """Compute with a new layer, which has seen a batch, from an input and parameters moved by `moves`.

    A new one each time, as what a layer keeps, in buffers or elsewhere, has to be as it was before. With `only`, no
    other leaf needs a gradient.
    """
    layer = subject.layer(dtype=x.dtype)
    moved = x + moves[INPUT] if INPUT in moves else x.clone()
    parameters = {name: one for name, one in layer.named_parameters() if one.requires_grad}
    leaves = {INPUT: moved.requires_grad_(), **parameters}

    def call() -> Tensor:
        Methods(layer).on_step(LAST if subject.late else 0, LAST + 1)
        layer(subject.input(8, mean=-0.5, dtype=x.dtype, draw=100))
        subject.moved(layer).train(training)
        with torch.no_grad():
            for name in moves.keys() & parameters.keys():
                parameters[name].add_(moves[name])
        for name in leaves.keys() - (leaves if only is None else only):
            leaves[name].requires_grad_(False)
        output: Tensor = layer(moved)
        return output

    return _Point(subject.called(call), leaves)


class _Difference(NamedTuple):
    """How far a derivative is from finite differences, in relation to its size, and how far it may be."""

    off: float
    allowed: float

    @property
    def agrees(self) -> bool:
        return self.off <= self.allowed


def _difference(
    value: Callable[[Moves], tuple[float, float]], gradients: Mapping[str, Tensor], moves: Moves
) -> _Difference | None:
    """Return how far gradients are from finite differences along `moves`, or None where these do not settle.

    `value` gives a number, and the size of what was added up to it. At a kink, differences of two steps disagree.
    """
    derivative = sum(float((gradients[name] * move).sum()) for name, move in moves.items())
    norm = math.hypot(*(float(gradients[name].norm()) for name in moves))

    def central(step: float) -> tuple[float, float]:
        (above, size), (below, _) = (value({name: at * move for name, move in moves.items()}) for at in (step, -step))
        return (above - below) / (2 * step), size

    for steps in STEPS:
        (near, size), (far, _) = central(steps.step), central(2 * steps.step)
        scale, noise = max(norm, abs(near)), steps.rounding * size / steps.step
        if abs(near - far) <= steps.settled * scale + noise:
            scale = scale or 1.0
            return _Difference(abs(near - derivative) / scale, steps.allowed + noise / scale)
    return None


class _Verdict(NamedTuple):
    """What finite differences say of a gradient, None where they did not settle, and the input that shows it."""

    difference: _Difference | None
    x: Tensor


def _verdict(tries: Iterable[tuple[_Difference | None, Tensor]]) -> _Verdict:
    """Return the first difference that agrees, or the second that does not: one that is off has to be seen twice."""
    wrong, x = False, torch.empty(0)
    for difference, x in tries:
        if difference is not None:
            if wrong or difference.agrees:
                return _Verdict(difference, x)
            wrong = True
    return _Verdict(None, x)


def _input(subject: Subject, samples: int, draw: int) -> Tensor:
    return subject.input(samples, mean=0.5, std=1.5, dtype=torch.float64, draw=draw)


def _total(terms: Tensor) -> tuple[float, float]:
    """Return a sum, and the size of what was added up."""
    terms = terms.detach().double()
    return float(terms.sum()), float(terms.norm())


def _direction(subject: Subject, leaf: Tensor, draw: int) -> Tensor:
    return subject.gradient(leaf, draw=1000 + draw)


def _first(subject: Subject, name: str, samples: int, *, training: bool) -> _Verdict:
    """Compare the gradient of the input or of a parameter with finite differences."""

    def tries() -> Iterator[tuple[_Difference | None, Tensor]]:
        for draw in range(TRIES):
            x = _input(subject, samples, draw)
            output, leaves = _point(subject, x, {}, training=training)
            weights = subject.gradient(output, draw)

            def value(moves: Moves, x: Tensor = x, weights: Tensor = weights) -> tuple[float, float]:
                return _total(_point(subject, x, moves, training=training).output * weights)

            gradients = toward((output * weights).sum(), leaves)
            yield _difference(value, gradients, {name: _direction(subject, leaves[name], draw)}), x

    return _verdict(tries())


@check("gradient")
def gradient(subject: Subject) -> None:
    """The gradient is that of what the layer computes, of its input and its parameters, or what the norm says it is.

    A backward that is written by hand goes wrong in ways that training hides: it gets a little worse. Finite
    differences in float64, with the state as it was, show it. A part that is kept out of the gradient shows too.
    """
    for one in itertools.chain.from_iterable(map(phases, _affine_too(subject))):
        if one.traits.gradient == "none":
            _check_none(one)
        for training in (True, False) if one.traits.gradient == "exact" else (True,):
            _check_gradients(one, training=training)
    if subject.traits.gradient == "own":
        _check_own(phases(subject)[-1])  # late: a layer may begin as another


def _affine_too(subject: Subject) -> list[Subject]:
    """Return the norm, and where it has a switch `affine`, with that the other way."""
    affine = subject.every_param.get("affine")
    return [subject, *([subject.with_params(affine=not affine)] if isinstance(affine, bool) else [])]


def _check_gradients(subject: Subject, *, training: bool) -> None:
    """Raise for a gradient that finite differences contradict; of the input only where that is to be exact."""
    claim, mode = subject.traits.gradient, "training" if training else "evaluation"
    names = _point(subject, _input(subject, 8, 0), {}).leaves

    def test(samples: int, name: str) -> None:
        difference, x = _first(subject, name, samples, training=training)
        if difference is None:
            raise Advice(f"in {mode} finite differences don't settle for the gradient of {name}", input=shown(x))
        if not difference.agrees:
            said = f"in {mode} the gradient of {name} is not that of what it computes (relative to its size)"
            if claim == "own":
                raise Advice(said, input=shown(x))
            declare = 'Traits(gradient="own")' if claim == "exact" else ""
            raise Failed(said, input=shown(x), off=difference.off, allowed=difference.allowed, declare=declare)

    advice = None
    for name in names:
        if name != INPUT or claim == "exact":
            try:
                shrunk(lambda samples, name=name: test(samples, name))  # type: ignore[misc]
            except Advice as said:  # the next may fail
                advice = said
    if advice:
        raise advice


def _check_own(subject: Subject) -> None:
    difference, x = _first(subject, INPUT, 8, training=True)
    if difference is not None and difference.agrees:
        raise Advice('it says gradient="own", and that of its input is exact', input=shown(x))
    raise NotApplicable('it says gradient="own"; those of its parameters are exact')


def _check_none(subject: Subject) -> None:
    x = _input(subject, 8, 0)
    output, leaves = _point(subject, x, {})
    if toward((output * subject.gradient(output)).sum(), leaves)[INPUT].any():
        said = 'it says gradient="none", and a gradient reaches its input'
        raise Failed(said, input=shown(x), declare='Traits(gradient="exact"), or "own"')


@check("second derivative")
def second_derivative(subject: Subject) -> None:
    """The gradient's own gradient is right, or raises: it is never silently wrong.

    Gradient penalties, Hessians and some optimizers differentiate twice. A backward by hand that keeps tensors which it
    computed itself loses the graph, and gives zeros without a word.
    """
    if subject.traits.gradient != "exact":
        raise NotApplicable(f'it says gradient="{subject.traits.gradient}"')

    def test(samples: int) -> None:
        for of_input in (True, False):
            difference, x = _second(subject, samples, of_input)
            if difference is not None and not difference.agrees:
                of = INPUT if of_input else "its parameters"
                said = f"the derivative by {of} of the gradient of {INPUT} is wrong (relative to its size)"
                raise Failed(said, input=shown(x), off=difference.off, allowed=difference.allowed)

    shrunk(test)


def _second(subject: Subject, samples: int, of_input: bool) -> _Verdict:
    """Compare what the input's gradient gives when it is differentiated with finite differences of it."""

    def tries() -> Iterator[tuple[_Difference | None, Tensor]]:
        for draw in range(TRIES):
            x = _input(subject, samples, draw)

            def projected(moves: Moves, *, again: bool, x: Tensor = x, draw: int = draw) -> _Point:
                output, leaves = _point(subject, x, moves)
                # It needs a gradient itself, as one that comes through weights does: without, and without `backward`,
                # torch's `once_differentiable` would not be heard.
                scalar = (output * subject.gradient(output, draw).requires_grad_()).sum()
                first = toward(scalar, {INPUT: leaves[INPUT]}, again=again)[INPUT]
                return _Point(first * subject.gradient(x, 10 + draw), leaves)

            def value(moves: Moves, projected: Callable[..., _Point] = projected) -> tuple[float, float]:
                return _total(projected(moves, again=False).output)

            terms, leaves = projected({}, again=True)
            try:
                torch.autograd.backward(terms.sum()) if terms.requires_grad else None
            except (RuntimeError, NotImplementedError):
                return  # it says that it can't be differentiated twice
            leaves = {name: leaf for name, leaf in leaves.items() if (name == INPUT) == of_input}
            moves = {name: _direction(subject, leaf, draw) for name, leaf in leaves.items()}
            found = {name: torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for name, leaf in leaves.items()}
            yield _difference(value, found, moves), x

    return _verdict(tries())


@check("linear gradient")
def linear_gradient(subject: Subject) -> None:
    """A gradient at the output a thousand times as large gives gradients a thousand times as large, and sums add up.

    Whatever a layer computes, the backward is linear in what comes from behind. One that clips or rescales it depends
    on the loss's scale, and with that on mixed precision, on accumulation, and on the number of devices.
    """
    if subject.traits.gradient == "own":
        raise NotApplicable('it says gradient="own"')

    def test(samples: int) -> None:
        x = _input(subject, samples, 0)

        def found(*factors: float) -> dict[str, Tensor]:
            output, leaves = _point(subject, x, {})
            terms = (factor * (output * subject.gradient(output, draw)).sum() for draw, factor in enumerate(factors))
            return toward(sum(terms, torch.zeros(())), leaves)

        first, second = found(1.0), found(0.0, 1.0)
        for large, other, what in ((1e3, 0.0, "a thousand times another"), (1.0, 1.0, "the sum of two")):
            for name, gradient in found(large, other).items():
                wanted = large * first[name] + other * second[name]
                said = f"where the gradient of the output is {what}, that of {name} is not"
                _compare(gradient, wanted, said, x, least=large)

    shrunk(test)


@check("each gradient alone")
def each_gradient_alone(subject: Subject) -> None:
    """Gradients do not change where others are not asked for: with frozen parameters, or an input that needs none.

    A first layer's input needs no gradient, and fine-tuning freezes parameters. A backward that takes it that all are
    wanted returns them in the wrong places, or leaves out too much.
    """
    x = _input(subject, 8, 0)
    output, leaves = _point(subject, x, {})
    weights = subject.gradient(output)
    wanted = toward((output * weights).sum(), leaves)
    names = [name for name in leaves if name != INPUT]
    for only, said in (([INPUT], "where its parameters are frozen"), (names, f"where {INPUT} needs none")):
        if only:
            output, leaves = _point(subject, x, {}, only=only)
            found = toward((output * weights).sum(), {name: leaves[name] for name in only})
            for name in only:
                _compare(found[name], wanted[name], f"{said}, the gradient of {name} is another", x)


@check("accumulated gradients")
def accumulated_gradients(subject: Subject) -> None:
    """A second backward adds its gradients to those of the first.

    Batches in parts rely on that, and weights that two places share. A layer that writes `.grad` itself, or clears it,
    loses what was there.
    """
    inputs = [subject.input(draw=draw) for draw in (1, 2)]
    alone, added = (subject.moved(subject.layer()) for _ in range(2))
    wanted: dict[str, Tensor] = {}
    for x in inputs:
        for layer in (alone, added):
            output = subject.run(layer, x)
            scalar = (output * subject.gradient(output)).sum()
            if layer is added:
                torch.autograd.backward(scalar) if scalar.requires_grad else None
                continue
            leaves = {name: one for name, one in layer.named_parameters() if one.requires_grad}
            for name, gradient in toward(scalar, leaves).items():
                wanted[name] = wanted[name] + gradient if name in wanted else gradient
    for name, parameter in added.named_parameters():
        if name in wanted:
            found = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            _compare(found, wanted[name], f"the gradient of {name} after two backwards is no sum", inputs[0])


def _compare(found: Tensor, wanted: Tensor, said: str, x: Tensor, least: float = 1.0) -> None:
    """Raise `Failed` where two gradients, of a gradient about as large as `least` at the output, are not the same."""
    check_near(found, wanted, 1e-4 * max(least, largest(wanted)), said, shown(x))

"""Checks of what a layer keeps from one step to the next, of its draws, and of its own clock."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from normbench.testing import claims, steps
from normbench.testing.comparing import Seen, differs, generators, shown
from normbench.testing.kit import check
from normbench.testing.norms.traits import dependence, judged, moved_by
from normbench.testing.results import Advice, Failed, NotApplicable, Verdict
from normbench.testing.subject import CPU, Subject
from normbench.texts import in_a_line
from normbench.train import state as attributes
from normbench.train.methods import Methods
from normbench.train.streams import global_stream

#: The steps of a training that is to be told by a clock, those of a long one, and its batch size.
STEPS, MANY_STEPS, BATCH = 10, 1000, 32
#: The steps after which a training goes on with a new layer.
DONE = 3


@check("modes")
def modes(subject: Subject) -> None:
    """Evaluation changes nothing, gives a sample the same in any batch, and differs from training as the traits say.

    Validation comes between steps of training: what it moves, the test data has a part in. And a score that depends on
    how the test data is cut into batches is none of the network.
    """
    judged(
        _evaluated(subject),
        dependence(subject, "eval_differs", claims.eval_differs),
        dependence(subject, "eval_batch_dependent", claims.eval_batch_dependent),
    )


def _evaluated(subject: Subject) -> Verdict | None:
    """Return what evaluation changes: a buffer, a mode, its next output, or the next step of training."""
    x, wild = subject.input(), subject.input(mean=30.0, std=5.0, draw=1)
    layer, other = steps.warm(subject), steps.warm(subject)
    for one in (layer, other):
        Methods(one).before_evaluation()
    before, flags = steps.contents(layer), [module.training for module in layer.eval().modules()]
    first = subject.run(layer, x)
    subject.run(layer, wild)
    again = subject.run(layer, x)
    if seen := differs(again, first, "in evaluation an output depends on what was evaluated before", shown(x)):
        return Failed(seen.said, **seen.fields)
    for name, buffer in layer.named_buffers():
        if name not in before or not torch.equal(buffer.nan_to_num(), before[name].nan_to_num()):
            return Failed(f"evaluation moves the buffer {name}", input=shown(x))
    if [module.training for module in layer.modules()] != flags:
        return Failed("a forward changes whether a module is in training", input=shown(x))
    found, wanted = (steps.stepped(subject, one.train(), x).output for one in (layer, other))
    if seen := differs(found, wanted, "after an evaluation a step of training differs", shown(x)):
        return Failed(seen.said, **seen.fields)
    return moved_by(layer, steps.contents(other), "an evaluation before a step of training", shown(x))


@check("state")
def state(subject: Subject) -> None:
    """Training moves the buffers that `state` names and no others, and keeps nothing anywhere else.

    What is no buffer is lost by checkpoints, copies of the layer, and trainings side by side, and does not move to
    another device: a training that goes on from there goes on as another.
    """
    moved, claimed = claims.moved_state(subject), subject.traits.state
    strange = [name for name in moved if name not in claimed]
    missing = [name for name in claimed if name not in moved]
    declare = f"Traits(state={moved!r})"
    judged(
        Failed(f"training moves the buffer {strange[0]}", declare=declare) if strange else None,
        _own_parameters(subject),
        _elsewhere(subject),
        Advice(f"training did not move {missing[0]} in 20 steps", declare=declare) if missing else None,
    )


def _own_parameters(subject: Subject) -> Verdict | None:
    """Return which parameter a forward in training moves: that is for the optimizer, or for `after_step`."""
    layer, x = steps.made(subject), subject.input()
    before = {name: parameter.detach().clone() for name, parameter in layer.named_parameters()}
    steps.stepped(subject, layer, x)
    for name, parameter in layer.named_parameters():
        if name not in before or not torch.equal(parameter, before[name]):
            words = f"a forward moves the parameter {name}, which the optimizer moves: let after_step do it"
            return Failed(words, input=shown(x))
    return None


def _elsewhere(subject: Subject) -> Verdict | None:
    """Return what training keeps in attributes: read, if a new layer with the same buffers goes on differently."""
    layer = steps.made(subject, steps=STEPS)
    start = attributes.marks(layer)
    for _ in itertools.islice(steps.trained(subject, layer, STEPS), DONE):
        pass
    return kept_outside(subject, layer, start, "training")


def kept_outside(subject: Subject, layer: nn.Module, start: attributes.Marks, what: str) -> Verdict | None:
    """Return which attributes of a layer changed, and whether it computes anything else for that."""
    now = attributes.marks(layer)
    names = [f"self.{'.'.join(filter(None, at))}" for at, mark in now.items() if start.get(at) != mark]
    fresh = steps.made(subject, steps=STEPS)
    missing = _filled(fresh, layer)
    if missing:
        return Failed(f"a new layer has no {missing}, which {what} made: make it as the layer is built")
    x, named = subject.input(), f"{what} changes {', '.join(names) or 'what is no buffer and no attribute'}"
    seen = _goes_on_as(subject, layer, fresh, x)
    if seen:
        words = f"{named}, which a later step reads, and which is no buffer: {seen.said}"
        return Failed(words, **seen.fields)
    return Advice(f"{named}: no output depends on it, but a checkpoint does not have it") if names else None


def _filled(fresh: nn.Module, layer: nn.Module) -> str:
    """Give a new layer another's parameters and buffers; return the name of one that it does not have."""
    for own, others in (
        (dict(fresh.named_parameters()), layer.named_parameters()),
        (dict(fresh.named_buffers()), layer.named_buffers()),
    ):
        for name, value in others:
            if name not in own or own[name].shape != value.shape:
                return f"{'parameter' if isinstance(value, nn.Parameter) else 'buffer'} {name} of its shape"
            with torch.no_grad():
                own[name].copy_(value)
    return ""


def _goes_on_as(subject: Subject, layer: nn.Module, fresh: nn.Module, x: Tensor) -> Seen | None:
    """Return what a new layer with the same parameters and buffers gives that the layer does not.

    First as they are, then in two more steps that the clock is told.
    """
    words = "a new layer with the same parameters and buffers gives another {}"
    for number in (None, DONE, DONE + 1):
        took = []
        for each in (fresh, layer):
            if number is not None:
                Methods(each).on_step(number, STEPS)
            took.append(steps.stepped(subject, each, x))
            if number is not None:
                Methods(each).after_step(number, STEPS)
        found, wanted = took
        if seen := steps.steps_differ(found, wanted, words, x):
            return seen
    one, other = (subject.run(steps.evaluating(each), x) for each in (fresh, layer))
    return differs(one, other, words.format("output in evaluation"), shown(x))


@check("randomness")
def randomness(subject: Subject) -> None:
    """A layer draws from the global generators in training alone, if the trait `draws` says so, and never seeds them.

    A layer that draws in silence changes what comes after it, so that no comparison is paired; one that seeds a
    generator gives every layer, every trial and every seed of a suite the same draws.
    """
    layer, x = steps.made(subject), subject.input()
    judged(
        _seeding("building it", subject.built_bare),
        _seeding("a step of training", lambda: steps.passed(subject, layer, x.requires_grad_())),
        _evaluation_draws(subject, x),
        _unlike(subject, x),
        dependence(subject, "draws", claims.draws),
    )


def _seeding(what: str, call: Callable[[], Any]) -> Verdict | None:
    """Return which generator stands at the same place after a call from two different ones."""
    after = []
    for seed in (1, 2):
        with global_stream(CPU, seed, "check", "seeding"):
            call()
            after.append(generators())
    same = [name for name, generator in after[0].items() if generator == after[1][name]]
    return Failed(f"{what} seeds {same[0]}: give it a torch.Generator of its own") if same else None


def _evaluation_draws(subject: Subject, x: Tensor) -> Verdict | None:
    layer = steps.evaluating(steps.made(subject))
    moved = steps.drawn(lambda: layer(x))
    return Failed(f"evaluation draws from {moved[0]}", input=shown(x)) if moved else None


def _unlike(subject: Subject, x: Tensor) -> Verdict | None:
    one, two = (steps.stepped(subject, steps.warm(subject), x) for _ in range(2))
    words = "two layers that were built and called alike, with the generators at one start, give different outputs"
    seen = differs(one.output, two.output, words, shown(x))
    return Failed(seen.said, **seen.fields) if seen else None


@check("clock")
def clock(subject: Subject) -> None:
    """A layer's clock changes buffers alone, in place, to what the step's number says, and can do with one step.

    Buffers move with the layer, are kept by checkpoints, and need no compiling anew. A training that goes on from a
    checkpoint calls on_step with the next number, and not with those before it.
    """
    layer = steps.made(subject, steps=STEPS)
    if not steps.has_clock(layer):
        raise NotApplicable(f"it has none of {', '.join(steps.CLOCK)}")
    judged(_touched(subject, layer), _by_number(subject), _single(subject))


def _touched(subject: Subject, layer: nn.Module) -> Verdict | None:
    """Return what a method of the clock changes that it must not, or how."""
    for step in range(STEPS):
        for method in steps.CLOCK:
            if method == "after_step":
                steps.stepped(subject, layer, subject.input(draw=step))
            start, flags = attributes.marks(layer), [module.training for module in layer.modules()]
            tensors = {**dict(layer.named_parameters()), **dict(layer.named_buffers())}
            weights = [parameter.detach().clone() for parameter in layer.parameters()]
            arguments = (step, STEPS) if method != "before_evaluation" else ()
            drawn = steps.drawn(functools.partial(getattr(Methods(layer), method), *arguments))
            if drawn and not subject.traits.draws:
                return Failed(f"{method} draws from {drawn[0]}, or seeds it", declare="Traits(draws=True)")
            now = {**dict(layer.named_parameters()), **dict(layer.named_buffers())}
            replaced = [name for name in now if now[name] is not tensors.get(name)]
            if replaced:
                return Failed(f"{method} replaces {replaced[0]}, where it changes it in place: use fill_ or copy_")
            moved = [not torch.equal(*pair) for pair in zip(layer.parameters(), weights, strict=True)]
            if any(moved) and method != "after_step":
                return Failed(f"{method} changes a parameter: after_step may, once the optimizer has moved it")
            if [module.training for module in layer.modules()] != flags:
                return Failed(f"{method} changes whether a module is in training")
            if attributes.marks(layer) != start:
                verdict = kept_outside(subject, layer, start, method)
                if isinstance(verdict, Failed):
                    return verdict
    return None


def _by_number(subject: Subject) -> Verdict | None:
    """Return the buffer that on_step leaves at another value if it is called twice, or for no step before."""
    half = STEPS // 2
    ways = {"the steps before it": range(half + 1), "no step before it": (half,), "the same number twice": (half, half)}
    found = {}
    for way, numbers in ways.items():
        layer = steps.made(subject, steps=STEPS)
        for step in numbers:
            Methods(layer).on_step(step, STEPS)
        found[way] = steps.contents(layer)
    first, *others = found
    for way in others:
        for name, value in found[way].items():
            if seen := differs(value.float(), found[first][name].float(), ""):
                words = f"on_step({half}, {STEPS}) after {first} and after {way} leaves {name} at another value"
                return Failed(words, off=seen.off, allowed=seen.allowed)
    return None


def _single(subject: Subject) -> Verdict | None:
    layer = steps.made(subject, steps=1)
    try:
        [*steps.trained(subject, layer, 1)]
        output = subject.run(steps.evaluating(layer), subject.input())
    except Exception as error:
        return Failed(
            f"a training of one step raises {type(error).__name__}: {in_a_line(error)}", input="on_step(0, 1)"
        )
    return None if output.isfinite().all() else Failed("a training of one step ends not finite", input="on_step(0, 1)")


@check("converges", slow=True, once=True)
def converges(subject: Subject) -> None:
    """After many steps of data that stays alike, evaluation gives about what training gives.

    Running statistics that take in something else than what training divides by, as a standard deviation for a
    variance, or that never forget where they began, show in no training loss: the scores alone are bad.
    """
    if not (subject.traits.state and subject.traits.eval_differs) or claims.draws(subject, 8, 1):
        raise NotApplicable("it has no state of which evaluation would compute something else")
    layer = steps.made(subject, steps=MANY_STEPS)
    inputs = (subject.input(BATCH, mean=3.0, std=5.0, draw=number) for number in range(MANY_STEPS))
    steps.fed(layer, inputs, MANY_STEPS)
    with torch.no_grad():
        x = subject.input(claims.LAST_SIZE, mean=3.0, std=5.0, draw=MANY_STEPS)
        wanted = subject.run(layer, x)
        found = subject.run(steps.evaluating(layer), x)
    gap, allowed = float((found - wanted).square().mean().sqrt()), 0.45 * float(wanted.std())
    if not gap <= allowed:
        said = f"after {MANY_STEPS} steps evaluation and training still differ: the state does not follow the data"
        raise Advice(said, input=shown(x, "mean 3, std 5"), off=gap, allowed=allowed)

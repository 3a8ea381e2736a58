"""What shows that a claim of a norm does not hold, or that it must claim more: for checks, and for `check --suggest`.

A function that looks for a dependence, or for what breaks an invariance, returns what it saw, or None.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

import torch
from torch import Tensor, nn

from normbench.testing.comparing import Seen, differs, off, shown, tolerance
from normbench.testing.steps import (
    WARM,
    Step,
    contents,
    drawn,
    evaluating,
    made,
    passed,
    phases,
    stepped,
    steps_differ,
    trained,
    warm,
)
from normbench.testing.subject import Subject
from normbench.texts import in_a_line
from normbench.train.streams import generator

#: The batch sizes at which a dependence is looked for; and the batch size at which one that is claimed is looked for
#: last, after so many steps.
SIZES, LAST_SIZE, LAST_STEPS = (2, 8, 64), 256, 20
#: The same for the order of samples: of two or three samples a batch norm's gradient is little but rounding.
ORDER_SIZES = (4, 8, 64)
#: The steps after which running averages that do not follow an input's scale show that.
SETTLED = 8

Measure: TypeAlias = Callable[[Subject, int, int], Seen | None]


def smallest(subject: Subject, measure: Measure, sizes: Sequence[int] = SIZES) -> Seen | None:
    """Return what is seen at the smallest batch that shows it; one that a layer refuses shows nothing."""
    for samples in sizes:
        for phase in phases(subject):
            try:
                seen = measure(phase, samples, WARM)
            except Exception:
                if samples == sizes[-1]:
                    raise
                continue
            if seen:
                return seen
    return None


def at_last(subject: Subject, measure: Measure, sizes: Sequence[int] = SIZES) -> Seen | None:
    """Return what is seen at the smallest batch that shows it, or after 20 steps at batch size 256."""
    return smallest(subject, measure, sizes) or measure(subject, LAST_SIZE, LAST_STEPS)


def batch_dependent(subject: Subject, samples: int, steps: int) -> Seen | None:
    """Whether in training the other samples of a batch reach a sample's output, or its gradient."""
    x = subject.input(samples)
    whole = stepped(subject, warm(subject, steps, samples), x)
    for changed in (0, samples - 1):
        seen = _moved_by(subject, warm(subject, steps, samples), x, changed, whole)
        if seen:
            return seen
    if draws(subject, 8, 1):
        return None  # those of a batch of another size are others
    first = stepped(subject, warm(subject, steps, samples), x[: samples // 2], subject.gradient(x)[: samples // 2])
    words = "without the other half of the batch, a sample's {} differs"
    return steps_differ(first, whole.at(slice(samples // 2)), words, x)


def eval_batch_dependent(subject: Subject, samples: int, steps: int) -> Seen | None:
    """Whether in evaluation the other samples of a batch reach a sample's output."""
    x = subject.input(samples)
    layer = evaluating(warm(subject, steps, samples))
    with torch.no_grad():
        whole = subject.run(layer, x)
        for changed in (0, samples - 1):
            others = [i for i in range(samples) if i != changed]
            output = subject.run(layer, _with_other(subject, x, changed))
            words = "one sample changed, and in evaluation another's output moved"
            seen = differs(output[others], whole[others], words, shown(x))
            if seen:
                return seen
        alone = subject.run(layer, x[:1])
    return differs(alone, whole[:1], "in evaluation a sample alone gives another output than in a batch", shown(x))


def order_dependent(subject: Subject, samples: int, steps: int) -> Seen | None:
    """Whether in training the order of the samples reaches an output or a gradient: of this step, or of the next."""
    if draws(subject, 8, 1):
        return None  # what is drawn belongs to places in the batch
    order = torch.randperm(samples, generator=generator(subject.seed, "check", "order"))
    order = order.flip(0) if bool((order == torch.arange(samples)).all()) else order
    straight, permuted = warm(subject, steps, samples), warm(subject, steps, samples)
    for step, when in enumerate(("", " in the next step")):
        x = subject.input(samples, draw=step)
        wanted = stepped(subject, straight, x)
        found = stepped(subject, permuted, x[order], subject.gradient(x)[order])
        words = f"with the samples permuted, a sample's {{}} differs{when}"
        seen = steps_differ(found, wanted.at(order), words, x)
        if seen:
            return seen
    return None


def eval_differs(subject: Subject, samples: int, steps: int) -> Seen | None:
    """Whether evaluation computes something else than training from the same state."""
    x = subject.input(samples)
    output = subject.run(evaluating(warm(subject, steps, samples)), x)
    wanted = subject.run(warm(subject, steps, samples), x)
    return differs(output, wanted, "evaluation gives another output than training, from the same state", shown(x))


def mixes_positions(subject: Subject, samples: int, steps: int) -> Seen | None:
    """Whether a later token of a sample reaches an earlier one's output, or takes a gradient from it."""
    for early in range(1, subject.spatial[0]):
        seen = _reaches_back(subject, samples, steps, early)
        if seen:
            return seen
    return None


def _reaches_back(subject: Subject, samples: int, steps: int, early: int) -> Seen | None:
    """Whether tokens from the one with number `early` on reach those before it."""
    x = subject.input(samples)
    # Of one sample alone: its tokens may well reach other samples.
    firsts, lasts = (slice(1), slice(early)), (slice(1), slice(early, None))
    other, gradient = x.clone(), torch.zeros_like(x)
    other[lasts] = subject.input(samples, std=3.0, draw=1)[lasts]
    gradient[firsts] = subject.gradient(x)[firsts]
    one, two = (stepped(subject, warm(subject, steps, samples), given, gradient) for given in (x, other))
    seen = steps_differ(two.at(firsts), one.at(firsts), "a later token changed, and an earlier one's {} moved", x)
    if seen or subject.traits.gradient != "exact":
        return seen  # a gradient of its own says nothing of what reached the output
    late = one.gradient[lasts]
    allowed = tolerance(x.dtype, float(one.gradient.abs().max()))
    distance = off(late, torch.zeros_like(late))
    said = "the gradient of an earlier token's output reaches a later token"
    return Seen(said, shown(x), distance, allowed) if distance > allowed else None


def draws(subject: Subject, samples: int, steps: int) -> Seen | None:
    """Whether a step of training draws from the global generators."""
    layer, x = made(subject), subject.input(samples)
    for _ in range(steps):
        moved = subject.called(lambda: drawn(lambda: passed(subject, layer, x.requires_grad_())))
        if moved:
            return Seen(f"a step of training draws from {' and '.join(moved)}", shown(x))
    return None


def not_identity(subject: Subject) -> Seen | None:
    """What a layer changes that claims to be the identity, or of placement "weight" to leave the linear as it is."""
    x = subject.input()
    for mode, layer in (("training", made(subject)), ("evaluation", evaluating(made(subject)))):
        plain = subject.linear(subject.channels) if subject.wraps else nn.Identity()
        seen = differs(subject.run(layer, x), plain(x), f"its output in {mode} is not its input", shown(x))
        if seen:
            return seen
    return None


def not_scale_invariant(subject: Subject, std: float, allowed: float, factor: float = 4.0) -> Seen | None:
    """What a rescaled input changes by more than the share `allowed`, and of placement "weight" rescaled weights."""
    x = subject.input(std=1.0 if subject.wraps else std)
    if subject.wraps:
        one, two = (warm(replace(subject, factor=std * times)) for times in (1.0, factor))
        outputs, what = (subject.run(two, x), subject.run(one, x)), "the wrapped weights"
    else:
        one, two = (warm(subject, SETTLED) for _ in range(2))
        outputs, what = (subject.run(two, factor * x), subject.run(one, x)), "the input"
    # By chance some values are so near their mean that eps counts, and these alone.
    average = torch.mean if std > 1 else torch.median
    return _changed(
        *outputs, f"{what} times {factor:g}, and the output differs", shown(x, f"std {std:g}"), allowed, average
    )


def not_scale_invariant_up_to_eps(subject: Subject) -> Seen | None:
    """What a rescaled input changes at sizes at which no eps counts, but all that is added before a division does."""
    at = [(phase, size) for phase in phases(subject) for size in ((1e3, 1e-3), (1.0, 1e-2))]
    return next(filter(None, (not_scale_invariant(phase, *size) for phase, size in at)), None)


def not_orthogonal(subject: Subject) -> Seen | None:
    """What part of the gradient lies along the input, and so along weights before the layer, which it must not.

    In each of three draws: where two values are close by chance, a gradient is little but rounding.
    """
    seen = [] if subject.wraps else [_not_orthogonal(subject, draw) for draw in range(3)]
    return seen[0] if seen and all(seen) else None


def _not_orthogonal(subject: Subject, draw: int) -> Seen | None:
    x = subject.input(std=1e3, draw=draw)
    output, gradient = stepped(subject, warm(subject), x)
    along = abs(float((gradient.double() * x).sum()))
    # What it is where the scale takes no gradient is of this size, divided by the root of the number of values.
    allowed = 1e-3 * float(output.norm() * subject.gradient(output).norm())
    said = "rescaling the weights before it changes nothing, but their gradient is not orthogonal to them"
    return Seen(said, shown(x, "std 1000"), along, allowed) if along > allowed else None


def not_centred(subject: Subject) -> Seen | None:
    """What a constant added to one channel changes, and of a bias before it what gradient is left."""
    return next(filter(None, map(_not_centred, phases(subject))), None)


def _not_centred(subject: Subject, shift: float = 4.0) -> Seen | None:
    x, channel = subject.input(), (slice(None),) * subject.axis + (0,)
    if subject.wraps:
        one, two = (warm(replace(subject, shift=by)) for by in (0.0, shift))
        outputs = subject.run(two, x), subject.run(one, x)
        return _changed(*outputs, f"{shift:g} added to the weights of an output channel changes it", shown(x))
    other = x.clone()
    other[channel] += shift
    one, two = warm(subject), warm(subject)
    outputs = subject.run(two, other), subject.run(one, x)
    seen = _changed(*outputs, f"{shift:g} added to a channel, and the output differs", shown(x))
    if seen:
        return seen
    gradient = stepped(subject, warm(subject), x).gradient[channel]
    left, allowed = abs(float(gradient.double().sum())), 1e-4 * float(gradient.double().abs().sum()) + 1e-7
    said = "a constant added to a channel changes nothing, but a bias before it has a gradient"
    return Seen(said, shown(x), left, allowed) if left > allowed else None


def _changed(
    found: Tensor,
    wanted: Tensor,
    what: str,
    where: str,
    share: float = 1e-3,
    average: Callable[[Tensor], Tensor] = torch.mean,
) -> Seen | None:
    allowed = share * float(average(wanted.detach().abs()))
    distance = float(average((found - wanted).detach().abs()))
    return None if distance <= allowed else Seen(what, where, distance, allowed)


def moved_state(subject: Subject) -> tuple[str, ...]:
    """Return the names of the buffers that training moves, its clock included, in the layer's order."""
    layer = made(subject, steps=LAST_STEPS)
    before, moved = contents(layer), set()
    for _ in trained(subject, layer, LAST_STEPS):
        now = contents(layer)
        moved |= {name for name in now if name not in before or not torch.equal(now[name], before[name])}
    return tuple(dict.fromkeys(name.rpartition(".")[2] for name, _ in layer.named_buffers() if name in moved))


def trains_on(subject: Subject, samples: int, spatial: tuple[int, ...]) -> tuple[str, str]:
    """Return how a step of training ends on so many values: "trains", "raises", "is stuck" or "is not finite"; and why.

    It is stuck where no gradient reaches the first sample, but for rounding.
    """
    several = subject.input(8, spatial=spatial)  # so that one sample is the first of several
    x, gradient = several[:samples], subject.gradient(several)[:samples]
    try:
        step = stepped(subject, made(subject, spatial=spatial), x, gradient)
    except Exception as error:
        return "raises", f"{type(error).__name__}: {in_a_line(error)}"
    if not (step.output.isfinite().all() and step.gradient.isfinite().all()):
        return "is not finite", "its output or its gradient is not finite"
    if subject.traits.gradient != "none" and float(step.gradient[0].abs().max()) <= 1e-4:
        return "is stuck", "the gradient of its input is 0 or next to it, without an error"
    return "trains", "it trains"


def ones(subject: Subject) -> tuple[int, ...]:
    """Return the sizes of a map of one value."""
    return (1,) * len(subject.spatial)


def _with_other(subject: Subject, x: Tensor, changed: int) -> Tensor:
    other = x.clone()
    other[changed] = subject.input(1, mean=2.0, std=3.0, draw=1)[0]
    return other


def _moved_by(subject: Subject, layer: nn.Module, x: Tensor, changed: int, whole: Step) -> Seen | None:
    others = [i for i in range(len(x)) if i != changed]
    gradient = subject.gradient(x)
    gradient[changed] *= -2
    step = stepped(subject, layer, _with_other(subject, x, changed), gradient)
    words = "one sample changed, and another's {} moved"
    return steps_differ(step.at(others), whole.at(others), words, x)

"""Checks of the numbers that a layer gives: by its definition, in its own type, and at the edges."""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn

from normbench.contract import Layout, Unsupported, function
from normbench.testing.comparing import check_near, largest, off, shown, tolerance
from normbench.testing.kit import check
from normbench.testing.results import Advice, Failed, NotApplicable
from normbench.testing.steps import toward
from normbench.testing.subject import Subject
from normbench.texts import in_a_line

Parameters = Mapping[str, Tensor]
INPUT, OUTPUT, GRADIENT = "its input", "its output", "the gradient of its input"
EVALUATED = "its output in evaluation"
#: How many values a channel has where there are many: above the largest number of half precision.
MANY = 70_000
SPACIOUS: Mapping[Layout, tuple[int, ...]] = {"NC": (), "NCL": (10_000,), "NCHW": (100, 100), "NLC": (10_000,)}


def shrunk(test: Callable[[int], None]) -> None:
    """Call a test with 8 samples; where it fails, fail with what it says of the fewest with which it fails too."""
    try:
        test(8)
    except Failed as failed:
        fewer = (_failure(test, samples) for samples in (1, 2, 4))
        raise next(filter(None, fewer), failed) from None


def _failure(test: Callable[[int], None], samples: int) -> Failed | None:
    try:
        test(samples)
    except Failed as failed:
        return failed
    except Exception:  # a layer may refuse fewer samples
        return None
    return None


def drawn_parameters(subject: Subject, dtype: torch.dtype, spatial: tuple[int, ...] | None = None) -> dict[str, Tensor]:
    """Return values for a layer's parameters that are not those it begins with, as a type has them."""
    layer = subject.moved(subject.layer(spatial=spatial, dtype=dtype))
    return {name: value.detach() for name, value in layer.named_parameters()}


def with_parameters(
    subject: Subject, dtype: torch.dtype, parameters: Parameters, spatial: tuple[int, ...] | None = None
) -> nn.Module:
    """Return a new layer of a type, with these values of its parameters.

    One that draws is in evaluation, where it does not: in another type it would draw other numbers.
    """
    layer = subject.layer(spatial=spatial, dtype=dtype).train(not subject.traits.draws)
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            parameter.copy_(parameters[name])
    return layer


def computed(subject: Subject, layer: nn.Module, x: Tensor, gradient: Tensor) -> dict[str, Tensor]:
    """Return by name what a layer gives in a training step and in evaluation after it.

    These are its output, its buffers, the gradients of its input and its parameters, and its output in evaluation.
    """
    x = x.detach().requires_grad_()
    output = subject.run(layer, x)
    found = {OUTPUT: output.detach()}
    found |= {name: one.detach().clone() for name, one in layer.named_buffers() if one.is_floating_point()}
    if output.requires_grad:
        leaves = {INPUT: x, **{name: one for name, one in layer.named_parameters() if one.requires_grad}}
        found |= {f"the gradient of {name}": one for name, one in toward(output, leaves, gradient).items()}
    with torch.no_grad():
        found[EVALUATED] = subject.run(layer.eval(), x)
    return found


class Exact:
    """What a layer in float64 gives for an input, and how far one that computes in another type may be off.

    Twenty units in the last place are allowed, of the mean too that is subtracted from each value, and ten times what
    rounding the input changes. That does not show how far the gradient of two values that a layer normalizes may be
    off, which is a difference of numbers that are nearly equal: where the mean is 0 a thousandth of what the gradient
    of the output could become is allowed as well, and elsewhere all that is finite.
    """

    def __init__(
        self,
        subject: Subject,
        x: Tensor,
        gradient: Tensor,
        parameters: Parameters,
        *,
        mean: float = 0.0,
        std: float = 1.0,
    ) -> None:
        rounding, exact = torch.finfo(x.dtype).eps, x.double().contiguous()
        rounded = [exact * (1 + rounding * subject.gradient(exact, draw)) for draw in (1, 2)]
        self.wanted, *moved = (
            computed(subject, with_parameters(subject, torch.float64, parameters), one, gradient.double().contiguous())
            for one in (exact, *rounded)
        )
        self.allowed = {
            name: tolerance(x.dtype, largest(wanted) * (1 + mean / std), 20)
            + 10 * max(off(one[name], wanted) for one in moved)
            for name, wanted in self.wanted.items()
        }
        for name in (name for name in self.allowed if name.startswith("the gradient of ")):
            self.allowed[name] += 1e4 * rounding * largest(gradient) / std if mean == 0 else torch.finfo(x.dtype).max

    def check(self, found: Mapping[str, Tensor], what: str, x: Tensor, said: str) -> None:
        """Raise `Failed` where something found is further off than is allowed."""
        for name in (name for name in self.wanted if name in found):
            words = f"{what} {name} is not what it gives in float64"
            check_near(found[name], self.wanted[name], self.allowed[name], words, shown(x, said))


@check("definition")
def definition(subject: Subject) -> None:
    """The output is what the norm's own definition gives, and where the gradient is exact, so is its gradient.

    A layer's code is fast, and a definition short: where both are written by hand, each finds the other's mistakes.
    """
    if subject.norm.reference is None:
        raise NotApplicable("it declares no reference")
    named = inspect.signature(function(subject.norm.reference)).parameters
    for training in (True, False) if "training" in named else (True,):
        for samples, spatial in _sizes(subject):
            _compare(subject, training, samples, spatial)
        for mean, std in ((1e3, 1.0), (0.0, 0.01)):
            _compare(subject, training, 5, None, mean, std)


def _sizes(subject: Subject) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Yield batch sizes and sizes of the other axes, of those with which the norm says that it trains."""
    ones = (1,) * len(subject.spatial)
    several = (7, *ones[1:])[: len(ones)]
    for samples, spatial in itertools.product((1, 2, 5), dict.fromkeys((ones, several))):
        alone = subject.traits.batch_size_1 if samples == 1 else "yes"
        if alone == "yes" or (alone == "spatial" and spatial != ones):
            yield samples, spatial


def _compare(
    subject: Subject,
    training: bool,
    samples: int,
    spatial: tuple[int, ...] | None,
    mean: float = 0.0,
    std: float = 1.0,
) -> None:
    x = subject.input(samples, spatial=spatial, mean=mean, std=std, dtype=torch.float64, draw=1).requires_grad_()
    try:
        layer = subject.layer(spatial=spatial, dtype=torch.float64)
    except Unsupported:
        if spatial is not None and set(spatial) <= {1}:
            return
        raise
    subject.run(layer, subject.input(5, spatial=spatial, mean=0.5, dtype=torch.float64))
    subject.moved(layer).train(training)
    module = subject.linear(subject.channels).double() if subject.wraps else None
    wanted = subject.called(
        lambda: subject.reference(layer, x, channels=subject.channels, spatial=spatial, module=module)
    )
    try:
        output = subject.run(layer, x)
    except Exception:
        if spatial is not None and set(spatial) <= {1}:
            return  # one value a channel may be refused
        raise
    gradient = subject.gradient(output)
    pairs = [(OUTPUT, output, wanted, 0.0)]
    if subject.traits.gradient == "exact" and output.requires_grad and wanted.shape == output.shape:
        ours, theirs = (toward(one, {INPUT: x}, gradient)[INPUT] for one in (output, wanted))
        pairs.append((GRADIENT, ours, theirs, largest(gradient) / std))
    for name, ours, theirs, least in pairs:
        # In float32's digits, as a layer may compute in float32 whatever it is given.
        allowed = tolerance(torch.float32, max(largest(theirs), least) * (1 + abs(mean) / std))
        said = f"in {'training' if training else 'evaluation'} {name} is not what its reference gives"
        check_near(ours, theirs, allowed, said, shown(x, f"mean {mean:g}, std {std:g}"))


@check("moments")
def moments(subject: Subject) -> None:
    """With a mean far from 0, and however its input lies in memory, a layer keeps float32's digits.

    E[x^2] - E[x]^2 has lost them where the mean is 30 times the standard deviation, and a kernel that takes every input
    for contiguous computes on other numbers. Only rounding may part a layer from itself in float64.
    """
    parameters = drawn_parameters(subject, torch.float32)

    def test(samples: int) -> None:
        for mean, std in itertools.product((0.0, 30.0, 1e3), (1.0, 0.1)):
            x = subject.input(samples, mean=mean, std=std)
            _check_moments(subject, parameters, {"": x}, mean, std)
        for mean, std in ((0.0, 1.0), (1e3, 0.1)):
            x = subject.input(samples, mean=mean, std=std)
            forms = {name: form(x) for name, form in _forms(subject.layout).items()}
            _check_moments(subject, parameters, forms, mean, std)
            alike = {"one sample expanded to a batch": x[:1].expand_as(x)}
            _check_moments(subject, parameters, alike, mean, std)

    shrunk(test)


def _forms(layout: Layout) -> dict[str, Callable[[Tensor], Tensor]]:
    """Return how an input may lie in memory, each with what makes it of a plain one."""
    last, first = "channels last in memory", "channels first in memory"
    return {
        **({last: _channels_last} if layout in ("NCHW", "NCL") else {first: _channels_first}),
        "a slice of a larger tensor": lambda x: torch.stack([x, x], -1).flatten(-2)[..., ::2],
    }


def _channels_last(x: Tensor) -> Tensor:
    return x.movedim(1, -1).contiguous().movedim(-1, 1)


def _channels_first(x: Tensor) -> Tensor:
    return x.movedim(-1, 0).contiguous().movedim(0, -1)


def _check_moments(
    subject: Subject, parameters: Parameters, inputs: Mapping[str, Tensor], mean: float, std: float
) -> None:
    """Compare a layer with itself in float64 on inputs of the same values, which lie in memory as each is called."""
    exact = None
    for name, x in inputs.items():
        gradient = torch.empty_strided(x.shape, x.stride()) if 0 not in x.stride() else torch.empty_like(x)
        gradient.copy_(subject.gradient(x))
        exact = exact or Exact(subject, x, gradient, parameters, mean=mean, std=std)
        found = computed(subject, with_parameters(subject, torch.float32, parameters), x, gradient)
        exact.check(found, "in float32", x, ", ".join(filter(None, [f"mean {mean:g}, std {std:g}", name])))


@check("many values", slow=True)
def many_values(subject: Subject) -> None:
    """In half precision a layer computes with 70,000 values of a channel as it does with few.

    A sum or a count in half precision ends at 65,504, which is less than a map of 256 x 256. That is advice.
    """
    if subject.layout == "NC" and not subject.traits.batch_dependent:
        raise NotApplicable("a sample has as many values as channels")
    spatial = SPACIOUS[subject.layout]
    x = subject.input(MANY // math.prod(spatial), spatial=spatial, mean=1.0, dtype=torch.float16)
    parameters = drawn_parameters(subject, x.dtype, spatial)
    with torch.no_grad():
        wanted = subject.run(with_parameters(subject, torch.float32, parameters, spatial), x.float())
        try:
            output = subject.run(with_parameters(subject, x.dtype, parameters, spatial), x)
        except Exception as error:
            raise NotApplicable(f"in float16 it raises {type(error).__name__}: {in_a_line(error)}") from None
    if off(output, wanted) > 0.1 * (1 + largest(wanted)):
        raise Advice("in float16 a sum or a count seems to be too large: its output is not near", input=shown(x))


@check("extremes")
def extremes(subject: Subject) -> None:
    """A constant, as a dead channel is one, gives finite outputs and gradients.

    A standard deviation without eps, or a root whose gradient at 0 is infinite, ends a training with the first channel
    that a relu has shut. Numbers of 1e10 or 1e30, tiny ones and an outlier are advice: torch's own layers give NaN at
    1e30.
    """
    for value in (0.0, 1.0):
        x = torch.full_like(subject.input(), value)
        broken = _not_finite(subject, x)
        if broken:
            raise Failed(f"not finite: {', '.join(broken)}", input=shown(x, f"all {value:g}"))
    _check_constant(subject)
    normal, outlier = subject.input(), subject.input()
    outlier.view(-1)[0] = 1e10
    found = {
        "all 1e10": torch.full_like(normal, 1e10),
        "numbers around 1e-25": normal * 1e-25,
        "an outlier of 1e10": outlier,
        "numbers around 1e30": normal * 1e30,
    }
    said = [f"{', '.join(broken)} at {name}" for name, x in found.items() if (broken := _not_finite(subject, x))]
    broken = _not_finite(subject, normal, empty=True)
    said += [f"{', '.join(broken)} where all parameters are 0"] if broken else []
    if said:
        raise Advice(f"not finite: {'; '.join(said)}", input=shown(normal))


def _check_constant(subject: Subject) -> None:
    """Raise `Failed` where a layer that centres gives another output for ones than for zeros."""
    # Where the gradient is another by intention, the layer centres in the long run, and not in a step.
    if subject.traits.centres and subject.traits.gradient == "exact" and not subject.wraps:
        zeros = torch.zeros_like(subject.input())
        none, ones = (subject.run(subject.moved(subject.layer()), x) for x in (zeros, zeros + 1))
        if off(ones, none) > 1e-2 * (1 + largest(none)):
            said = "it centres, and gives something else for ones than for zeros"
            raise Failed(said, input=shown(zeros, "all 1"), off=off(ones, none), declare="Traits(centres=False)")


def _not_finite(subject: Subject, x: Tensor, *, empty: bool = False) -> list[str]:
    """Return what is not finite of what a layer, all its parameters 0 if `empty`, gives for an input; [] if it refuses.

    Zeros are what a branch, or a linear whose weight is normalized, may begin with.
    """
    layer = subject.moved(subject.layer())
    with torch.no_grad():
        for parameter in layer.parameters() if empty else ():
            parameter.zero_()
    try:
        found = computed(subject, layer, x, subject.gradient(x))
    except Exception:
        return []
    return [name for name, one in found.items() if not one.isfinite().all()]


@check("not finite")
def not_finite(subject: Subject) -> None:
    """A NaN in one sample reaches no other, unless the norm says that its output depends on the batch.

    Who looks for the cause of a NaN goes by that. That buffers keep the NaN for good, as torch's batch norm's do, or
    that a layer hides it, is advice.
    """
    for training in (True, False):
        _check_spread(subject, training)
    layer, x = subject.layer(), _with_nan(subject)
    if subject.run(layer, x)[1].isfinite().all():
        raise Advice("a sample with a NaN gives finite numbers: a training that went wrong is not seen", input=shown(x))
    for draw in range(20):
        output = subject.run(layer, subject.input(draw=draw))
    ill = [name for name, one in layer.named_buffers() if not one.isfinite().all()]
    if ill:
        outputs = "" if output.isfinite().all() else ", and all later outputs in training"
        raise Advice(f"after a NaN {', '.join(ill)} stay so for good{outputs}", input=shown(x))


def _check_spread(subject: Subject, training: bool) -> None:
    """Raise `Failed` where a NaN in one sample reaches another that it may not reach."""
    traits = subject.traits
    may = traits.batch_dependent if training else traits.eval_batch_dependent
    if may:
        return
    layer, x = subject.layer().train(training), _with_nan(subject)
    found = computed(subject, layer, x, subject.gradient(x))
    mode, claim = ("training", "batch_dependent") if training else ("evaluation", "eval_batch_dependent")
    for name in (name for name in (OUTPUT, GRADIENT) if name in found):
        touched = [sample for sample in (0, 2) if not found[name][sample].isfinite().all()]
        if touched:
            raise Failed(
                f"in {mode} a NaN in sample 1 reaches {name} in sample {touched[0]}",
                input=shown(x, "one NaN in sample 1"),
                declare=f"Traits({claim}=True)",
            )


def _with_nan(subject: Subject) -> Tensor:
    x = subject.input()
    x[1].view(-1)[0] = torch.nan
    return x

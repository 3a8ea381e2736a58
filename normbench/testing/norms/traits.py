"""Checks of what a norm claims that its outputs depend on, each in both directions."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from normbench.testing import claims, ranks
from normbench.testing.claims import LAST_SIZE, LAST_STEPS, ORDER_SIZES, SIZES, Measure
from normbench.testing.comparing import Seen, off, shown
from normbench.testing.kit import check
from normbench.testing.results import Advice, Failed, NotApplicable, Verdict
from normbench.testing.steps import contents, made, stepped, warm
from normbench.testing.subject import Subject


def judged(*verdicts: Verdict | None) -> None:
    """Raise the first failure, else the first advice."""
    said = [verdict for verdict in verdicts if verdict is not None]
    for verdict in sorted(said, key=lambda one: not isinstance(one, Failed)):
        raise verdict


def dependence(subject: Subject, trait: str, measure: Measure, sizes: Sequence[int] = SIZES) -> Verdict | None:
    """Return what is wrong with a claim, or with its lack, where a layer depends on something."""
    claimed = getattr(subject.traits, trait)
    seen = claims.at_last(subject, measure, sizes) if claimed else claims.smallest(subject, measure, sizes)
    if seen and not claimed:
        return Failed(seen.said, declare=f"Traits({trait}=True)", **seen.fields)
    if claimed and not seen:
        said = f"it claims {trait}, which was not seen in {LAST_STEPS} steps at batch size {LAST_SIZE}"
        return Advice(said, declare=f"Traits({trait}=False)")
    return None


@check("batch")
def batch(subject: Subject) -> None:
    """In training a sample's output and gradient depend on the other samples and on their order as the traits say.

    The order of a batch is random, and its size the recipe's. A layer that depends on them computes something else at
    another batch size, on several devices, and where samples are accumulated.
    """
    judged(
        dependence(subject, "batch_dependent", claims.batch_dependent),
        dependence(subject, "order_dependent", claims.order_dependent, ORDER_SIZES),
    )


@check("invariance")
def invariance(subject: Subject) -> None:
    """What a norm claims with `scale_invariant` and `centres` holds, up to eps, for values and for gradients.

    Where a layer claims that it centres, the bias before it is dropped. Where it claims that it is scale-invariant, the
    gradient of the weights before it is orthogonal to them, and their norm sets the rate at which they learn. With
    placement "weight" this is about the weights that it wraps.
    """
    judged(*_scale(subject), _centring(subject))


def _scale(subject: Subject) -> list[Verdict | None]:
    broken = claims.not_scale_invariant_up_to_eps(subject)
    if not subject.traits.scale_invariant:
        return [_unclaimed("scale_invariant", broken)]
    if broken:
        return [_refuted("scale_invariant", broken)]
    if subject.traits.gradient == "exact" and (along := claims.not_orthogonal(subject)):
        return [_refuted("scale_invariant", along, 'Traits(gradient="own")')]
    small = claims.not_scale_invariant(subject, 0.1, 2e-2)
    said = "at inputs of std 0.1 eps already shows: beside their variance it is not small"
    return [Advice(said, **small.fields) if small else None]


def _centring(subject: Subject) -> Verdict | None:
    broken = claims.not_centred(subject)
    if subject.traits.centres:
        return _refuted("centres", broken) if broken else None
    return _unclaimed("centres", broken) if subject.channels > 1 else None


def _refuted(trait: str, seen: Seen, declare: str = "") -> Verdict:
    return Failed(seen.said, declare=declare or f"Traits({trait}=False)", **seen.fields)


def _unclaimed(trait: str, broken: Seen | None) -> Verdict | None:
    said = f"no input was found at which {trait} does not hold, and it is not claimed"
    return None if broken else Advice(said, declare=f"Traits({trait}=True)")


@check("identity")
def identity(subject: Subject) -> None:
    """A layer that claims to be the identity returns its input, and has no parameters and no state.

    Throughput sessions subtract its time from that of every norm, as the time of the network without one.
    """
    seen = claims.not_identity(subject)
    if not subject.traits.identity:
        if seen or subject.wraps:  # a weight norm, say, begins as the weights that it wraps
            raise NotApplicable("it does not claim to be the identity")
        raise Advice("it returns its input, and does not claim to be the identity", declare="Traits(identity=True)")
    if seen:
        raise Failed(seen.said, declare="Traits(identity=False)", **seen.fields)
    layer = made(subject)
    if not subject.wraps and (own := [name for name, _ in [*layer.named_parameters(), *layer.named_buffers()]]):
        raise Failed(f"it has {', '.join(own)}", declare="Traits(identity=False)")


@check("causal")
def causal(subject: Subject) -> None:
    """A token's output and gradient do not depend on later tokens of its sample, unless `mixes_positions` says so.

    A language model that sees the token that it is to predict scores well and has learned nothing: norms over the
    batch, over a sample, and over groups of its channels leak when their statistics are over tokens.
    """
    if subject.layout != "NLC":
        raise NotApplicable("only tokens (NLC) come one after another")
    judged(dependence(subject, "mixes_positions", claims.mixes_positions))


@check("ranks", slow=True)
def on_ranks(subject: Subject) -> None:
    """Two processes with half of a batch each compute what one does with all of it, unless `rank_dependent` says so.

    On several devices statistics of a part of the batch are another norm, which the board says beside its scores.
    """
    traits = subject.traits
    if not (traits.batch_dependent or traits.rank_dependent):
        raise NotApplicable("it computes each sample by itself")
    if claims.draws(subject, 8, 1):
        raise NotApplicable("each rank has draws of its own")
    shared = ranks.on_two_ranks(subject)
    if shared.not_whole and not traits.rank_dependent:
        raise Failed(shared.not_whole.said, declare="Traits(rank_dependent=True)", **shared.not_whole.fields)
    if shared.not_whole and shared.not_alone:
        raise Failed(f"{shared.not_alone.said}, and than one process with all", **shared.not_alone.fields)
    if traits.rank_dependent and not shared.not_whole:
        said = "it claims rank_dependent, but two ranks compute what one process does"
        raise Advice(said, declare="Traits(rank_dependent=False)")


@check("few values")
def few_values(subject: Subject) -> None:
    """At batch size 1 a layer trains, or raises with the shape, as `batch_size_1` says; an empty batch moves nothing.

    What it does instead goes unseen: an output that is constant has no gradient, and the network before it never
    learns; a variance over n - 1 = 0 values is not a number, and stays in a running average for good.
    """
    claimed = subject.traits.batch_size_1
    one, some = claims.ones(subject), subject.spatial
    verdicts: list[Verdict | None] = [_empty(subject)]
    if some:
        verdicts.append(_alone(subject, some, claimed != "no", '"no"', '"spatial"'))
    verdicts.append(_alone(subject, one, claimed == "yes", '"spatial"' if some else '"no"', '"yes"'))
    judged(*verdicts)


def _alone(subject: Subject, spatial: tuple[int, ...], may: bool, less: str, more: str) -> Verdict | None:
    """Return what is wrong with what a layer does with a batch of one sample of such a size."""
    shape = str(subject.shape(1, spatial=spatial))
    how, said = claims.trains_on(subject, 1, spatial)
    if how == "trains":
        words = "it trains at batch size 1, where its traits say that it does not"
        return None if may else Failed(words, input=shape, declare=f"Traits(batch_size_1={more})")
    of_several, why = claims.trains_on(subject, 8, spatial)
    if of_several != "trains":
        stuck = of_several == "is stuck"
        words = f"with so few values a group {why}, at any batch size: raise normbench.Unsupported as it is built"
        return Advice(words, input=str(subject.shape(8, spatial=spatial))) if stuck else None
    if may:
        return Failed(f"at batch size 1 {said}", input=shape, declare=f"Traits(batch_size_1={less})")
    if how != "raises":
        return Failed(f"at batch size 1 {said}: let it raise a ValueError with the shape", input=shape)
    if str(subject.channels) not in said:
        return Advice(f"what it raises does not say the shape: {said}", input=shape)
    return None


def _empty(subject: Subject) -> Verdict | None:
    """Return what an empty batch moves: counts of batches, which are whole numbers, may."""
    layer = warm(subject)
    before = contents(layer)
    x = subject.input(0)
    try:
        shape = tuple(stepped(subject, layer, x).output.shape)
    except Exception:
        shape = tuple(x.shape)  # refused
    if shape != tuple(x.shape):
        return Failed(f"an empty batch gives the shape {shape}", input=shown(x))
    if subject.wraps:
        return None  # its statistics are of weights
    return moved_by(layer, before, "an empty batch", shown(x))


def moved_by(layer: torch.nn.Module, before: dict[str, torch.Tensor], what: str, where: str) -> Verdict | None:
    """Return which of a layer's buffers of fractions are not what they were."""
    for name, buffer in layer.named_buffers():
        if buffer.is_floating_point() and (distance := off(buffer, before[name])):
            return Failed(f"{what} moves the buffer {name}", input=where, off=distance, allowed=0.0)
    return None

"""The traits of a norm as they were measured: `normbench check --suggest`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from typing import Any, TypeAlias

import torch

from normbench.contract import Layout, Traits, Unsupported
from normbench.registry import Registry
from normbench.testing import claims, ranks
from normbench.testing.claims import LAST_STEPS, ORDER_SIZES, at_last
from normbench.testing.comparing import Seen
from normbench.testing.results import NotApplicable, Verdict
from normbench.testing.run import Asked, norm_subjects
from normbench.testing.steps import phases, stepped, warm
from normbench.testing.subject import Subject
from normbench.texts import in_a_line

#: What a trait was measured to be at one layout, and what showed it, where something did.
Found: TypeAlias = tuple[Any, Seen | None]


def suggested(one: Asked, *, registry: Registry, **_: Any) -> Iterator[str]:
    """Yield the `Traits(...)` that were measured over a norm's layouts, then what differs from its claims, and why.

    A line each also says what could not be measured: there the norm's own claim is in what is suggested.
    """
    torch.set_num_threads(one.threads)
    offered = registry.norms[one.name]
    subjects = norm_subjects(one, offered)
    claimed, named, lines = offered.thing.traits_with(one.params), {}, []
    failed: dict[str, list[str]] = {}
    for trait, (measure, agreed) in MEASURES.items():
        declared, found = getattr(claimed, trait), {}
        for subject in subjects:
            try:
                found[subject.layout] = measure(subject)
            except (NotApplicable, Unsupported):
                continue
            except Exception as error:
                kind = "" if isinstance(error, Verdict) else f"{type(error).__name__}: "
                failed.setdefault(f"({subject.layout}): {kind}{in_a_line(error)}", []).append(trait)
        named[trait] = agreed([value for value, _ in found.values()]) if found else declared
        if named[trait] != declared:
            lines.append(_differs(trait, declared, named[trait], found))
    yield _written(Traits(**named))
    yield from lines
    yield from (f"{', '.join(traits)} could not be measured {why}" for why, traits in failed.items())


def _differs(trait: str, declared: Any, value: Any, found: Mapping[Layout, Found]) -> str:
    line = f"declared {trait}={declared!r}, measured {value!r}"
    for layout, (own, seen) in found.items():
        if own == value and seen is not None:
            where = f" at {seen.input}" if seen.input else ""
            return f"{line}: {seen.said} ({layout}{where})"
    return line


def _written(traits: Traits) -> str:
    plain = Traits()
    said = {field.name: getattr(traits, field.name) for field in fields(Traits)}
    return f"Traits({', '.join(f'{name}={value!r}' for name, value in said.items() if value != getattr(plain, name))})"


def _dependence(measure: claims.Measure, sizes: tuple[int, ...] = claims.SIZES) -> Callable[[Subject], Found]:
    def measured(subject: Subject) -> Found:
        seen = at_last(subject, measure, sizes)
        return seen is not None, seen

    return measured


def _invariance(broken: Callable[[Subject], Seen | None]) -> Callable[[Subject], Found]:
    def measured(subject: Subject) -> Found:
        seen = broken(subject)
        return seen is None, seen

    return measured


def _mixes_positions(subject: Subject) -> Found:
    if subject.layout != "NLC":
        raise NotApplicable("there are no tokens")
    return _dependence(claims.mixes_positions)(subject)


def _rank_dependent(subject: Subject) -> Found:
    seen = ranks.on_two_ranks(subject).not_whole
    return seen is not None, seen


def _batch_size_1(subject: Subject) -> Found:
    """Return what trains at batch size 1; a layout without maps does not contradict one whose maps have more values."""
    how, why = claims.trains_on(subject, 1, claims.ones(subject))
    if how == "trains":
        return "yes", None
    spatial = not subject.spatial or claims.trains_on(subject, 1, subject.spatial)[0] == "trains"
    return "spatial" if spatial else "no", Seen(f"with one value a channel {why}")


def _gradient(subject: Subject) -> Found:
    if not bool((stepped(subject, warm(subject), subject.input()).gradient != 0).any()):
        return "none", Seen("no gradient reaches the input")
    share = max(_from_finite_differences(phase) for phase in phases(subject))
    return ("own", Seen(f"off by {share:.2g} of its size from finite differences")) if share > 1e-2 else ("exact", None)


def _from_finite_differences(subject: Subject) -> float:
    """Return how far the slope along a random direction is off, of the gradient's size: the least of three draws.

    A kink takes one of them at most. In float64; that a layer computes in float32 all the same is less than counts.
    """
    dtype, size, shares = torch.float64, 1e-3, []
    for draw in range(3):
        x, along = (subject.input(dtype=dtype, draw=draw + more) for more in (0, 10))
        step = stepped(subject, warm(subject, LAST_STEPS, dtype=dtype), x)
        one, other = (
            stepped(subject, warm(subject, LAST_STEPS, dtype=dtype), x + by * along).output for by in (size, -size)
        )
        found = ((one - other) * subject.gradient(one)).sum() / (2 * size)
        shares.append(float(((step.gradient * along).sum() - found).abs() / step.gradient.norm()))
    return min(shares)


def _identity(subject: Subject) -> Found:
    if subject.wraps and not subject.traits.identity:
        raise NotApplicable("a weight norm, say, begins as the weights that it wraps")
    return _invariance(claims.not_identity)(subject)


def _state(subject: Subject) -> Found:
    moved = claims.moved_state(subject)
    return moved, Seen(f"training moves {', '.join(moved) or 'no buffer'}")


def _all_names(values: list[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for names in values for name in names))


def _least(values: list[str]) -> str:
    return next(value for value in ("no", "spatial", "yes") if value in values)


def _worst(values: list[str]) -> str:
    return next(value for value in ("none", "own", "exact") if value in values)


#: How each trait is measured at a layout, and what it is where the layouts differ.
MEASURES: dict[str, tuple[Callable[[Subject], Found], Callable[[list[Any]], Any]]] = {
    "batch_dependent": (_dependence(claims.batch_dependent), any),
    "order_dependent": (_dependence(claims.order_dependent, ORDER_SIZES), any),
    "rank_dependent": (_rank_dependent, any),
    "state": (_state, _all_names),
    "batch_size_1": (_batch_size_1, _least),
    "centres": (_invariance(claims.not_centred), all),
    "scale_invariant": (_invariance(claims.not_scale_invariant_up_to_eps), all),
    "eval_differs": (_dependence(claims.eval_differs), any),
    "eval_batch_dependent": (_dependence(claims.eval_batch_dependent), any),
    "gradient": (_gradient, _worst),
    "draws": (_dependence(claims.draws), any),
    "identity": (_identity, all),
    "mixes_positions": (_mixes_positions, any),
}

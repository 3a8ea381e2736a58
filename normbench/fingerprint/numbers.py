"""Whether two fingerprints of a training are the same: a digest to look at, and a tolerance that decides. No torch.

A fingerprint has lists of numbers by name. The numbers of one name are on one scale, which is the largest of them: what
cancels to nearly 0 (the sum of many weights, say) is as uncertain as what it was summed from.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from normbench.store.records import Number
from normbench.trials import Made

Numbers: TypeAlias = Mapping[str, Sequence[Number]]

#: Which way a fingerprint is taken: raised where that changes, so that it is not compared with one of another way.
METHOD = 1
#: How the names of gradients begin.
GRADIENT = "gradient"
#: How far two numbers may be apart: a share of their scale, and ABSOLUTE besides, because what should be 0 holds
#: rounding errors of numbers around 1, of some 1e-7 each. docs/architecture.md has what was measured.
RELATIVE, OF_GRADIENTS, ABSOLUTE = 5e-5, 1e-2, 1e-6


@dataclass(frozen=True)
class Taken:
    """What came of taking a fingerprint: its numbers, or why there are none."""

    outcome: Literal["taken", "unsupported", "error"]
    reason: str = ""
    numbers: dict[str, list[Number]] = field(default_factory=dict)
    made: Made | None = None


@dataclass(frozen=True)
class Difference:
    """Where two fingerprints differ most: the number's name, and by which share of its scale.

    `times` is the ratio to what is allowed; both are infinite where only one has the number, or only one is finite.
    """

    name: str
    share: float
    times: float


def digest(numbers: Numbers) -> str:
    """Return 12 hex digits of a hash over numbers rounded to four digits of their scale, gradients to two.

    Rounding has borders: numbers that agree may have two digests, so that `agree` decides.
    """
    lines = [f"{name} {' '.join(_rounded(values, _relative(name)))}" for name, values in sorted(numbers.items())]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


def agree(a: Numbers, b: Numbers) -> bool:
    """Whether two fingerprints have the same names, and each two numbers lie within the tolerance."""
    return tolerated(largest_difference(a, b))


def tolerated(largest: Difference | None) -> bool:
    """Whether the largest difference of two fingerprints lies within the tolerance."""
    return largest is None or largest.times <= 1


def largest_difference(a: Numbers, b: Numbers) -> Difference | None:
    """Return the number that two fingerprints differ most in, measured by the tolerance; None where they are equal."""
    differences = (_apart(name, a.get(name, ()), b.get(name, ())) for name in dict.fromkeys((*a, *b)))
    largest = max(differences, key=lambda difference: difference.times, default=None)
    return largest if largest and largest.times > 0 else None


def _apart(name: str, a: Sequence[Number], b: Sequence[Number]) -> Difference:
    if list(a) == list(b):
        return Difference(name, 0.0, 0.0)
    if len(a) != len(b):
        return Difference(name, math.inf, math.inf)
    scale = max(_scale(a), _scale(b))
    distance = max(_distance(x, y) for x, y in zip(a, b, strict=True))
    share = distance / scale if scale else distance
    return Difference(name, share, distance / (_relative(name) * scale + ABSOLUTE))


def _relative(name: str) -> float:
    return OF_GRADIENTS if name.startswith(GRADIENT) else RELATIVE


def _distance(x: Number, y: Number) -> float:
    if isinstance(x, str) or isinstance(y, str):
        return 0.0 if x == y else math.inf
    return abs(x - y)


def _scale(values: Sequence[Number]) -> float:
    return max((abs(value) for value in values if not isinstance(value, str)), default=0.0)


def _rounded(values: Sequence[Number], relative: float) -> list[str]:
    """Return numbers as whole multiples of a power of ten, the nearest to the tolerance of their scale, and that."""
    place = round(math.log10(relative * _scale(values) + ABSOLUTE))
    whole = [value if isinstance(value, str) else str(round(value / 10.0**place)) for value in values]
    return [*whole, f"e{place}"]

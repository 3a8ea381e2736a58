"""Types of the parameters that many norms have, with what each allows: for `types` of a description."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta

Positive: TypeAlias = Annotated[float, Meta(gt=0)]
#: The weight of a new batch in a running average.
Momentum: TypeAlias = Annotated[float, Meta(gt=0, le=1)]
#: The weight of the old value in a running average.
Decay: TypeAlias = Annotated[float, Meta(ge=0, lt=1)]
#: A part of something, all of it or nothing of it.
Share: TypeAlias = Annotated[float, Meta(ge=0, le=1)]
AtLeastOne: TypeAlias = Annotated[float, Meta(ge=1)]
NotNegative: TypeAlias = Annotated[float, Meta(ge=0)]
Count: TypeAlias = Annotated[int, Meta(ge=1)]
#: A number among those counted from 0.
Index: TypeAlias = Annotated[int, Meta(ge=0)]
#: Gamma and beta: both, none, or one of the two alone.
Affine: TypeAlias = bool | Literal["gamma", "beta"]
#: How far along a direction something is measured, once or more.
Reach: TypeAlias = Annotated[tuple[Positive, ...], Meta(min_length=1)]

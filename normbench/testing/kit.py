"""The list of checks: each is a function, registered under an id by a decorator. Nothing here imports torch."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, TypeAlias

Kind: TypeAlias = Literal["norm", "task", "probe"]
#: The package, or module, in which the checks of each kind are.
_WHERE: dict[Kind, str] = {kind: f"normbench.testing.{kind}s" for kind in ("norm", "task", "probe")}
_checks: dict[tuple[Kind, str], Check] = {}


@dataclass(frozen=True)
class Check:
    """One property, and the function that tests it: it returns where the property holds, else raises a `Verdict`.

    `property` says what must hold, in a sentence, and `reason` why. `since` is the version of the contract that it came
    with. One that is `slow` is left out of the fast half. A norm's check runs at each layout, or `once`.
    """

    id: str
    kind: Kind
    property: str
    reason: str
    since: int
    slow: bool
    once: bool
    test: Callable[[Any], None]


def check(
    called: str,
    kind: Kind = "norm",
    *,
    since: int = 2,
    slow: bool = False,
    once: bool = False,
) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
    """Register a check by its id; the first paragraph of its docstring is the property, the rest the reason."""

    def register(test: Callable[[Any], None]) -> Callable[[Any], None]:
        said, _, reason = inspect.cleandoc(test.__doc__ or "").partition("\n\n")
        # One id is one section of docs/check.md, whatever it is a check of.
        if any(called == taken for _, taken in _checks) or not (said and reason):
            raise ValueError(f"check {called!r}: an id is for one check, whose docstring says what must hold, and why")
        said, reason = (" ".join(text.split()) for text in (said, reason))
        _checks[kind, called] = Check(called, kind, said, reason, since, slow, once, test)
        return test

    return register


@cache
def checks(kind: Kind) -> dict[str, Check]:
    """Return the checks of a kind by id, in the order in which they run. They import torch."""
    module = importlib.import_module(_WHERE[kind])
    for found in pkgutil.iter_modules(getattr(module, "__path__", [])):
        importlib.import_module(f"{module.__name__}.{found.name}")
    order = getattr(module, "ORDER", ())
    own = {one.id: one for (of, _), one in _checks.items() if of == kind}
    return {name: own[name] for name in dict.fromkeys([*(name for name in order if name in own), *own])}

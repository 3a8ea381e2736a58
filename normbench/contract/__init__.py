"""What a plugin author imports: how a norm, a task, a suite, a probe or an executor is described to the host.

Everything here is a frozen description, checked as it is made. Nothing imports torch: a function may be given as a
string "package.module:name", which is imported when it is first called, so that listing what a plugin offers is fast.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pluggy

from normbench.contract.functions import function, named_by
from normbench.contract.norms import RESERVED, Norm
from normbench.contract.others import Claim, Executor, Probe, SuiteFile
from normbench.contract.sites import ALL, PLACEMENTS, Layout, Place, Placement, Site, Traits, Unsupported
from normbench.contract.tasks import Splits, Task
from normbench.recipe import Recipe

__all__ = [
    "ALL",
    "CONTRACT",
    "PLACEMENTS",
    "RESERVED",
    "Claim",
    "Executor",
    "Layout",
    "Norm",
    "Place",
    "Placement",
    "Probe",
    "Recipe",
    "Site",
    "Splits",
    "SuiteFile",
    "Task",
    "Traits",
    "Unsupported",
    "computing",
    "function",
    "hookimpl",
    "named_by",
]

#: The version of this contract. A plugin may say which it was written for: `NORMBENCH_CONTRACT = 2` in its module.
#: 1 was that of commit 2000f99; 2 came with `normbench check`.
CONTRACT: Final = 2

hookimpl = pluggy.HookimplMarker("normbench")


def computing(thing: Any) -> list[Callable[..., Any] | str]:
    """Return the functions that a description names and that decide numbers."""
    named = (getattr(thing, name) for name in thing.COMPUTING)
    return [value for value in named if isinstance(value, str) or callable(value)]

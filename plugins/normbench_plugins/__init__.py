"""Everything built in, registered the way a third party registers.

A new norm, task, probe or executor is one new file in the folder of its kind, with a list of descriptions under the
name of the kind. These files import nothing slow at their top, because every listing imports them.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Iterator
from typing import Any

import normbench


@normbench.hookimpl
def normbench_norms() -> Iterable[normbench.Norm]:
    """Yield the built-in norms."""
    return _described("norms")


@normbench.hookimpl
def normbench_tasks() -> Iterable[normbench.Task]:
    """Yield the built-in tasks."""
    return _described("tasks")


@normbench.hookimpl
def normbench_probes() -> Iterable[normbench.Probe]:
    """Yield the built-in probes."""
    return _described("probes")


@normbench.hookimpl
def normbench_executors() -> Iterable[normbench.Executor]:
    """Yield the built-in executors."""
    return _described("executors")


def _described(kind: str) -> Iterator[Any]:
    """Yield what the files of one folder describe, in the order of their names."""
    package = importlib.import_module(f"{__name__}.{kind}")
    for found in pkgutil.iter_modules(package.__path__):
        yield from getattr(importlib.import_module(f"{package.__name__}.{found.name}"), kind.upper())

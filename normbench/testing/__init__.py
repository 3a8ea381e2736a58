"""Conformance checks: what a norm, a task, a probe and an executor are held to.

`check(name)` returns results; `NormChecks`, `TaskChecks`, `ProbeChecks` and `ExecutorChecks` are classes for a plugin's
own tests; `normbench check` is the same on the command line. docs/check.md has a section for each check.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from normbench.testing.results import Result

if TYPE_CHECKING:
    from normbench.testing.executors import ExecutorChecks
    from normbench.testing.faces import NormChecks, ProbeChecks, TaskChecks, check

if "pytest" in sys.modules:  # the asserts of the executors' rules are to show the values that were compared
    import pytest

    pytest.register_assert_rewrite("normbench.testing.executors")

__all__ = ["ExecutorChecks", "NormChecks", "ProbeChecks", "Result", "TaskChecks", "check"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        where = "executors" if name == "ExecutorChecks" else "faces"
        return getattr(importlib.import_module(f"normbench.testing.{where}"), name)
    raise AttributeError(f"module 'normbench.testing' has no attribute {name!r}")

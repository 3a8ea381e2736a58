"""normbench: a benchmark suite for normalization layers in PyTorch, made of plugins.

What a plugin author needs is here at once; what trains or draws is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from normbench.activations import activation
from normbench.contract import (
    CONTRACT,
    Claim,
    Executor,
    Norm,
    Place,
    Probe,
    Recipe,
    Site,
    Splits,
    SuiteFile,
    Task,
    Traits,
    Unsupported,
    hookimpl,
)
from normbench.errors import UsageError

if TYPE_CHECKING:
    from normbench.api import Results, layer, register, run
    from normbench.train.callback import ProbeCallback

__all__ = [
    "CONTRACT",
    "Claim",
    "Executor",
    "Norm",
    "Place",
    "Probe",
    "ProbeCallback",
    "Recipe",
    "Results",
    "Site",
    "Splits",
    "SuiteFile",
    "Task",
    "Traits",
    "Unsupported",
    "UsageError",
    "activation",
    "hookimpl",
    "layer",
    "register",
    "run",
]


def __getattr__(name: str) -> Any:
    if name == "ProbeCallback":
        return importlib.import_module("normbench.train.callback").ProbeCallback
    if name in ("Results", "layer", "register", "run"):
        return getattr(importlib.import_module("normbench.api"), name)
    if name == "__version__":
        from importlib.metadata import version

        return version("normbench")
    raise AttributeError(f"module 'normbench' has no attribute {name!r}")

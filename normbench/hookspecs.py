"""The hooks a plugin may implement. Each returns, or yields, descriptions made with `normbench.contract`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from normbench.contract import Executor, Norm, Probe, SuiteFile, Task

hookspec = pluggy.HookspecMarker("normbench")


@hookspec
def normbench_norms() -> Iterable[Norm]:  # type: ignore[empty-body]
    """Yield `normbench.Norm` objects: kinds of normalization."""


@hookspec
def normbench_tasks() -> Iterable[Task]:  # type: ignore[empty-body]
    """Yield `normbench.Task` objects: data, network and recipe."""


@hookspec
def normbench_suites() -> Iterable[SuiteFile]:  # type: ignore[empty-body]
    """Yield `normbench.SuiteFile` objects: TOML files, each a suite."""


@hookspec
def normbench_probes() -> Iterable[Probe]:  # type: ignore[empty-body]
    """Yield `normbench.Probe` objects, which watch a training and add series to its record."""


@hookspec
def normbench_executors() -> Iterable[Executor]:  # type: ignore[empty-body]
    """Yield `normbench.Executor` objects: ways to run packs of trials."""

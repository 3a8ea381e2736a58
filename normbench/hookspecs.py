"""The hooks a plugin may implement. Each returns, or yields, descriptions made with `normbench.contract`.

A kind of thing is one hook here, `normbench_KIND`; `KINDS` is the list of them that all else reads.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import get_args, get_type_hints

import pluggy

from normbench.contract import Claim, Executor, Norm, Probe, SuiteFile, Task

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


@hookspec
def normbench_claims() -> Iterable[Claim]:  # type: ignore[empty-body]
    """Yield `normbench.Claim` objects: reserved; they are listed, and nothing runs them yet."""


#: The kinds of things that plugins offer, and what describes one of each.
KINDS: dict[str, type] = {
    name.removeprefix("normbench_"): get_args(get_type_hints(hook)["return"])[0]
    for name, hook in list(globals().items())
    if name.startswith("normbench_")
}

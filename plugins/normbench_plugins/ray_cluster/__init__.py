"""The executor `ray`: packs as tasks of a Ray cluster. A plugin of its own, so that nothing else needs Ray."""

from __future__ import annotations

from collections.abc import Iterator

import normbench


@normbench.hookimpl
def normbench_executors() -> Iterator[normbench.Executor]:
    """Yield the executor."""
    yield normbench.Executor(
        "ray",
        "normbench_plugins.ray_cluster.driver:run",
        summary="Trials as tasks of a Ray cluster, or of a Ray started here",
        several_nodes=True,
        stream="normbench_plugins.executors.processes.driver:stream",
    )

"""One pack after another, in this process: the simplest executor, and the one for a debugger."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import normbench

if TYPE_CHECKING:
    from normbench.trials import Outcome, Pack


def run(packs: Iterable[Pack], on_outcome: Callable[[Outcome], None]) -> None:
    """Train each pack and hand over its outcomes one by one."""
    from normbench.train import fit_pack

    for pack in packs:
        for outcome in fit_pack(pack):
            on_outcome(outcome)


EXECUTORS = [
    normbench.Executor(
        "serial",
        "normbench_plugins.executors.serial:run",
        summary="One trial after another in this process",
        in_process=True,
    )
]

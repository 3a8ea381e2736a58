"""One guard for whatever the code of a trial may raise: it becomes an outcome, and costs nobody else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import torch

from normbench import surroundings
from normbench.contract import Unsupported
from normbench.errors import UsageError
from normbench.registry import Registry
from normbench.texts import in_a_line
from normbench.train import blame
from normbench.train.curve import Curve
from normbench.train.made import reading
from normbench.trials import Trial

#: What a lack of memory is called by libraries that have no exception for it: CUDA as it starts, cuBLAS, NCCL.
_OUT_OF_MEMORY = ("out of memory", "alloc_failed")


@dataclass
class Guard:
    """What was raised: as a kind of outcome, None where nothing was, with a reason in one line.

    The exception itself is let go: its frames hold tensors, and the next trial needs their memory.

    Exceptions that are `passing` go through: while a training is assembled UsageError, for what other trials would meet
    too, like a data folder that lacks the data. `changed` names what the code changed that all of the process shares.
    `curve` is that of the training, once this has begun: what it has is there whatever was raised.
    """

    passing: tuple[type[Exception], ...]
    kind: Literal["unsupported", "oom", "error"] | None = None
    reason: str = ""
    changed: Sequence[str] = field(default_factory=list)
    curve: Curve | None = None

    @property
    def before(self) -> str:
        """What had been changed when something was raised, which may be why, as the end of a message."""
        return f"; before that, {surroundings.listed(self.changed)} had been changed" if self.changed else ""


@contextmanager
def guarded(
    trial: Trial,
    registry: Registry,
    probes: Iterable[str] = (),
    *,
    passing: tuple[type[Exception], ...] = (UsageError,),
) -> Iterator[Guard]:
    """Run the code of a trial's norm, task and probes; what it raises is in the guard that this yields.

    Only an interruption, and what is `passing`, goes through. What the code reads counts as the trial's source, what it
    changes that all of the process shares is put back, and where it forks the copy of the process ends here.
    """
    guard = Guard(passing)
    try:
        with reading(trial, registry), surroundings.kept() as guard.changed:
            yield guard
    except (Exception, SystemExit) as error:
        if isinstance(error, guard.passing):
            raise
        if isinstance(error, Unsupported):
            guard.kind, guard.reason = "unsupported", in_a_line(error)
        else:
            guard.kind = "oom" if _ran_out(error) else "error"
            guard.reason = blame.reason(error, trial, registry, probes) + guard.before


def _ran_out(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on the device or off it."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in _OUT_OF_MEMORY)

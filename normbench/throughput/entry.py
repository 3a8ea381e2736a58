"""What a session is asked for, and what it reports as it goes on. No torch."""

from __future__ import annotations

from dataclasses import dataclass, field

from normbench.trials import Made, Stopped, Timed, Trial


@dataclass(frozen=True)
class Effort:
    """When a session may end: once its ratios are known to within `precision`, a share of each, or `seconds` spent."""

    seconds: float
    precision: float


@dataclass
class Entry:
    """One norm's part in a session: its trial, and what came of it; the seconds of each round."""

    trial: Trial
    outcome: Timed = "measured"
    reason: str = ""
    train: list[float] = field(default_factory=list)
    evaluation: list[float] = field(default_factory=list)
    peak_memory: int | None = None
    made: Made | None = None


@dataclass(frozen=True)
class Turn:
    """Reported before an entry is made, and before each of its turns: the index of the entry that computes now."""

    entry: int


@dataclass(frozen=True)
class Round:
    """Reported after each round: how many there were."""

    done: int


@dataclass(frozen=True)
class Measured:
    """A session's result, reported last: what a block was, why it stopped, and what came of each entry."""

    entries: list[Entry]
    rounds: int = 0
    steps: int = 1
    batches: int = 1
    batch: int = 1
    stopped: Stopped = "failed"

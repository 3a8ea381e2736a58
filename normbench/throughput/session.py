"""A session: all norms of a task and condition timed in rounds, the baseline twice in each."""

from __future__ import annotations

import math
import random
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

from normbench import surroundings
from normbench.contract import Unsupported
from normbench.errors import UsageError
from normbench.plugins import Registry
from normbench.records import Stopped, Timed, Trial
from normbench.stats import ratio_over_rounds
from normbench.throughput.candidate import Candidate
from normbench.train import assemble
from normbench.train.memory import ran_out

#: After these many rounds a session looks whether it may stop: whether all ratios are known to within PRECISION.
LOOKS = (9, 15, 25, 40, 64, 100)
PRECISION = 0.03
#: Seconds that the baseline's block takes: long enough for the clock, short enough for a machine whose speed drifts.
TRAINING, EVALUATION = 0.1, 0.05
#: Characters of an error that are kept.
LONGEST_REASON = 300


@dataclass
class Entry:
    """One norm's part in a session: its trial, and what came of it; seconds, a number a round."""

    trial: Trial
    outcome: Timed = "measured"
    reason: str = ""
    train: list[float] = field(default_factory=list)
    evaluation: list[float] = field(default_factory=list)
    peak_memory: int | None = None


@dataclass(frozen=True)
class Measured:
    """A session's result: what a block was, and why it stopped. The entries hold the seconds."""

    rounds: int
    steps: int
    batches: int
    batch: int
    stopped: Stopped


def measure(
    entries: Sequence[Entry],
    baseline: Entry,
    again: Entry,
    *,
    registry: Registry,
    device: str,
    data_dir: str,
    seconds: float,
    on_round: Callable[[int], None] = lambda done: None,  # noqa: ARG005 - a callback's signature
) -> Measured:
    """Time the entries, among them the baseline and the baseline `again`, and fill them in.

    One round warms up, then come 9; it goes on, up to 100, until the 95% interval of each ratio to the baseline lies
    within 3% or `seconds` are spent. `on_round` is called with 0, and after each round. A norm that raises is left out
    from there on, with the reason. Raises UsageError where the data is not there.
    """
    where = torch.device(device)
    trial = baseline.trial
    if where.type == "cpu":
        torch.set_num_threads(trial.recipe.threads)
    data = assemble.data(trial, registry.task(trial.task), Path(data_dir), where)
    on_round(0)
    session = _Session(entries, baseline, again)
    session.make(lambda entry: Candidate(entry.trial, registry, data, where))
    session.find_lengths()
    session.round(keep=False)
    # Compiling is part of warming up, and takes nothing from the time for rounds.
    began = time.perf_counter()
    stopped: Stopped = "rounds"
    done = 0
    while done < LOOKS[-1] and session.round(keep=True):
        done += 1
        on_round(done)
        spent = done >= LOOKS[0] and time.perf_counter() - began > seconds
        if (spent or done in LOOKS) and session.precise():
            stopped = "precise"
            break
        if spent:
            stopped = "time"
            break
    session.close()
    return Measured(done, session.steps, session.batches, session.batch, stopped if session.alive else "failed")


class _Session:
    """The rounds of a session, over the entries that are still in it."""

    def __init__(self, entries: Sequence[Entry], baseline: Entry, again: Entry) -> None:
        self._entries, self._baseline, self._again = entries, baseline, again
        self._candidates: dict[int, Candidate] = {}
        self._order = random.Random(0)
        self.steps = self.batches = self.batch = 1

    @property
    def alive(self) -> bool:
        """Whether there is still a baseline to measure against."""
        return self._baseline.outcome == self._again.outcome == "measured"

    def make(self, candidate: Callable[[Entry], Candidate]) -> None:
        """Make what is timed for each entry."""
        for entry in self._entries:
            with _guarded(entry):
                self._candidates[id(entry)] = candidate(entry)

    def find_lengths(self) -> None:
        """Choose how many steps and batches make a block, by the baseline's speed."""
        if self.alive:
            candidate = self._candidates[id(self._baseline)]
            self.batch = candidate.evaluation_batch
            with _guarded(self._baseline):
                self.steps = _length(candidate.train, TRAINING)
                self.batches = _length(candidate.evaluate, EVALUATION)

    def round(self, *, keep: bool) -> bool:
        """Take every norm once, in an order drawn anew; return whether there is still a baseline."""
        turn = [entry for entry in self._entries if entry.outcome == "measured"]
        self._order.shuffle(turn)
        for entry in turn:
            if not self.alive:
                break
            candidate = self._candidates[id(entry)]
            with _guarded(entry):
                trained, evaluated = candidate.train(self.steps), candidate.evaluate(self.batches)
                if keep:
                    entry.train.append(trained)
                    entry.evaluation.append(evaluated)
            if entry.outcome != "measured":
                # Its memory is the others'.
                del self._candidates[id(entry)]
        return self.alive

    def precise(self) -> bool:
        """Whether the interval of every ratio to the baseline lies within the precision that is asked for."""
        intervals = [
            ratio_over_rounds(self._baseline.train, entry.train)
            for entry in self._entries
            if entry is not self._baseline and entry.outcome == "measured"
        ]
        return all(
            interval.low >= (1 - PRECISION) * interval.centre and interval.high <= (1 + PRECISION) * interval.centre
            for interval in intervals
        )

    def close(self) -> None:
        """Note what is known at the end; what became of the baseline the second time became of the baseline."""
        if self._baseline.outcome == "measured":
            self._baseline.outcome, self._baseline.reason = self._again.outcome, self._again.reason
        for entry in self._entries:
            if entry.outcome == "measured":
                entry.peak_memory = self._candidates[id(entry)].peak_memory


def _length(block: Callable[[int], float], seconds: float) -> int:
    """Return how many times something has to be done to take so long."""
    block(1)
    times, took = 1, block(1)
    while took < seconds / 4:
        times *= 2
        took = block(times)
    return max(1, math.ceil(times * seconds / took))


@contextmanager
def _guarded(entry: Entry) -> Iterator[None]:
    """Make what is raised the entry's outcome; what it changes that all share is put back, and is in the reason."""
    changed: list[str] = []
    try:
        with surroundings.kept() as changed:
            yield
    except (UsageError, KeyboardInterrupt):
        raise
    except Unsupported as error:
        entry.outcome, entry.reason = "unsupported", _in_a_line(error)
    except (Exception, SystemExit) as error:
        if ran_out(error):
            entry.outcome, entry.reason = "oom", _in_a_line(error)
        else:
            entry.outcome, entry.reason = "error", f"{type(error).__name__}: {_in_a_line(error)}"
    if changed and entry.outcome == "measured":
        entry.reason = f"it changed {surroundings.listed(changed)}, which was put back"


def _in_a_line(error: BaseException) -> str:
    """Return what an error says, cut where it would fill a screen."""
    return textwrap.shorten(str(error), LONGEST_REASON, placeholder=" …")

"""A session: all norms of a task and condition timed in rounds, the baseline twice in each."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from normbench import surroundings
from normbench.errors import UsageError
from normbench.registry import Registry
from normbench.stats.intervals import ratio_over_rounds
from normbench.throughput.candidate import Candidate
from normbench.throughput.entry import Effort, Entry, Measured, Round, Turn
from normbench.train import assemble
from normbench.train.guard import guarded
from normbench.train.made import made
from normbench.trials import Stopped, Trial

#: After each of these numbers of rounds a session may stop, if all ratios are known well enough.
LOOKS = (9, 15, 25, 40, 64, 100)
#: Seconds that the baseline's block takes: long enough for the clock, short enough for a machine whose speed drifts.
TRAINING, EVALUATION = 0.1, 0.05


def measure(
    trials: Sequence[Trial],
    baseline: int,
    again: int,
    effort: Effort,
    *,
    registry: Registry,
    device: str,
    data_dir: Path,
) -> Iterator[Turn | Round | Measured]:
    """Time trials, among them the baseline twice, at the indices `baseline` and `again`; yield what a session reports.

    One round warms up, then come 9; it goes on, up to 100, until the 95% interval of each ratio to the baseline lies
    within the precision that is asked for, or the seconds are spent. A norm that raises is left out from there on, with
    the reason. Raises UsageError where the data is not there.
    """
    where = torch.device(device)
    trial = trials[baseline]
    if where.type == "cpu":
        torch.set_num_threads(trial.recipe.threads)
    entries = [Entry(trial) for trial in trials]
    session = _Session(entries, baseline, again, registry)
    with _charged(entries[baseline], registry, assembled=False):
        data = assemble.data(trial, registry.task(trial.task), data_dir, where)
    if session.alive:
        yield from session.make(lambda entry: Candidate(entry.trial, registry, data, where))
    yield from session.find_lengths()
    yield from session.round(keep=False)
    # Compiling is part of warming up, and takes nothing from the time for rounds.
    began = time.perf_counter()
    stopped: Stopped = "rounds"
    done = 0
    while done < LOOKS[-1]:
        yield from session.round(keep=True)
        if not session.alive:
            break
        done += 1
        yield Round(done)
        spent = done >= LOOKS[0] and time.perf_counter() - began > effort.seconds
        if (spent or done in LOOKS) and session.precise(effort.precision):
            stopped = "precise"
            break
        if spent:
            stopped = "time"
            break
    yield session.measured(done, stopped)


class _Session:
    """The rounds of a session, over the entries that are still in it."""

    def __init__(self, entries: list[Entry], baseline: int, again: int, registry: Registry) -> None:
        self._entries, self._index, self._registry = entries, baseline, registry
        self._baseline, self._again = entries[baseline], entries[again]
        self._candidates: dict[int, Candidate] = {}
        self._order = random.Random(0)
        self._steps = self._batches = self._batch = 1

    @property
    def alive(self) -> bool:
        """Whether there is still a baseline to measure against."""
        return self._baseline.outcome == self._again.outcome == "measured"

    def make(self, candidate: Callable[[Entry], Candidate]) -> Iterator[Turn]:
        """Make what is timed for each entry."""
        for i, entry in enumerate(self._entries):
            yield Turn(i)
            with _charged(entry, self._registry, assembled=False):
                self._candidates[i] = candidate(entry)

    def find_lengths(self) -> Iterator[Turn]:
        """Choose how many steps and batches make a block, by the baseline's speed."""
        if self.alive:
            yield Turn(self._index)
            candidate = self._candidates[self._index]
            self._batch = candidate.evaluation_batch
            with _charged(self._baseline, self._registry):
                self._steps = _length(candidate.train, TRAINING)
                self._batches = _length(candidate.evaluate, EVALUATION)

    def round(self, *, keep: bool) -> Iterator[Turn]:
        """Take every norm once, in an order drawn anew, as long as there is a baseline."""
        turn = [i for i, entry in enumerate(self._entries) if entry.outcome == "measured"]
        self._order.shuffle(turn)
        for i in turn:
            if not self.alive:
                break
            yield Turn(i)
            entry, candidate = self._entries[i], self._candidates[i]
            with _charged(entry, self._registry):
                trained, evaluated = candidate.train(self._steps), candidate.evaluate(self._batches)
                if keep:
                    entry.train.append(trained)
                    entry.evaluation.append(evaluated)
            if entry.outcome != "measured":
                # Its memory is the others'.
                del self._candidates[i]

    def precise(self, precision: float) -> bool:
        """Whether the interval of every ratio to the baseline lies within a share of it on both sides."""
        intervals = [
            ratio_over_rounds(self._baseline.train, entry.train)
            for entry in self._entries
            if entry is not self._baseline and entry.outcome == "measured"
        ]
        return all(
            interval.low >= (1 - precision) * interval.centre and interval.high <= (1 + precision) * interval.centre
            for interval in intervals
        )

    def measured(self, rounds: int, stopped: Stopped) -> Measured:
        """Return the result at the end; a baseline whose second turn failed has failed."""
        if self._baseline.outcome == "measured":
            self._baseline.outcome, self._baseline.reason = self._again.outcome, self._again.reason
        for i, entry in enumerate(self._entries):
            entry.made = made(entry.trial, self._registry)
            if entry.outcome == "measured" and i in self._candidates:
                entry.peak_memory = self._candidates[i].peak_memory
        stopped = stopped if self.alive else "failed"
        return Measured(self._entries, rounds, self._steps, self._batches, self._batch, stopped)


def _length(block: Callable[[int], float], seconds: float) -> int:
    """Return how many repetitions of a block take `seconds`."""
    block(1)
    times, took = 1, block(1)
    while took < seconds / 4:
        times *= 2
        took = block(times)
    return max(1, math.ceil(times * seconds / took))


@contextmanager
def _charged(entry: Entry, registry: Registry, *, assembled: bool = True) -> Iterator[None]:
    """Make what is raised the entry's outcome, but a UsageError until it is `assembled`."""
    with guarded(entry.trial, registry, passing=() if assembled else (UsageError,)) as guard:
        yield
    if guard.kind:
        entry.outcome, entry.reason = guard.kind, guard.reason
    elif guard.changed:
        entry.reason = f"it changed {surroundings.listed(guard.changed)}, which was put back"

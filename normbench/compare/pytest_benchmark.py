"""Two files of pytest-benchmark's side by side, each statistic with a threshold in a direction."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from normbench.compare.benchmark_files import Benchmark, Benchmarks, Stats
from normbench.compare.comparison import ComparedRow, Comparison, changes, word_of
from normbench.compare.speeds import APART, SMALLEST, log_margins
from normbench.errors import UsageError, unknown
from normbench.gates import Gate, Metric, margin
from normbench.stats.decide import Gated, decide
from normbench.stats.intervals import Interval
from normbench.stats.verdicts import ALPHA, Tested, hodges_lehmann
from normbench.tables.table import Subject

#: The statistic of the rounds that is compared: ranks of two runs tell how far the middle shifted.
MEDIAN = "median"
#: Rounds are combined into at most so many blocks, each the median of consecutive rounds.
BLOCKS = 40
_SUBJECT = Subject(task="benchmarks", task_version=1)


@dataclass(frozen=True)
class Asked:
    """A statistic to compare: which way is worse, the margin of its test, and its gate where it has one."""

    metric: Metric
    margin: float
    gate: Gate | None = None

    @property
    def timed(self) -> bool:
        """Whether it is a time, and no exact number of `extra_info`."""
        return self.metric.name == MEDIAN

    @property
    def sign(self) -> int:
        """What a change is multiplied by, so that + is better."""
        return 1 if self.metric.worse == "-" else -1

    def of(self, one: Benchmark) -> float | None:
        """Return a benchmark's value; None where it has none."""
        return one.stats.median if self.timed else one.numbers.get(self.metric.name)


#: What is asked of one benchmark, in BASE and in HEAD.
_Pair: TypeAlias = tuple[Asked, Benchmark, Benchmark]


def asked(given: dict[str, str], base: Benchmarks) -> list[Asked]:
    """Return what --fail asks for: the median time, or a key of `extra_info`; left out, the median without a gate.

    Raises UsageError for one that is not there, and for one on times below 10%.
    """
    known = {MEDIAN, *(name for one in base.benchmarks.values() for name in one.numbers)}
    wanted = []
    for name, text in given.items():
        if name not in known:
            raise unknown("statistic", name, known, "--fail")
        worse, number, unit = margin(text, f"--fail {name}", "like +10% where a rise is worse")
        if unit != "%":
            raise UsageError(
                f"--fail {name}:{text}: a threshold on timings is like +10%, or -10% where a fall is worse"
            )
        if worse == "-" and number >= 1:
            raise UsageError(f"--fail {name}:{text}: it can't fall by 100% or more")
        if number < SMALLEST and name == MEDIAN:
            raise UsageError(
                f"--fail {name}:{text}: times of two runs differ even if nothing changed; a threshold on them is 10% "
                "or more"
            )
        wanted.append(Asked(Metric(name, name, worse, ("%",)), number, Gate(name, number, "%", text)))
    return wanted or [Asked(Metric(MEDIAN, MEDIAN, "+", ("%",)), SMALLEST)]


def compare(base: Benchmarks, head: Benchmarks, asked: Sequence[Asked]) -> Comparison:
    """Compare two files, benchmark by benchmark. Numbers of `extra_info` are exact, and need no like machines.

    Raises UsageError for a gate that the rounds can never fail.
    """
    hard, soft = (changes(getattr(base.machine, facts), getattr(head.machine, facts)) for facts in ("hard", "soft"))
    both = [(ours, head.benchmarks[name]) for name, ours in base.benchmarks.items() if name in head.benchmarks]
    pairs = [
        (one, ours, theirs)
        for one in asked
        for ours, theirs in both
        if not (hard and one.timed) and None not in (one.of(ours), one.of(theirs))
    ]
    vanished = [
        _row(asked[0].metric, name, word="vanished", gate=asked[0].gate, why="HEAD has no such benchmark")
        for name in base.benchmarks
        if name not in head.benchmarks
    ]
    vanished += [
        _row(one.metric, ours.fullname, word="vanished", gate=one.gate, why=f"HEAD has no {one.metric.name} of it")
        for one in asked
        for ours, theirs in both
        if one.of(ours) is not None and one.of(theirs) is None
    ]
    new = [name for name in head.benchmarks if name not in base.benchmarks]
    notes = [f"times can't be compared: {', '.join(hard)}"] * bool(hard)
    notes += [f"environments differ: {', '.join(soft)}"] * bool(soft)
    notes += [f"in HEAD alone: {', '.join(new)}"] * bool(new)
    return Comparison(
        base=str(base.file),
        head=str(head.file),
        gates={one.gate.metric: one.gate for one in asked if one.gate},
        rows=[*_rows(pairs), *vanished],
        notes=notes,
        warnings=[],
    )


def _rows(pairs: Sequence[_Pair]) -> Iterator[ComparedRow]:
    _check_rounds(pairs)
    tests = [_tested(*pair) for pair in pairs]
    decisions = decide([Gated("mean", [], one.margin, tested) for (one, *_), tested in zip(pairs, tests, strict=True)])
    for (one, ours, theirs), tested, decision in zip(pairs, tests, decisions, strict=True):
        ends = [one.sign * float(end) for end in (tested.low, tested.centre, tested.high)]
        low, centre, high = sorted(map(math.expm1, ends) if one.timed else ends)
        yield _row(
            one.metric,
            ours.fullname,
            base=one.of(ours),
            head=one.of(theirs),
            difference=Interval(centre, low, high, "exact"),
            seeds=1,
            word=word_of(tested.interval, decision if one.gate else None),
            p=decision.p,
            gate=one.gate,
            flags=["within-session"] * one.timed,
        )


def _row(metric: Metric, name: str, **fields: Any) -> ComparedRow:
    return ComparedRow(
        subject=_SUBJECT, table_id="benchmarks", norm_id=name, norm=name, metric=metric, unit="seconds", **fields
    )


def _tested(asked: Asked, base: Benchmark, head: Benchmark) -> Tested:
    """Test the log of HEAD over BASE, signed so that + is better: by the rounds, or exactly where there is one number.

    The margin is in the direction for the worse: a rise of 10% is a loss of log 1.1.
    """
    if asked.timed:
        ours, theirs = ([asked.sign * math.log(block) for block in _blocks(one.stats)] for one in (base, head))
        return hodges_lehmann(ours, theirs, *log_margins(asked.margin, rises=asked.sign < 0), APART)
    before, after = base.numbers[asked.metric.name], head.numbers[asked.metric.name]
    change = (after - before) / abs(before) if before else math.copysign(math.inf, after) if after else 0.0
    return _exactly(asked.sign * change, asked.margin)


def _check_rounds(pairs: Sequence[_Pair]) -> None:
    """Refuse a gate whose rounds could never fail it: two groups of so few have too few orders."""
    rows = len(pairs)
    for asked, ours, theirs in pairs:
        base, head = (len(_blocks(one.stats)) for one in (ours, theirs))
        if asked.gate and asked.timed and math.comb(base + head, base) < rows / ALPHA:
            needed = next(n for n in range(2, 100) if math.comb(2 * n, n) >= rows / ALPHA)
            raise UsageError(
                f"gate {asked.gate}: {ours.fullname} has {base} and {head} rounds; with {rows} gated "
                f"row{'s' * (rows != 1)} it needs {needed} per side"
            )


def _exactly(change: float, lost: float) -> Tested:
    """Return the test of one exact number per side: worse where it lost the margin."""
    import numpy as np

    worse = change <= -lost * (1 - 1e-12)
    return Tested(*(np.asarray(value) for value in (change, change, change, 0.0 if worse else 1.0, not worse)))


def _blocks(stats: Stats) -> Sequence[float]:
    data = stats.data or (stats.median,)
    size = math.ceil(len(data) / BLOCKS)
    return [statistics.median(data[i : i + size]) for i in range(0, len(data), size)]

"""Two files of pytest-benchmark's side by side, each statistic against a threshold in a direction."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence

from normbench.benchmarks import Benchmark, Benchmarks, Stats
from normbench.boards.compare import ComparedRow, Comparison, Word
from normbench.boards.table import Head
from normbench.boards.timing import SMALLEST
from normbench.errors import UsageError, unknown
from normbench.gates import Gate, margin
from normbench.stats import Interval
from normbench.stats.decide import Gated, decide
from normbench.stats.verdicts import Tested, hodges_lehmann

#: What is compared where nothing is asked for: the median time of a round.
DEFAULT = "median"
_TIMES = ("median", "mean", "min", "max")
#: Rounds are put together to so many blocks at most, each the median of rounds that followed one another.
BLOCKS = 40


def gates(given: dict[str, str], base: Benchmarks) -> dict[str, tuple[str, Gate]]:
    """Return gates on timings, with the sign of a change for the worse, by statistic or key of `extra_info`.

    Raises UsageError for one that is not there, and below 10%: a session knows no less of another.
    """
    known = {*_TIMES, "ops", *(name for one in base.benchmarks.values() for name in one.numbers)}
    found = {}
    for name, text in given.items():
        if name not in known:
            raise unknown("statistic", name, known, "--fail")
        sign, number, unit = margin(text, f"--fail {name}", "like +10% where a rise is worse")
        if unit != "%":
            raise UsageError(
                f"--fail {name}:{text}: a threshold on timings is like +10%, or -10% where a fall is worse"
            )
        if sign == "-" and number >= 1:
            raise UsageError(f"--fail {name}:{text}: it can't fall by 100% or more")
        if number < SMALLEST and name in (*_TIMES, "ops"):
            raise UsageError(
                f"--fail {name}:{text}: between two runs timings move by themselves; one run a side carries 10% or more"
            )
        found[name] = sign, Gate(name, number, "%", text)
    return found


def compare(base: Benchmarks, head: Benchmarks, asked: dict[str, tuple[str, Gate]]) -> Comparison:
    """Compare two files, benchmark by benchmark."""
    hard = _changes(base.machine.hard, head.machine.hard)
    rows = [] if hard else list(_rows(base, head, asked))
    vanished = [
        _row(name, next(iter(asked), DEFAULT), word="vanished", why="HEAD has no such benchmark")
        for name in base.benchmarks
        if name not in head.benchmarks
    ]
    vanished += [
        _row(name, metric, word="vanished", why=f"HEAD has no {metric} above 0 of it")
        for metric in asked
        for name, ours in base.benchmarks.items()
        if name in head.benchmarks and _has(ours, metric) and not _has(head.benchmarks[name], metric)
    ]
    new = [name for name in head.benchmarks if name not in base.benchmarks]
    soft = _changes(base.machine.soft, head.machine.soft)
    notes = [f"times can't be compared: {', '.join(hard)}"] * bool(hard)
    notes += [f"environments differ: {', '.join(soft)}"] * bool(soft)
    notes += [f"in HEAD alone: {', '.join(new)}"] * bool(new)
    return Comparison(
        base=str(base.file),
        head=str(head.file),
        gates={name: gate for name, (_, gate) in asked.items()},
        rows=[*rows, *([] if hard else vanished)],
        notes=notes,
        warnings=[],
    )


def _rows(base: Benchmarks, head: Benchmarks, asked: dict[str, tuple[str, Gate]]) -> Iterator[ComparedRow]:
    ways = asked or {DEFAULT: ("+", Gate(DEFAULT, SMALLEST, "%", ""))}
    opened = []
    for metric, (sign, gate) in ways.items():
        for name, ours in base.benchmarks.items():
            theirs = head.benchmarks.get(name)
            if theirs is not None and _has(ours, metric) and _has(theirs, metric):
                opened.append((name, metric, sign, gate, ours, theirs, _tested(ours, theirs, metric, sign, gate)))
    decisions = decide([Gated("mean", [], gate.margin, tested) for *_, gate, _, _, tested in opened])
    for (name, metric, sign, gate, ours, theirs, tested), decision in zip(opened, decisions, strict=True):
        factor = 1 if sign == "-" else -1
        centre, low, high = _ends(*(math.expm1(factor * float(end)) for end in tested[:3]))
        exact = low == high
        word: Word = decision.verdict
        if not asked:
            word = "better" if float(tested.low) > 0 else "worse" if float(tested.high) < 0 else "~"
        yield _row(
            name,
            metric,
            base=_number(ours, metric),
            head=_number(theirs, metric),
            difference=Interval(centre, low, high, "exact"),
            seeds=1,
            word=word,
            p=decision.p,
            gate=gate if asked else None,
            flags=[] if exact else ["within-session"],
        )


def _ends(centre: float, one: float, other: float) -> tuple[float, float, float]:
    """Return a centre with its lower and its upper end."""
    return centre, min(one, other), max(one, other)


def _row(name: str, metric: str, **fields: object) -> ComparedRow:
    head = Head(
        task="benchmarks", task_version=1, task_params={}, condition={}, protocol="tuned", baseline="", rates=[]
    )
    values = {"head_of": head, "table": "benchmarks", "row": name, "norm": name, "metric": metric, "unit": "seconds"}
    return ComparedRow(**{**values, **fields})  # type: ignore[arg-type]


def _tested(ours: Benchmark, theirs: Benchmark, metric: str, sign: str, gate: Gate) -> Tested:
    """Test the log of HEAD over BASE, signed so that + is better: by the rounds, or exactly where there is one number.

    `gate` is in the direction of `sign`: a rise of 10% is a loss of log 1.1.
    """
    if sign == "+":
        lost, half = math.log1p(gate.margin), math.log1p(gate.margin / 2)
    else:
        lost, half = -math.log1p(-gate.margin), -math.log1p(-gate.margin / 2)
    factor = 1.0 if sign == "-" else -1.0
    if metric in (*_TIMES, "ops") and ours.stats.data and theirs.stats.data:
        factor *= -1.0 if metric == "ops" else 1.0
        logs = [[factor * math.log(block) for block in _blocks(one.stats)] for one in (ours, theirs)]
        return hodges_lehmann(logs[0], logs[1], lost, half)
    change = factor * math.log(_number(theirs, metric) / _number(ours, metric))
    return _exactly(change, lost)


def _exactly(change: float, lost: float) -> Tested:
    """Return the test of one exact number a side: worse where it lost the margin."""
    import numpy as np

    worse = change <= -lost
    return Tested(*(np.asarray(value) for value in (change, change, change, 0.0 if worse else 1.0, not worse)))


def _blocks(stats: Stats) -> Sequence[float]:
    data = stats.data
    size = math.ceil(len(data) / BLOCKS)
    return [statistics.median(data[i : i + size]) for i in range(0, len(data), size)]


def _has(one: Benchmark, metric: str) -> bool:
    return metric in (*_TIMES, "ops") or one.numbers.get(metric, 0) > 0


def _number(one: Benchmark, metric: str) -> float:
    return float(getattr(one.stats, metric)) if metric in (*_TIMES, "ops") else one.numbers[metric]


def _changes(before: dict[str, str], after: dict[str, str]) -> list[str]:
    keys = {**before, **after}
    return [
        f"{key} {before.get(key, 'none')} → {after.get(key, 'none')}"
        for key in keys
        if before.get(key) != after.get(key)
    ]

"""Two files of pytest-benchmark's side by side, each statistic against a threshold in a direction."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence

from normbench.compare.benchmark_files import Benchmark, Benchmarks, Stats
from normbench.compare.comparison import ComparedRow, Comparison, Word, changes
from normbench.compare.speeds import SMALLEST
from normbench.errors import UsageError, unknown
from normbench.gates import Gate, margin
from normbench.stats import Interval
from normbench.stats.decide import Gated, decide
from normbench.stats.verdicts import ALPHA, Tested, hodges_lehmann
from normbench.tables.table import Subject

#: The statistic of the rounds that is compared: what ranks tell of two runs is a shift of the middle.
MEDIAN = "median"
#: Rounds are put together to so many blocks at most, each the median of rounds that followed one another.
BLOCKS = 40


def gates(given: dict[str, str], base: Benchmarks) -> dict[str, tuple[str, Gate]]:
    """Return gates, with the sign of a change for the worse: on the median time, or on a key of `extra_info`.

    Raises UsageError for one that is not there, and for one on times below 10%: two runs differ by themselves.
    """
    known = {MEDIAN, *(name for one in base.benchmarks.values() for name in one.numbers)}
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
        if number < SMALLEST and name == MEDIAN:
            raise UsageError(
                f"--fail {name}:{text}: between two runs timings move by themselves; one run a side carries 10% or more"
            )
        found[name] = sign, Gate(name, number, "%", text)
    return found


def compare(base: Benchmarks, head: Benchmarks, asked: dict[str, tuple[str, Gate]]) -> Comparison:
    """Compare two files, benchmark by benchmark. Numbers of `extra_info` are exact, and need no like machines.

    Raises UsageError for a gate that the rounds can't carry.
    """
    hard = changes(base.machine.hard, head.machine.hard)
    rows = list(_rows(base, head, {name: way for name, way in _ways(asked).items() if not hard or name != MEDIAN}))
    vanished = [
        _row(name, next(iter(asked), MEDIAN), word="vanished", why="HEAD has no such benchmark")
        for name in base.benchmarks
        if name not in head.benchmarks
    ]
    vanished += [
        _row(name, metric, word="vanished", why=f"HEAD has no {metric} of it")
        for metric in asked
        for name, ours in base.benchmarks.items()
        if name in head.benchmarks and _has(ours, metric) and not _has(head.benchmarks[name], metric)
    ]
    new = [name for name in head.benchmarks if name not in base.benchmarks]
    soft = changes(base.machine.soft, head.machine.soft)
    notes = [f"times can't be compared: {', '.join(hard)}"] * bool(hard)
    notes += [f"environments differ: {', '.join(soft)}"] * bool(soft)
    notes += [f"in HEAD alone: {', '.join(new)}"] * bool(new)
    return Comparison(
        base=str(base.file),
        head=str(head.file),
        gates={name: gate for name, (_, gate) in asked.items()},
        rows=[*rows, *vanished],
        notes=notes,
        warnings=[],
    )


def _ways(asked: dict[str, tuple[str, Gate]]) -> dict[str, tuple[str, Gate]]:
    return asked or {MEDIAN: ("+", Gate(MEDIAN, SMALLEST, "%", ""))}


def _rows(base: Benchmarks, head: Benchmarks, ways: dict[str, tuple[str, Gate]]) -> Iterator[ComparedRow]:
    opened = []
    for metric, (sign, gate) in ways.items():
        for name, ours in base.benchmarks.items():
            theirs = head.benchmarks.get(name)
            if theirs is not None and _has(ours, metric) and _has(theirs, metric):
                opened.append((name, metric, sign, gate, ours, theirs, _tested(ours, theirs, metric, sign, gate)))
    _check_rounds(
        [(ours, theirs, gate) for _, metric, _, gate, ours, theirs, _ in opened if metric == MEDIAN], len(opened)
    )
    decisions = decide([Gated("mean", [], gate.margin, tested) for *_, gate, _, _, tested in opened])
    for (name, metric, sign, gate, ours, theirs, tested), decision in zip(opened, decisions, strict=True):
        factor = 1 if sign == "-" else -1
        exact = metric != MEDIAN
        ends = [factor * float(end) for end in tested[:3]]
        centre, low, high = _ends(*(ends if exact else map(math.expm1, ends)))
        word: Word = decision.verdict
        if not gate.text:
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
            gate=gate if gate.text else None,
            flags=[] if exact else ["within-session"],
        )


def _ends(centre: float, one: float, other: float) -> tuple[float, float, float]:
    """Return a centre with its lower and its upper end."""
    return centre, min(one, other), max(one, other)


def _row(name: str, metric: str, **fields: object) -> ComparedRow:
    subject = Subject(
        task="benchmarks", task_version=1, task_params={}, condition={}, protocol="tuned", baseline="", rates=[]
    )
    ids = {"subject": subject, "table_id": "benchmarks", "norm_id": name, "norm": name}
    values = {**ids, "metric": metric, "unit": "seconds"}
    return ComparedRow(**{**values, **fields})  # type: ignore[arg-type]


def _tested(ours: Benchmark, theirs: Benchmark, metric: str, sign: str, gate: Gate) -> Tested:
    """Test the log of HEAD over BASE, signed so that + is better: by the rounds, or exactly where there is one number.

    `gate` is in the direction of `sign`: a rise of 10% is a loss of log 1.1.
    """
    factor = 1.0 if sign == "-" else -1.0
    if metric != MEDIAN:
        before, after = _number(ours, metric), _number(theirs, metric)
        change = (after - before) / abs(before) if before else math.copysign(math.inf, after) if after else 0.0
        return _exactly(factor * change, gate.margin)
    if sign == "+":
        lost, half = math.log1p(gate.margin), math.log1p(gate.margin / 2)
    else:
        lost, half = -math.log1p(-gate.margin), -math.log1p(-gate.margin / 2)
    logs = [[factor * math.log(block) for block in _blocks(one.stats)] for one in (ours, theirs)]
    return hodges_lehmann(logs[0], logs[1], lost, half)


def _check_rounds(pairs: Sequence[tuple[Benchmark, Benchmark, Gate]], rows: int) -> None:
    """Refuse a gate whose rounds could not fail it: so few orders of two groups are there."""
    for ours, theirs, gate in pairs:
        counts = [len(_blocks(one.stats)) for one in (ours, theirs)]
        if gate.text and math.comb(sum(counts), counts[0]) < rows / ALPHA:
            needed = next(n for n in range(2, 100) if math.comb(2 * n, n) >= rows / ALPHA)
            raise UsageError(
                f"gate {gate}: {ours.fullname} has {counts[0]} and {counts[1]} rounds; with {rows} gated "
                f"row{'s' * (rows != 1)} it needs {needed} a side"
            )


def _exactly(change: float, lost: float) -> Tested:
    """Return the test of one exact number a side: worse where it lost the margin."""
    import numpy as np

    worse = change <= -lost * (1 - 1e-12)
    return Tested(*(np.asarray(value) for value in (change, change, change, 0.0 if worse else 1.0, not worse)))


def _blocks(stats: Stats) -> Sequence[float]:
    data = stats.data or (stats.median,)
    size = math.ceil(len(data) / BLOCKS)
    return [statistics.median(data[i : i + size]) for i in range(0, len(data), size)]


def _has(one: Benchmark, metric: str) -> bool:
    return metric == MEDIAN or metric in one.numbers


def _number(one: Benchmark, metric: str) -> float:
    return one.stats.median if metric == MEDIAN else one.numbers[metric]

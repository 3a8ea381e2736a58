"""Reads the JSON that pytest-benchmark writes, version 4 or later: each benchmark's times, and where they were taken.

Times are seconds, each the mean over the iterations of a round.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from normbench.errors import UsageError
from normbench.texts import in_a_line

#: How a file of pytest-benchmark begins, in the order in which it writes its keys or in that of the alphabet.
_BEGINS = re.compile(rb'\s*\{\s*"(?:machine_info|benchmarks)"\s*:')
#: What is no soft fact of `machine_info`: hard ones, a host's name, and versions that are there twice.
_APART = frozenset({"node", "processor", "machine", "python_implementation", "python_implementation_version"})


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """What is read of a benchmark's rounds. `data` are their times, in order; empty where a file leaves them out."""

    min: float
    max: float
    mean: float
    median: float
    rounds: int
    data: tuple[float, ...] = ()


class Benchmark(msgspec.Struct, frozen=True):
    """One benchmark: `fullname` is its test's id."""

    fullname: str
    stats: Stats
    extra_info: dict[str, Any] = {}

    @property
    def numbers(self) -> dict[str, float]:
        """Those values of `extra_info` that are finite numbers."""
        return {
            name: float(value)
            for name, value in self.extra_info.items()
            if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        }


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What a file was measured on. Times of machines whose `hard` facts differ can't be compared; `soft` ones may."""

    hard: dict[str, str]
    soft: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Benchmarks:
    """A file of pytest-benchmark's: its benchmarks by fullname, in its order."""

    file: Path
    machine: Machine
    benchmarks: dict[str, Benchmark]


class _Document(msgspec.Struct):
    machine_info: dict[str, Any]
    benchmarks: list[Benchmark]
    version: str


def is_benchmarks(path: Path) -> bool:
    """Whether a file begins as pytest-benchmark's JSON does. It is not read further, and may still be a bad one."""
    try:
        with path.open("rb") as file:
            return _BEGINS.match(file.read(256)) is not None
    except OSError:
        return False


def read(path: Path) -> Benchmarks:
    """Return what a file of pytest-benchmark's holds.

    Raises UsageError for a file that is not one, is cut, has no benchmark or two of one name, or has times that are no
    positive numbers.
    """
    try:
        # The standard library's reader, for pytest-benchmark writes NaN and Infinity.
        document = msgspec.convert(json.loads(path.read_bytes()), _Document)
        benchmarks = {one.fullname: one for one in document.benchmarks}
        for one in document.benchmarks:
            _check(one)
        if len(benchmarks) < len(document.benchmarks):
            raise ValueError("two benchmarks have one name")
        if not benchmarks:
            raise ValueError("it has no benchmark")
    except (msgspec.MsgspecError, ValueError, RecursionError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else in_a_line(error)
        raise UsageError(f"{path}: not a file that pytest-benchmark wrote ({reason})") from None
    return Benchmarks(file=path, machine=_machine(document.machine_info), benchmarks=benchmarks)


def _check(one: Benchmark) -> None:
    stats = one.stats
    times = (stats.min, stats.max, stats.mean, stats.median, *stats.data)
    if not all(math.isfinite(seconds) and seconds > 0 for seconds in times):
        raise ValueError(f"{one.fullname} has times that are no positive numbers")
    if stats.data and len(stats.data) != stats.rounds:
        raise ValueError(f"{one.fullname} has {len(stats.data)} times of {stats.rounds} rounds")


def _machine(info: dict[str, Any]) -> Machine:
    """Return what matters of a machine, with what a project's own hook says of it."""
    given = info.get("cpu")
    cpu = given if isinstance(given, dict) else {}
    hard = {
        "machine": info.get("machine"),
        # py-cpuinfo before 7 wrote `brand`.
        "cpu": cpu.get("brand_raw") or cpu.get("brand") or info.get("processor"),
        "python": ".".join(str(info.get("python_version", "")).split(".")[:2]),
        "implementation": info.get("python_implementation"),
    }
    soft = {name: value for name, value in info.items() if name not in _APART and isinstance(value, str | int | float)}
    return Machine(hard=_known(hard), soft=_known(soft | {"cores": cpu.get("count")}))


def _known(facts: dict[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in facts.items() if value not in (None, "")}

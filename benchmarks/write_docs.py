"""Write docs/benchmarks.md from pytest-benchmark's JSON: python benchmarks/write_docs.py IN.json [MORE.json] OUT.md.

A benchmark that several files have is taken from the last: what a change can't have touched need not be run again.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from sections import hardware


def main(sources: list[Path], page: Path) -> None:
    """Write the page: a row a benchmark, its median and range, n, and what else it measured."""
    entries: dict[str, dict[str, Any]] = {}
    for source in sources:
        entries |= {entry["name"]: entry for entry in json.loads(source.read_text(encoding="utf-8"))["benchmarks"]}
    lines = [
        "# Benchmarks",
        "",
        "What normbench itself costs. Written by `tox -e benchmarks`; the machine is small and shared, so read the",
        "ratios and the medians, not the last digit. No test asserts a time.",
        "",
        f"{hardware()}.",
        "",
        "| benchmark | median | min–max | rounds | |",
        "| --- | --- | --- | --- | --- |",
    ]
    for entry in entries.values():
        stats = entry["stats"]
        extra = ", ".join(f"{key} {value}" for key, value in entry["extra_info"].items())
        between = f"{_time(stats['min'])}–{_time(stats['max'])}"
        name = entry["name"].removeprefix("test_").replace("_", " ")
        lines.append(f"| {name} | {_time(stats['median'])} | {between} | {stats['rounds']} | {extra} |")
    lines += [
        "",
        "Checks of a norm are those of `normbench check`, in one process and on one thread, at every layout that it",
        "claims: all of them, and the fast half. How often they fail a sound layer stands in [check.md](check.md).",
        "",
        "A trial, in brackets its task and norm, stands beside the same training written as a plain loop, each round",
        "timing both, one after the other; what it takes more, and the ratio, are medians over the rounds. Threads are",
        "a recipe value; the default is one: two are no faster on a task this small, and one leaves a core to another",
        "trial.",
        "",
        "The training phase of quick is from its first trial's end to its last's, so that workers are warm: with one",
        "worker and with two, in turn. Trials that do nothing are of a norm that has no form for its site: handed to a",
        "worker, taken back and stored, synced. A run that goes on begins with the imports of the server that workers",
        "are forked from.",
        "",
        "A step of a layer, in brackets its name, whether torch compiled it, and the shape, is forward and backward",
        "with gamma and beta in float32. Each round times torch's batch norm, not compiled, and then the layer: the",
        "ratio is of their times, below 1 where the layer is faster.",
        "",
    ]
    devices = {entry["extra_info"].get("device") for entry in entries.values()} - {None}
    lines += [f"On a GPU: {', '.join(sorted(devices))}." if devices else "Nothing here was run on a GPU yet."]
    page.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _time(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"


if __name__ == "__main__":
    main([Path(source) for source in sys.argv[1:-1]], Path(sys.argv[-1]))

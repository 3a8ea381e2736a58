"""How often checks fail sound layers: torch's, timm's and x-transformers'. Writes the table into docs/check.md.

    python benchmarks/checks.py [SEEDS] [SLOW_SEEDS]

Each layer at each of its layouts is checked at SEEDS seeds (50 by default; slow checks at 5), on one thread and on two.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version

from sections import ROOT, hardware, replace

PLUGIN = ROOT / "tests" / "helpers" / "sound_layers.py"
THREADS = (1, 2)


def layers() -> list[str]:
    """Return the names of the sound layers."""
    from normbench import plugins

    offered = plugins.current((PLUGIN,)).norms
    return [name for name, one in offered.items() if not one.plugin.built_in]


def checked(job: tuple[str, int, int, bool]) -> list[tuple[str, str, str, str]]:
    """Return name, check, status and what was said of one layer at one seed and number of threads."""
    from normbench import plugins
    from normbench.testing.run import Asked, chosen, run_check

    name, seed, threads, fast = job
    registry = plugins.current((PLUGIN,))
    one = Asked(kind="norm", name=name, seed=seed, threads=threads, fast=fast)
    results = [run_check(check, one, registry) for check in chosen(one)]
    return [(name, result.check, result.status, f"{result.said} {result.input}") for result in results]


def jobs(seeds: int, slow: int) -> Iterator[tuple[str, int, int, bool]]:
    """Yield every layer, seed and number of threads, and whether slow checks are left out."""
    for name in layers():
        for seed in range(seeds):
            for threads in THREADS:
                yield name, seed, threads, seed >= slow


def main(seeds: int = 50, slow: int = 5) -> None:
    """Run them all, two at a time, and write what came out."""
    statuses: Counter[str] = Counter()
    alarms: Counter[str] = Counter()
    with ProcessPoolExecutor(2) as pool:
        for results in pool.map(checked, jobs(seeds, slow), chunksize=4):
            for name, check, status, said in results:
                statuses[status] += 1
                if status == "failed":
                    alarms[f"{name}: {check}"] += 1
                    print(f"{name}: {check}: {said}", file=sys.stderr)
    # What does not apply can't fail.
    ran = sum(statuses.values()) - statuses["not-applicable"]
    libraries = ", ".join(f"{name} {version(name)}" for name in ("torch", "timm", "x-transformers"))
    lines = [
        f"{len(layers())} sound layers of torch, timm and x-transformers at {seeds} seeds (slow: {slow}), on one",
        f"thread and on two: {ran:,} checks, {sum(alarms.values())} failed ({sum(alarms.values()) / ran:.2%}),",
        f"{statuses['expected']:,} expected to fail, {statuses['advice']:,} advice. {hardware()}; {libraries}.",
        *(["", "| layer: check | failed |", "| --- | --- |"] if alarms else []),
        *(f"| {called} | {count} |" for called, count in alarms.most_common()),
    ]
    replace(ROOT / "docs" / "check.md", "false alarms", "\n".join(lines))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

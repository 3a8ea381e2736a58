"""Write docs/benchmarks.md from pytest-benchmark's JSON: python benchmarks/write_docs.py IN.json [MORE.json] OUT.md.

A benchmark that several files have is taken from the last: what a change can't have touched need not be run again.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sections import hardware

#: A norm that trains in more than so many times batch norm's time has its reason in `BOUND_BY`.
SLOW = 3
#: What bounds a norm's speed, in the words of its row.
_CALLS = "at 32x500 the number of small operations: torch has batch norm in one"
_PASSES = "passes over memory: torch has no fused kernel, and most passes write a tensor of the input's size"
BOUND_BY = {
    "batchnorm-frozen": "both forms are computed and one is selected: a branch could not be compiled or vectorised",
    "batch-renorm": _CALLS,
    "layer-scaling": _CALLS,
    "lp-batchnorm": _CALLS,
    "noise": "two random numbers per value, each of which costs as much as all of batch norm",
    "noisy-batchnorm": "batch norm, and the noise after it",
    "streaming-norm": _CALLS,
    "switchable-norm": "moments of each sample, and some forty operations on small tables",
    "online-norm": _CALLS,
    'online-norm(compensation="clamp")': _CALLS,
    'online-norm(compensation="none")': _CALLS,
    "dyt": "tanh of each value",
    "derf": "erf of each value, and exp in its backward",
    "evonorm-b0": _PASSES,
    "evonorm-s0": _PASSES,
}
PHASES = ("training", "evaluation")


def main(sources: list[Path], page: Path) -> None:
    """Write the page: one row per benchmark, with its median and range, its rounds, and what else it measured."""
    entries: dict[str, dict[str, Any]] = {}
    for source in sources:
        entries |= {entry["name"]: entry for entry in json.loads(source.read_text(encoding="utf-8"))["benchmarks"]}
    layers, probes = (
        [entry for entry in entries.values() if entry["group"] == group] for group in ("layers", "probes")
    )
    others = [entry for entry in entries.values() if entry["group"] not in ("layers", "probes")]
    lines = [
        "# Benchmarks",
        "",
        "For contributors, and for readers who want to know what a norm or a probe costs: how long normbench itself",
        "takes, and how long a step of each [norm](#norms) and a training with each [probe](#probes) take.",
        "",
        "The machine is small and shared, so read the ratios and the medians, not the last digit. No test asserts a",
        "time. `tox -e benchmarks` writes this page.",
        "",
    ]
    devices = {entry["extra_info"].get("device") for entry in entries.values()} - {None}
    on_a_gpu = f"On a GPU: {', '.join(sorted(devices))}." if devices else "Nothing here was run on a GPU yet."
    lines += [f"{hardware()}. {on_a_gpu}", *_layers(layers), *_probes(probes), *_others(others)]
    page.write_text("\n".join(lines) + "\n", encoding="utf-8")
    slow = {entry["extra_info"]["norm"] for entry in layers if entry["extra_info"]["training"] > SLOW}
    slow -= set(BOUND_BY)
    if slow:
        names = ", ".join(sorted(slow))
        sys.exit(f"{page}: more than {SLOW} times batch norm's time, and no reason in BOUND_BY: {names}")


def _others(entries: list[dict[str, Any]]) -> Iterator[str]:
    """Yield what the names of the benchmarks of normbench itself mean, and their table."""
    yield from [
        "",
        "## normbench itself",
        "",
        "- *checks of*: those of `normbench check`, in one process and on one thread, at every layout that the norm",
        "  claims; all of them, or the fast ones only. [check.md](check.md#how-often-the-checks-err) says how often",
        "  they fail a sound layer.",
        "- *a trial*: a trial of this task and norm. Each round times it and the same training written as a plain",
        "  loop, one after the other. The additional time and the ratio are medians over the rounds.",
        "- *threads of a trial*: the same trial with one thread and with two. The default of this recipe value is",
        "  one, because two are hardly faster on a task this small, and one leaves a core to another trial.",
        "- *training phase of quick*: the time from the end of its first trial to the end of its last, so that",
        "  workers are warm, with one worker and with two, in turn.",
        "- *trials that do nothing*: their norm has no form for its site. Each is handed to a worker, taken back,",
        "  stored and synced.",
        "- *a resumed run begins*: this includes the imports of the server that workers are forked from.",
        "- *a step of* a layer, of this norm and shape: forward and backward, with gamma and beta, in float32. Each",
        "  round times torch's batch norm, not compiled, and then the layer. The ratio of their times is below 1 if",
        "  the layer is faster.",
        "",
        "| benchmark | median | min–max | rounds | |",
        "| --- | --- | --- | --- | --- |",
        *map(_row, entries),
    ]


def _row(entry: dict[str, Any]) -> str:
    stats = entry["stats"]
    extra = ", ".join(f"{key} {value}" for key, value in entry["extra_info"].items())
    between = f"{_time(stats['min'])}–{_time(stats['max'])}"
    name, _, parameters = entry["name"].removeprefix("test_").replace("_", " ").removesuffix("]").partition("[")
    name = f"{name}{': ' if name.endswith(' trial') else ' '}{parameters}" if parameters else name
    return f"| {name} | {_time(stats['median'])} | {between} | {stats['rounds']} | {extra} |"


def _layers(entries: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the table of the norms: each one's ratios to batch norm at each shape, and what bounds them."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for entry in entries:
        own = entry["extra_info"]
        found.setdefault(own["norm"], {})[own["shape"]] = own
    shapes = list(dict.fromkeys(shape for own in found.values() for shape in own))
    rounds = ", ".join(sorted({str(entry["stats"]["rounds"]) for entry in entries}))
    yield from [
        "",
        "## Norms",
        "",
        "The time of each layer divided by that of torch's batch norm. Neither is compiled, on one thread in float32.",
        "In training it is the time of forward and backward, in evaluation that of the forward. Each round times both",
        f"layers, one after the other, and the ratio is the median over {rounds} rounds for each norm and shape.",
        "",
        "- *fused*: timed with the ReLU that the layer includes, and compared with batch norm and a ReLU.",
        "- *weight*: timed with the 3 x 3 convolution or the linear that the norm wraps, and compared with such a",
        "  layer and batch norm.",
        "- –: the norm has no form for the layout.",
        "",
        f"| norm | {' | '.join(f'{shape}: training | evaluation' for shape in shapes)} | what bounds it |",
        f"| --- |{' --- |' * (2 * len(shapes) + 1)}",
    ]
    for norm, own in found.items():
        placement = next(iter(own.values()))["placement"]
        cells = [f"{own[shape][phase]:.2f}" if shape in own else "–" for shape in shapes for phase in PHASES]
        mark = f" *{placement}*" if placement in ("fused", "weight") else ""
        yield f"| `{norm}`{mark} | {' | '.join(cells)} | {BOUND_BY.get(norm, '')} |"


def _probes(entries: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the table of the probes: what each does to the time of a training."""
    rounds = ", ".join(sorted({str(entry["stats"]["rounds"]) for entry in entries}))
    yield from [
        "",
        "## Probes",
        "",
        "The time of a trial of `mnist-cnn` with batch norm (156 steps, one thread) that a [probe](probes.md) watches",
        "at its default `every`, divided by that of the same trial without the probe. Each round times both, one after",
        f"the other, and the ratio is the median over {rounds} rounds. The first row is about the loss by step, which",
        "every trial keeps: it compares a trial without a probe with one that does not keep the loss.",
        "",
        "| probe | every | ratio | quartiles |",
        "| --- | --- | --- | --- |",
    ]
    for entry in entries:
        own = entry["extra_info"]
        low, high = own["quartiles"]
        name = f"`{own['probe']}`" if own["probe"] else "none: the loss by step"
        yield f"| {name} | {own['every']} | {own['ratio']:.2f} | {low:.2f} to {high:.2f} |"


def _time(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"


if __name__ == "__main__":
    main([Path(source) for source in sys.argv[1:-1]], Path(sys.argv[-1]))

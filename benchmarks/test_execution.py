"""What running in workers gains and costs: two at once beside one, trials that do nothing, and a run that goes on."""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from normbench.execute import Request, prepare, run
from normbench.store import Store

TRIALS = 10_000
ROUNDS = 3
#: What the figures are allowed to be.
TWO_JOBS, SCHEDULED, RESUMED = 0.6, "5 ms a trial", "5 s"

#: A norm whose trials end before they begin, and a task of milliseconds.
NOTHING = """
import normbench

def layer(site):
    raise normbench.Unsupported("nothing to do")

def data(folder, recipe):
    import torch

    split = (torch.zeros(8, 3), torch.zeros(8, dtype=torch.long))
    return normbench.Splits(split, split, split)

def network(place, recipe):
    from torch import nn

    return nn.Sequential(place(nn.Linear(3, 4), "relu"), nn.Linear(4, 2))

@normbench.hookimpl
def normbench_norms():
    yield normbench.Norm("nothing", layer, summary="Does nothing")

@normbench.hookimpl
def normbench_tasks():
    recipe = normbench.Recipe(rate=0.1, batch_size=8, epochs=1)
    yield normbench.Task("idle", 1, summary="T", recipe=recipe, chance=0.5, reference=1.0, data=data, network=network)
"""
SUITE = """
name = "idle"
summary = "Trials that do nothing"
tasks = ["idle"]
norms = ["nothing"]
baseline = "nothing"
rates = [0.1, 0.2]
"""


@pytest.fixture(scope="module")
def idle(tmp_path_factory) -> Callable[..., Request]:
    """Return a function that asks for trials that do nothing."""
    folder: Path = tmp_path_factory.mktemp("idle")
    (folder / "nothing.py").write_text(NOTHING)
    (folder / "idle.toml").write_text(SUITE)

    def asked(seeds: int, out: Path, **options: Any) -> Request:
        files = [folder / "nothing.py"]
        suite = str(folder / "idle.toml")
        return Request(suite, seeds=seeds, plugin_files=files, out=out, device="cpu", throughput=False, options=options)

    return asked


def training_phase(folder: Path, jobs: int) -> float:
    """Train `quick`; return the seconds from the first trial's end to the last's, which leaves out all starting."""
    ends: list[float] = []
    options = {"jobs": jobs}
    request = Request("quick", out=folder, device="cpu", throughput=False, options=options)
    run(prepare(request), lambda progress: ends.append(time.perf_counter()))  # noqa: ARG005
    return ends[-1] - ends[0]


def test_training_phase_of_quick_with_two_jobs(benchmark, tmp_path):
    """Train all of it with one warm worker and then with two, in turn."""
    took: dict[int, list[float]] = {1: [], 2: []}

    def once() -> None:
        for jobs, seconds in took.items():
            seconds.append(training_phase(tmp_path / f"{jobs}-{len(seconds)}", jobs))

    benchmark.pedantic(once, rounds=ROUNDS)

    ratio = statistics.median(two / one for one, two in zip(took[1], took[2], strict=True))
    benchmark.extra_info["two jobs, time to that of one"] = f"{ratio:.2f}"
    benchmark.extra_info["allowed"] = TWO_JOBS
    benchmark.extra_info["seconds with one and two"] = " and ".join(
        f"{statistics.median(seconds):.1f}" for seconds in took.values()
    )


def test_scheduling_10000_trials_that_do_nothing(benchmark, tmp_path, idle):
    """Hand out, take back and store trials whose norm has no form for the site, two jobs."""
    run(prepare(idle(2, tmp_path / "warm", jobs=2)))

    benchmark.pedantic(lambda: run(prepare(idle(TRIALS // 2, tmp_path / "out", jobs=2))), rounds=1)

    benchmark.extra_info["a trial"] = f"{1000 * benchmark.stats.stats.median / TRIALS:.2f} ms"
    benchmark.extra_info["allowed"] = SCHEDULED


def test_a_resumed_run_of_10000_stored_trials_begins(benchmark, tmp_path, idle):
    """From the command's start to the end of the first trial that is left; as many are stored."""
    out = tmp_path / "out"
    run(prepare(idle(1, out)))
    store = Store(out)
    record = next(store.trials())
    with store.writer() as writer:
        for item in prepare(idle(TRIALS // 2, out)).todo:
            recipe = msgspec.to_builtins(item.trial.recipe)
            writer.append(msgspec.structs.replace(record, key=item.trial.key, seed=item.trial.seed, recipe=recipe))
    request = idle(1, out)
    more = iter(range(TRIALS // 2 + 1, TRIALS))

    def first_trial() -> None:
        command = ["run", request.suite, "--seeds", str(next(more)), "--out", str(out), "--no-throughput"]
        command += ["--plugin", str(request.plugin_files[0])]
        with subprocess.Popen(
            [sys.executable, "-m", "normbench.cli.main", *command],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stderr is not None
            assert any(re.match(r"\[ *\d+/", line) for line in process.stderr)
            process.kill()

    benchmark.pedantic(first_trial, rounds=5, warmup_rounds=1)

    benchmark.extra_info["allowed"] = RESUMED

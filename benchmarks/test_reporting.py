"""What reading costs: boards and plans of 10,000 stored trials, and how long a command takes to answer at all."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from normbench.boards import tables
from normbench.execute import Request, prepare, run
from normbench.store import Store
from normbench.store.kinds import TRACES
from normbench.store.records import Series, TraceRecord
from normbench.trials import shared

TRIALS = 10_000
RATES = [0.01, 0.03, 0.1, 0.3, 1.0]


def asked(seeds: int, rates: list[float], out: Path) -> Request:
    """Return a run of the grid of one norm."""
    settings = {"rates": rates}
    return Request(
        "quick",
        norms=["batchnorm"],
        seeds=seeds,
        settings=settings,
        out=out,
        device="cpu",
        fresh=False,
        throughput=False,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a store of 10,000 trials: one real one, copied under other seeds' keys."""
    out: Path = tmp_path_factory.mktemp("many")
    prepared = prepare(asked(TRIALS // len(RATES), RATES, out))
    run(prepare(asked(1, [0.1], out)))
    store = Store(out)
    record = next(store.trials())
    with store.writer() as writer:
        runs = store.runs()
        writer.append(msgspec.structs.replace(runs[-1], cells=prepared.cells))
        for item in prepared.work:
            recipe = msgspec.to_builtins(item.trial.recipe)
            writer.append(msgspec.structs.replace(record, key=item.trial.key, seed=item.trial.seed, recipe=recipe))
    return out


def test_boards_of_10000_trials(benchmark, folder):
    """Read the store and make both boards."""
    found = benchmark.pedantic(lambda: tables(Store(folder)), rounds=5, warmup_rounds=1)

    assert len(found) == 2


def test_boards_beside_100_mb_of_traces(benchmark, folder, tmp_path):
    """Each round makes the boards without the traces, then with them: no board reads a trace."""
    traced = tmp_path / "traced"
    shutil.copytree(folder, traced)
    series = {"loss": Series(list(range(500)), [1 / (1 + step) for step in range(500)])}
    first = next(Store(folder).trials())
    own = shared(TraceRecord, first) | {"probe": "curve", "series": series}
    line = msgspec.json.encode(TraceRecord(**own)) + b"\n"
    (traced / TRACES).write_bytes(line * (100_000_000 // len(line) + 1))
    alone: list[float] = []

    def without() -> None:
        began = time.perf_counter()
        tables(Store(folder))
        alone.append(time.perf_counter() - began)

    benchmark.pedantic(lambda: tables(Store(traced)), setup=without, rounds=9, warmup_rounds=1)

    pairs = zip(benchmark.stats.stats.data, alone[-9:], strict=True)
    benchmark.extra_info["ratio to without"] = round(statistics.median(both / one for both, one in pairs), 2)


def test_a_plan_of_10000_stored_trials(benchmark, folder):
    """Hold a plan against the store."""
    request = asked(TRIALS // len(RATES), RATES, folder)

    found = benchmark.pedantic(lambda: prepare(request), rounds=5, warmup_rounds=1)

    assert not found.todo


def answer(*arguments: str) -> None:
    """Run a command as a user does, the interpreter's own start included."""
    subprocess.run([sys.executable, "-m", "normbench.cli.main", *arguments], check=True, capture_output=True)


@pytest.mark.parametrize("arguments", ["--help", "list norms", "plugins", "plan quick"])
def test_normbench(benchmark, arguments):
    """Answer a command that imports no torch."""
    benchmark.pedantic(lambda: answer(*arguments.split()), rounds=9, warmup_rounds=1)


def test_normbench_leaderboard_of_10000_trials(benchmark, folder):
    """Print the leaderboards of a large folder."""
    benchmark.pedantic(lambda: answer("leaderboard", str(folder)), rounds=5, warmup_rounds=1)


def test_normbench_run_quick(benchmark, tmp_path):
    """Run the whole suite once: 120 trials and a throughput session, from nothing to the three leaderboards."""
    benchmark.pedantic(lambda: answer("run", "quick", "--out", str(tmp_path / "out"), "--device", "cpu"), rounds=1)

    benchmark.extra_info["allowed"] = "75 s"

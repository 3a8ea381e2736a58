"""A store in a folder of the test's own, records to put into it, and another process that holds it."""

import subprocess
import sys

import pytest

from normbench.contract import Recipe
from normbench.store import Store
from normbench.store.records import SCHEMA, RunRecord, TrialRecord
from normbench.trials import Cell, Measure

HOLD = """
import sys
import tracemalloc
from pathlib import Path
from normbench.store import Store
with Store(Path(sys.argv[1])).writer():
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def store(tmp_path):
    """Return a function that opens the store anew, as another command would."""
    return lambda: Store(tmp_path / "results")


@pytest.fixture
def record():
    """Return a function that makes a trial's record with a key."""

    def make(key):
        return TrialRecord(
            schema=SCHEMA,
            key=key,
            run="run",
            finished="2025-01-01",
            task="toy",
            task_version=1,
            norm="batchnorm",
            params={"kind": "é"},
            recipe={"rate": 0.1},
            seed=0,
            device="cpu",
            environment="env",
            outcome="trained",
            score=0.9,
            measure=Measure(name="accuracy", unit="%", direction="up", chance=0.1, reference=0.9),
        )

    return make


@pytest.fixture
def run():
    """Return a run's record."""
    recipe = Recipe(rate=1, batch_size=8, epochs=1)
    cell = Cell(task="toy", task_version=1, norm="none", label="none", recipe=recipe, rates=[1.0], seeds=[0])
    return RunRecord(
        schema=1,
        run="run",
        started="now",
        command=[],
        version="1",
        device="cpu",
        suite={},
        baseline="none",
        cells=[cell],
    )


@pytest.fixture
def filled(store, record):
    """Return a function that appends records of these keys in one run."""

    def put(*keys):
        with store().writer() as writer:
            for key in keys:
                writer.append(record(key))

    return put


@pytest.fixture
def held(tmp_path):
    """Return another process that holds the folder for writing until its input ends."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "results")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.stdin.close()

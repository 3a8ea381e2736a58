"""`normbench calibrate`: how often gates would err on results like a folder's."""

import json

import pytest

from normbench.contract import Recipe
from normbench.store import Store
from normbench.store.records import RunRecord, TrialRecord
from normbench.trials import Cell, Measure

MEASURE = Measure(name="accuracy", unit="%", direction="up", chance=0.1, reference=0.9)


@pytest.fixture
def seeded(tmp_path):
    """Return a function that makes a folder of two norms whose seeds spread by two points; the first few may fail."""

    def make(seeds, gate=None, failing=0):
        cells = [
            Cell(
                task="toy",
                task_version=1,
                norm=norm,
                label=norm,
                recipe=Recipe(rate=0.1, batch_size=8, epochs=1),
                rates=[0.1],
                seeds=list(range(seeds)),
                norm_print="norm",
                task_print="task",
            )
            for norm in ("batchnorm", "none")
        ]
        run = RunRecord(
            schema=1,
            run="run",
            started="2025-01-01T00:00:00+00:00",
            command=["normbench", "run"],
            version="0",
            device="cpu",
            suite={"name": "toy", "gate": gate or {}},
            baseline="batchnorm",
            cells=cells,
        )
        with Store(tmp_path / "toy").writer() as writer:
            writer.append(run)
            for cell in cells:
                for trial in cell.trials():
                    score = 0.1 if trial.seed < failing else 0.8 + 0.02 * ((trial.seed * 7) % 5 - 2)
                    writer.append(_record(trial, run, score))
        return tmp_path / "toy"

    return make


def _record(trial, run, score):
    return TrialRecord(
        schema=1,
        key=trial.key,
        run=run.run,
        finished=run.started,
        task=trial.task,
        task_version=1,
        norm=trial.norm,
        recipe={"rate": 0.1},
        seed=trial.seed,
        norm_print="norm",
        task_print="task",
        device="cpu",
        environment="environment",
        outcome="trained" if score > 0.5 else "not-trained",
        score=score,
        validation=score,
        measure=MEASURE,
    )


def test_calibrate_simulates_each_gate_and_holds_own_seeds_against_one_another(normbench, seeded):
    """Each gate on a mean has a table; with 6 seeds or more there is one of the folder's own seeds as well."""
    folder = seeded(10)

    found = normbench("calibrate", folder, "--fail", "accuracy:-3pt", "--repetitions", "500", "--json")

    boards = json.loads(found.out)["boards"]
    assert 0 == found.status
    assert ["calibrate · accuracy:-3pt", "calibrate · A/A on the folder's own seeds"] == [
        each["board"] for each in boards
    ]
    assert ["3 seeds", "5 seeds"] == [row["norm"] for row in boards[1]["rows"]]
    assert all(row["alarm_0"] <= 10 and row["wrong_ok"] <= 12 for each in boards for row in each["rows"])
    assert boards[0]["rows"][-1]["power"] > boards[0]["rows"][0]["power"]


def test_calibrate_counts_failures_as_compare_does(normbench, seeded):
    """Of six seeds three fail: in one of 20 draws all of them are HEAD's, and no mean needs to say so."""
    folder = seeded(6, failing=3)

    found = normbench("calibrate", folder, "--fail", "accuracy:-95pt", "--repetitions", "4000", "--json")

    [row] = json.loads(found.out)["boards"][1]["rows"]
    assert pytest.approx(5, abs=1.5) == row["alarm_0"]


def test_calibrate_draws_the_same_from_the_same_seed(normbench, seeded):
    """What it says can be had again."""
    folder = seeded(6, gate={"accuracy": "-3pt"})

    first, again, other = (
        normbench("calibrate", folder, "--repetitions", "300", "--seed", seed).out for seed in (1, 1, 2)
    )

    assert first == again != other


def test_calibrate_refuses_one_seed(normbench, seeded):
    """Where no gate has a norm with two seeds there is one line and status 2."""
    found = normbench("calibrate", seeded(1), "--fail", "accuracy:-1pt")

    assert 2 == found.status
    assert "no gate has a norm there with 2 seeds or more" in found.err
    assert 1 == len(found.err.splitlines())

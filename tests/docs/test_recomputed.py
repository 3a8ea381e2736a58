"""Every figure of the boards against code written from docs/metrics.md: of the records in results/, and made up."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from folders import ACCURACY, BITS, Folder
from recomputed import boards
from timings import session, timing

from normbench.boards import tables
from normbench.store import Store
from normbench.tables.text import as_json
from normbench.trials import Kept, Measure

ROOT = Path(__file__).resolve().parents[2]
RATES = (0.003, 0.01, 0.1, 0.3, 1.0)
#: Rates at which each norm trains; where there is no other, it diverges.
REACH = {"batchnorm": 3, "higher": 5, "lower": 2, "nowhere": 0, "alike": 4, "lost": 4}
#: What the made-up exports have to have: the flags that docs/metrics.md lists, and a figure that was not reproduced.
EVERY = {
    *("may-be-best", "same-seeds", "edge", "coarse", "unsettled", "spread", "a-a", "oom:", "error:", "not reproduced"),
    *("trains_up_to:at-least", "trains_up_to_low:at-least", "trains_up_to_high:at-least"),
    *("range:at-least", "range_low:at-least", "range_high:at-least", "trains_up_to:below-the-grid"),
    *("accuracy:min-max", "vs_baseline:min-max", "trains_up_to:min-max", "range:min-max", "over_the_grid:min-max"),
}


@pytest.mark.parametrize("name", ["fashion-mlp", "mnist-lr"])
def test_the_boards_of_what_was_run(name):
    """What docs/results.md shows is what docs/metrics.md says it is."""
    assert_as_the_docs_say(ROOT / "results" / f"{name}.json")


def test_the_boards_of_what_was_made_up(tmp_path, monkeypatch):
    """So is every number where seeds failed, have no score or are missing, and whichever way a score goes."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    seen = set()
    for draw in range(4):
        seen |= assert_as_the_docs_say(made_up(tmp_path / str(draw), np.random.default_rng(draw)))
    assert seen >= EVERY


def assert_as_the_docs_say(path: Path) -> set[str]:
    """Hold every entry of every row of every board against the recomputed one: numbers to 1e-9, all else exactly.

    Return what is worth seeing at least once: each board's flags, without their counts, and how notes begin.
    """
    seen = set()
    shown = {name(board): board for board in json.loads(as_json(tables(Store(path))))["boards"]}
    again = {name(board): board for board in boards(json.loads(path.read_text(encoding="utf-8")))}
    assert again.keys() == shown.keys()
    for board, expected in again.items():
        rows = {row["norm"]: row for row in shown[board]["rows"]}
        heads = expected.keys() - {"rows", "apart", "said"}
        assert {key: expected[key] for key in heads} == {key: shown[board][key] for key in heads}
        assert sorted(row["rank"] for row in rows.values()) == [row["rank"] for row in rows.values()], board
        assert expected["rows"].keys() == rows.keys(), board
        assert expected["apart"] == {one["norm"] for one in shown[board]["apart"]}, board
        for norm, row in expected["rows"].items():
            wanted = {**row, "norm": norm, "flags": sorted(row.flags)}
            assert {**rows[norm], "flags": sorted(rows[norm]["flags"])} == {
                key: pytest.approx(value, rel=1e-9, abs=1e-12) if isinstance(value, float) else value
                for key, value in wanted.items()
            }, (board, norm)
        notes = "\n".join(shown[board]["notes"])
        assert [said for said in expected["said"] if said not in notes] == [], board
        assert notes.count("not reproduced:") == sum("not reproduced:" in said for said in expected["said"]), board
        seen |= {flag.rstrip("0123456789") for row in expected["rows"].values() for flag in row.flags}
        seen |= {said.partition(":")[0] for said in expected["said"]}
    return seen


def name(board: dict[str, Any]) -> tuple[str, ...]:
    task = "" if board["board"] == "aggregate" else board["task"]
    return board["board"], task, json.dumps(board["condition"]), board["protocol"]


def made_up(path: Path, rng: np.random.Generator) -> Path:
    """Return an export in which every branch of the definitions is taken."""
    folder = Folder(path / "results")
    seeds = int(rng.integers(3, 8))
    folder.add(
        {norm: grid(rng, reach, seeds) for norm, reach in REACH.items()},
        fresh={norm: {rate: trials(rng, seeds, True) for rate in RATES} for norm in REACH},
    )
    folder.add(
        {norm: grid(rng, reach, seeds, BITS) for norm, reach in REACH.items()},
        fresh={norm: {rate: trials(rng, seeds, True, BITS) for rate in RATES} for norm in REACH},
        task="text",
        measure=BITS,
    )
    tuned = {"settings": ({"weight_decay": 0.1}, {"weight_decay": 0.2}), "condition": {"momentum": 0.5}}
    few, many = (int(n) for n in rng.integers(1, 9, 2))
    folder.add({norm: [grid(rng, 4, few), grid(rng, 3, few)] for norm in ("batchnorm", "one", "two")}, **tuned)
    folder.add({norm: [grid(rng, 4, many), grid(rng, 4, many)] for norm in ("one", "three")}, **tuned)
    text = {"task": "text", "measure": BITS, "condition": {"momentum": 0.5}}
    folder.add({norm: grid(rng, 4, many, BITS) for norm in ("batchnorm", "one", "three")}, **text)
    condition = {"condition": {"weight_decay": 0.5}}
    folder.add({norm: grid(rng, 4, 4) for norm in ("batchnorm", "one")}, **condition)
    norms, kept = ("batchnorm", "one"), Kept(rate=0.01)
    fresh = {norm: {0.01: trials(rng, few, True)} for norm in norms}
    folder.add({norm: grid(rng, 4, 4) for norm in norms}, fresh=fresh, kept=kept, condition={"dropout": 0.1})
    folder.add({norm: {0.1: trials(rng, 4, True)} for norm in ("batchnorm", "one")}, condition={"init": "he"})
    without = {norm: {rate: plain(trials(rng, 4, True)) for rate in RATES} for norm in ("batchnorm", "one")}
    folder.add(without, condition={"dropout": 0.2})
    steps = {f"norm {i}": {0.1: [round(0.6 + 0.01 * i + 0.01 * rng.normal(), 4) for _ in range(3)]} for i in range(9)}
    folder.add(steps, condition={"momentum": 0.7})
    published(folder, rng)
    speeds(folder, rng)
    return exported(folder.store, path / "made-up.json")


def exported(store: Store, path: Path) -> Path:
    path.write_bytes(store.export(list(store.trials())))
    return path


def grid(rng: np.random.Generator, reach: int, seeds: int, measure: Measure = ACCURACY) -> dict[float, list[Any]]:
    """Return what seeds gave at the rates of the grid, the first `reach` of which train."""
    found = {rate: trials(rng, seeds, i < reach, measure) for i, rate in enumerate(RATES)}
    if rng.random() < 0.2:
        found[RATES[rng.integers(len(RATES))]][rng.integers(seeds)] = None
    return found


def trials(rng: np.random.Generator, seeds: int, trains: bool, measure: Measure = ACCURACY) -> list[Any]:
    """Return what seeds gave at a rate that suits the norm or not: at a few of them something happened."""
    centre, sd = rng.choice([0.7, 0.9, 1.0]), rng.choice([0.001, 0.03])
    lucky = rng.choice(["as the others", "oom", "error", "diverged", "bad"], p=[0.7, 0.08, 0.02, 0.1, 0.1])
    found: list[Any] = [one(rng, centre if trains else 0.2, sd, measure) for _ in range(seeds)]
    if not trains and rng.random() < 0.5:
        found = ["diverged"] * seeds
    if lucky == "bad":
        found[rng.integers(seeds)] = one(rng, 0.1, sd, measure)
    elif lucky != "as the others":
        found[rng.integers(seeds)] = str(lucky)
    return [diverged(rng, measure) if given == "diverged" else given for given in found]


def one(rng: np.random.Generator, progress: float, sd: float, measure: Measure) -> dict[str, Any]:
    """Return a training of two epochs and a half that got to about this progress."""
    ends = progress + sd * rng.standard_normal(2)
    test, validation = (scored(measure, end) for end in ends)
    on_the_way = [scored(measure, ends[1] * part) for part in (0.8, 0.95)]
    series = {"loss": [1.0, 0.5, 0.4], "validation": [*on_the_way, validation]}
    return {"score": test, "validation": validation, "series": series, "steps": 25, "epoch_steps": 10}


def diverged(rng: np.random.Generator, measure: Measure) -> dict[str, Any]:
    """Return a training that ended with one of its three epochs, in its loss or, validated once more, in a weight."""
    epochs, more = (int(n) for n in rng.integers((1, 0), (4, 2)))
    series = {"loss": [1.0] * epochs, "validation": [scored(measure, 0.95)] * (epochs - 1 + more)}
    chance = {"score": measure.chance, "validation": measure.chance}
    return {**chance, "outcome": "diverged", "series": series, "steps": 25, "epoch_steps": 10}


def scored(measure: Measure, progress: float) -> float:
    """Return a score to two digits, so that some seeds are equal."""
    return round(float(measure.chance + progress * (measure.reference - measure.chance)), 2)


def plain(found: list[Any]) -> list[Any]:
    """Return trainings as older results have them, without validation scores."""
    return [{**given, "validation": None} if isinstance(given, dict) else given for given in found]


def published(folder: Folder, rng: np.random.Generator) -> None:
    """Store a table with published figures: near, far, of one run, and of a norm with a failed seed."""
    scores = {"batchnorm": 82.0, "far": 87.0, "farther": 60.0, "once": 50.0, "failing": 80.0}
    spread, runs = dict.fromkeys(scores, 2.0), {norm: 1 if norm == "once" else 5 for norm in scores}
    source = {"source": "A paper", "setting": "means", "scores": scores, "spread": spread, "runs": runs}
    norms = {norm: {0.1: [one(rng, 0.9, 0.03, ACCURACY) for _ in range(4)]} for norm in [*scores, "unpublished"]}
    norms["failing"][0.1][0] = one(rng, 0.1, 0.03, ACCURACY)
    on_test = {norm: {0.1: plain(seeds[0.1])} for norm, seeds in norms.items()}
    suite = {"published": {"spirals": source}}
    for condition in ({}, {"momentum": 0.9}):
        folder.add(on_test, protocol="published", condition=condition, suite=suite)


def speeds(folder: Folder, rng: np.random.Generator) -> None:
    """Store sessions: of one task two, the later of which was not steady, and an even number of rounds."""

    def drawn(mean: float, rounds: int) -> list[float]:
        return (mean * rng.lognormal(0, 0.05, rounds)).tolist()

    steady = session(
        *(timing(norm, drawn(2.0, 9), peak_memory=2**21) for norm in ("one", "higher")),
        baseline=timing("batchnorm", drawn(1.0, 9), peak_memory=2**20),
        again=drawn(1.0, 9),
        without=timing("none", drawn(3.0, 9)),
        device="cuda",
    )
    later = {
        "device": "cuda",
        "session": "session 2",
        "started": "2024-01-02T00:00:00+00:00",
        "finished": "2024-01-02T00:01:00+00:00",
    }
    unsteady = session(
        timing("higher", drawn(0.5, 40), peak_memory=2**22),
        timing("nowhere", outcome="oom"),
        baseline=timing("batchnorm", drawn(1.0, 40), peak_memory=2**20),
        again=drawn(1.5, 40),
        without=timing("none", drawn(3.0, 40)),
        **later,
    )
    text = session(*(timing(norm, drawn(0.7, 9)) for norm in REACH if norm != "batchnorm"), task="text")
    with folder.store.writer() as writer:
        for record in (steady, unsteady, text):
            writer.append(record)

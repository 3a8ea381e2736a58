"""Scores against the rate, or a recipe value: the numbers of a chart are those of the records."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest
from drawn import drawn, rows

from normbench.spelling import spelled
from normbench.store import Store
from normbench.trials import FRESH

RATES, CONDITIONS = "Validation accuracy against learning rate", "Accuracy against weight_decay"
STORED = Path(__file__).parents[3] / "results" / "mnist-lr.json"


def test_every_seed_and_the_means_of_a_stored_folder():
    """Each seed of the grid has its validation score and outcome, and each mean is theirs."""
    store = Store(STORED)
    given = {(spelled(one.norm, one.params), one.recipe["rate"], one.seed): one for one in store.trials()}
    given = {key: trial for key, trial in given.items() if trial.seed < FRESH}
    scores = {key: 100 * trial.validation for key, trial in given.items()}

    chart = drawn(store)[RATES]

    seeds = {(row["norm"], row["x"], int(row["seeds"])): row for row in rows(chart, kind="seed")}
    assert {key: trial.outcome for key, trial in given.items()} == {key: row["outcome"] for key, row in seeds.items()}
    assert pytest.approx(scores, abs=1e-3) == {key: row["score"] for key, row in seeds.items()}
    means = {(norm, rate): statistics.fmean(scores[norm, rate, seed] for seed in range(10)) for norm, rate, _ in given}
    assert pytest.approx(means, abs=1e-3) == {(row["norm"], row["x"]): row["score"] for row in rows(chart, kind="mean")}


def test_failures_stand_below_the_scores(folder):
    """Those with a score have a dot too; the tooltip names them, or counts them where they are many."""
    folder.add(
        {"none": {0.1: [0.6, "diverged", "error", 0.3], 1.0: [0.7] * 4}, "batchnorm": {0.1: [0.8] * 4, 1.0: [0.8] * 4}}
    )

    chart = drawn(folder.store)[RATES]

    [failed] = rows(chart, kind="failed")
    assert ("none", 0.1, "3 of 4") == (failed["norm"], failed["x"], failed["seeds"])
    assert "diverged: 1, error: 2, not-trained: 3" == failed["outcome"]
    assert failed["y"] < 10 <= min(row["y"] for row in rows(chart, kind="seed") if row["y"] is not None)
    assert [60, 10, None, 30] == [row["score"] for row in rows(chart, kind="seed", norm="none", x=0.1)]
    [mean] = rows(chart, kind="mean", norm="none", x=0.1)
    assert pytest.approx(100 / 3, abs=1e-3) == mean["score"]
    assert ["none", "33.3 (10.0…60.0), 3 of 4 failed", "70.0 (70.0…70.0)"] == chart.table.rows[1]


def test_a_seed_that_is_not_whole_is_shown_and_does_not_count(folder):
    """It lacks a rate, so that boards leave it out; the chart says so."""
    folder.add({"none": {0.1: [0.6, 0.9], 1.0: [0.7, None]}})

    chart = drawn(folder.store)[RATES]

    whole, other = rows(chart, kind="seed", x=0.1)
    assert ("trained", 60) == (whole["outcome"], whole["score"])
    assert ("trained; counts once its seed has all rates", 90) == (other["outcome"], other["score"])
    assert [60] == [row["score"] for row in rows(chart, kind="mean", x=0.1)]


def test_norms_stand_beside_each_other(folder):
    """Lines that coincide are seen: less than a step of the grid apart, in the order of the norms."""
    folder.add({name: {0.1: [0.6], 0.2: [0.6]} for name in map(str, range(30))})

    at = [row["at"] for row in rows(drawn(folder.store)[RATES], kind="mean", x=0.1)]

    assert 30 == len(set(at))
    assert 1 < max(at) / min(at) < 2


def test_a_recipe_value_that_conditions_differ_in(folder):
    """At the chosen rate; it stands with the first of the conditions."""
    for value, best in ((0.1, 0.6), (0.01, 0.8)):
        folder.add({"none": {0.1: [best, "diverged"], 1.0: [0.3] * 2}}, condition={"weight_decay": value})

    chart = drawn(folder.store)[CONDITIONS]

    assert [(0.01, 45), (0.1, 35)] == [(row["x"], row["score"]) for row in rows(chart, kind="mean")]
    assert ["1 of 2"] * 2 == [row["seeds"] for row in rows(chart, kind="failed")]
    assert "at its chosen rate" in chart.how

"""A run until all is decided: which seeds are bought, at which rate, and that nothing bought later changes a choice."""

from __future__ import annotations

import dataclasses
from collections import defaultdict

import pretended
import pytest

from normbench.execute import prepare, until
from normbench.gates import gates
from normbench.store import Store

LOOKS = (2, 3, 4)
#: Both norms are best at 1.0 by the first two seeds, and at 0.1 by the later ones; fresh seeds never settle.
LATER = {0.1: 0.7, 1.0: 0.9}


def gave(trial):
    """Return a score by which `other` is unclear against `fine` at every look."""
    if trial.seed >= 1_000_000:
        return 0.8 + 0.05 * (trial.norm == "other") * (-1) ** trial.seed
    later = 0.2 if trial.seed >= 2 and trial.recipe.rate == 1.0 else 0
    return LATER[trial.recipe.rate] - later + 0.01 * (trial.seed % 2)


@pytest.fixture
def decided(request_for):
    """Return a function that runs the tiny suite until it is decided, without training, and returns the verdicts."""

    def run(gates, run=None, gave=gave, **options):
        request = dataclasses.replace(request_for(**options), gates=gates)
        return until.decided_run(request, LOOKS, run or (lambda prepared: pretended.store(prepared, gave)))

    return run


def stored(request, norm="other"):
    """Return the seeds that are stored of a norm at each rate, those of the grid and the fresh ones apart."""
    seeds = defaultdict(list)
    for trial in Store(request.out).trials():
        if trial.norm == norm:
            seeds[trial.recipe["rate"]].append(trial.seed)
    return {rate: sorted(of_rate) for rate, of_rate in seeds.items()}


def test_looks_buy_fresh_seeds_at_the_first_choice(decided, request_for):
    """With a gate on the accuracy alone, the grid is that of the first look, and each look has as many fresh seeds."""
    comparison = decided({"accuracy": "-1pt"})

    fresh = [1_000_000, 1_000_001, 1_000_002, 1_000_003]
    assert {0.1: [0, 1], 1.0: [0, 1, *fresh]} == stored(request_for()) == stored(request_for(), "fine")
    assert [("other", 4)] == [(row.norm, row.seeds) for row in comparison.rows if row.gate is not None]


def test_what_is_decided_buys_no_more(decided, request_for):
    """Where no difference varies, the first look decides all."""
    decided({"accuracy": "-1pt"}, gave=lambda trial: LATER[trial.recipe.rate])

    assert {0.1: [0, 1], 1.0: [0, 1, 1_000_000, 1_000_001]} == stored(request_for())


def test_seeds_of_the_grid_are_bought_where_a_gate_reads_them(decided, request_for):
    """They never change the choice, though by all of them another rate would be better."""
    decided({"accuracy": "-1pt", "sensitivity": "+1pt"})

    fresh = [1_000_000, 1_000_001, 1_000_002, 1_000_003]
    assert {0.1: [0, 1, 2, 3], 1.0: [0, 1, 2, 3, *fresh]} == stored(request_for())


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_run_that_is_interrupted_goes_on_the_same(decided, request_for, stage):
    """Whichever of its runs was stopped half way, the next call trains the rest, and comes to the same verdicts."""
    calls = []

    def interrupted(prepared):
        calls.append(prepared)
        count = iter(range(100))
        if len(calls) == stage + 1:
            pretended.store(prepared, lambda trial: gave(trial) if next(count) < 1 else None)
            raise KeyboardInterrupt
        pretended.store(prepared, gave)

    with pytest.raises(KeyboardInterrupt):
        decided({"accuracy": "-1pt"}, interrupted)
    resumed = decided({"accuracy": "-1pt"})

    fresh = [1_000_000, 1_000_001, 1_000_002, 1_000_003]
    assert {0.1: [0, 1], 1.0: [0, 1, *fresh]} == stored(request_for())
    assert [4] == [row.seeds for row in resumed.rows if row.gate is not None]


def test_choice_stays_where_a_failed_trial_is_tried_again(decided, request_for):
    """By the first look 1.0 lacked a seed: that it has it later changes no rate."""

    def failing(trial):
        return "error" if (trial.recipe.rate, trial.seed) == (1.0, 1) else gave(trial)

    decided({"accuracy": "-1pt"}, gave=failing)
    decided({"accuracy": "-1pt"})

    fresh = [1_000_000, 1_000_001, 1_000_002, 1_000_003]
    assert {0.1: [0, 1, *fresh]} == {rate: seeds for rate, seeds in stored(request_for()).items() if rate == 0.1}
    assert not set(fresh) & set(stored(request_for())[1.0])


def test_norm_without_a_score_ends(decided, request_for):
    """It has no rate, and so no fresh seeds; the others are decided."""
    comparison = decided({"accuracy": "-1pt"}, gave=lambda trial: "oom" if trial.norm == "other" else gave(trial))

    assert [] == [row for row in comparison.rows if row.norm == "other" and row.seeds]
    assert not [seed for seeds in stored(request_for()).values() for seed in seeds if seed >= 1_000_000]


@pytest.fixture
def sides(request_for, tmp_path):
    """Return a function that makes BASE of four seeds, best at 0.1, and HEAD of two, best at 1.0; and both requests."""

    def made(**options):
        base = dataclasses.replace(request_for(seeds=4, **options), out=tmp_path / "base")
        head = request_for(seeds=2)
        pretended.store(prepare(base), lambda trial: 1.0 - trial.recipe.rate / 2)
        pretended.store(prepare(head), unsettled)
        return base, head

    return made


def unsettled(trial):
    """Return a score that is best at 1.0, and differs from BASE's by no fixed difference."""
    return 0.9 + 0.05 * (-1) ** trial.seed + trial.recipe.rate / 50


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {0.1: [0, 1, 1_000_000, 1_000_001, 1_000_002, 1_000_003], 1.0: [0, 1, 1_000_000, 1_000_001]}),
        ({"fresh": False}, {0.1: [0, 1, 2, 3], 1.0: [0, 1, 2, 3, 1_000_000, 1_000_001]}),
    ],
    ids=["with fresh seeds", "an older one"],
)
def test_head_buys_the_seeds_that_base_has(sides, options, expected):
    """Fresh ones at BASE's choice, and none of the grid; or seeds of the grid, where BASE has no others."""
    base, head = sides(**options)

    until.decided_compare(
        Store(base.out),
        Store(head.out),
        gates({"accuracy": "-1pt"}, "a test"),
        LOOKS,
        head,
        lambda prepared: pretended.store(prepared, unsettled),
    )

    assert expected == stored(head)

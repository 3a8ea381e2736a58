"""Scores against a value that conditions differ in."""

from __future__ import annotations

from dataclasses import replace

import pytest

from normbench.boards.grid import gather
from normbench.charts.against import charts, groups, value_of
from normbench.charts.looks import looks
from normbench.errors import UsageError

NORMS = {"batchnorm": {0.1: [0.8, 0.9], 1.0: [0.5, 0.6]}, "none": {0.1: ["diverged", 0.6], 1.0: ["diverged"] * 2}}


@pytest.fixture
def grids(folder):
    """Return what stores the norms' scores under conditions, and returns their grids."""

    def stored(*conditions):
        for condition in conditions:
            folder.add(NORMS, condition=condition)
        return gather(folder.store)

    return stored


def test_scores_at_the_chosen_rate_against_the_value(grids):
    """One chart per condition of all else, over the values in their order, the best norm first."""
    few = {"weight_decay": 0.01, "dropout": 0.1}
    many = {"weight_decay": 0.001, "dropout": 0.1}

    stored = grids(few, many, {"weight_decay": 0.01})
    [chart] = charts(stored, looks(row.cell for grid in stored for row in grid.rows), "weight_decay")
    [[panel]] = chart.rows

    assert ("spirals, dropout=0.1", "weight_decay", [0.001, 0.01]) == (chart.heading, panel.x_label, panel.xs)
    best, worst = panel.curves
    assert ("batchnorm", {0.001: [80, 90], 0.01: [80, 90]}) == (best.label, best.scores)
    assert ("none", {0.001: 1, 0.01: 1}) == (worst.label, worst.failed)


def test_tasks_of_other_parameters_are_not_alike(grids):
    """Though their conditions differ in the value alone."""
    few, many = grids({"weight_decay": 0.01}, {"weight_decay": 0.1})

    assert [[few, many]] == groups([many, few], "weight_decay")
    assert [] == groups([few, replace(many, task_params={"depth": 8})], "weight_decay")


def test_the_tasks_own_value_has_its_place(grids):
    """No condition names it, and yet it is one of the values."""
    own, other = grids({}, {"threads": 2})

    [group] = groups([other, own], "threads")

    assert [own, other] == group
    assert [1, 2] == [value_of(grid, "threads") for grid in group]


@pytest.mark.parametrize(
    ("conditions", "why"),
    [
        ([{"dropout": 0.1}], "no two conditions differ in it alone; they have: dropout"),
        ([{}], "no two conditions differ in it alone; they have: -"),
        ([{"schedule": "constant"}, {"schedule": "cosine"}], "'constant' is a value of it; only numbers above 0"),
        ([{"weight_decay": 0.0}, {"weight_decay": 1.0}], "0.0 is a value of it; only numbers above 0"),
    ],
)
def test_conditions_that_have_no_axis(grids, conditions, why):
    """Conditions that do not differ in the value, or in values that are no numbers, are the user's mistake."""
    name = next((name for name in conditions[0] if len(conditions) > 1), "weight_decay")

    with pytest.raises(UsageError) as refused:
        charts(grids(*conditions), {}, name)

    assert str(refused.value).startswith(f"against {name}: ")
    assert why in str(refused.value)

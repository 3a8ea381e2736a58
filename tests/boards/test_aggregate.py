"""The aggregate board: means over tasks against numbers computed apart, and who is left out of them."""

from __future__ import annotations

import statistics

import numpy as np
import pytest
from scipy import stats

from normbench.boards import tables
from normbench.tables.table import Table, TableRow
from normbench.tables.text import FORMATS, terminal

RATES = [0.1, 1.0]
#: Of ACCURACY, whose progress is (score - .1) / .8.
FIRST = {"batchnorm": [0.9, 0.82, 0.74], "layer-norm": [0.7, 0.66, 0.74], "none": [0.5, 0.5, 0.26]}
#: Of BITS, whose progress is (4 - score) / 2.
SECOND = {"batchnorm": [2.0, 2.2, 2.1], "layer-norm": [1.9, 2.0, 2.1], "none": [3.2, 3.0, 2.9]}


def progress(norm: str) -> np.ndarray:
    """Return the progress of a norm at its chosen rate, as (tasks, seeds)."""
    return np.array([(np.array(FIRST[norm]) - 0.1) / 0.8, (4 - np.array(SECOND[norm])) / 2])


@pytest.fixture
def two_tasks(folder, bits):
    """Return a folder with norms on two tasks, one of which is better the lower: worse by .08 or .2 at the rate 1."""
    folder.add({norm: {0.1: s, 1.0: [x - 0.08 for x in s]} for norm, s in FIRST.items()}, task="spirals")
    folder.add({norm: {0.1: s, 1.0: [x + 0.2 for x in s]} for norm, s in SECOND.items()}, task="words", measure=bits)
    return folder


def rows(table: Table) -> dict[str, TableRow]:
    return {row.norm: row for row in table.rows}


def test_progress_is_the_mean_over_tasks_with_an_interval_over_seeds(two_tasks) -> None:
    """Each seed's progress is the mean over the tasks; the interval is Student's, over the seeds."""
    seeds = progress("batchnorm").mean(axis=0)
    expected = stats.ttest_1samp(seeds, 0.0).confidence_interval()

    value = two_tasks.rows("aggregate")["batchnorm"].values["progress"]

    assert "t" == value.ends
    assert pytest.approx((seeds.mean(), expected.low, expected.high)) == (value.number, value.low, value.high)


def test_one_failed_training_leaves_the_min_max(two_tasks) -> None:
    """Where a seed did not train on one of the tasks the ends are those of the seeds."""
    seeds = progress("none").mean(axis=0)

    row = two_tasks.rows("aggregate")["none"]
    value = row.values["progress"]

    assert pytest.approx((seeds.mean(), seeds.min(), seeds.max())) == (value.number, value.low, value.high)
    assert "progress:min-max" in row.flags


def test_over_the_grid_is_of_the_progress_at_every_rate(two_tasks) -> None:
    """Two rates count the same: half of what the chosen one gives, half of what the other does."""
    lower = progress("layer-norm") - np.array([[0.1], [0.1]])
    expected = (progress("layer-norm") + lower).mean(axis=0) / 2

    value = two_tasks.rows("aggregate")["layer-norm"].values["over_the_grid"]

    assert pytest.approx(expected.mean()) == value.number
    assert "t" == value.ends


def test_over_the_grid_is_of_validation_scores(folder) -> None:
    """Progress is on test, at the chosen rate; that over the grid is on validation, as the stability board's."""
    given = {rate: [{"score": 0.9, "validation": 0.5}] * 3 for rate in RATES}
    for task in ("spirals", "moons"):
        folder.add({"batchnorm": given}, task=task)

    values = folder.rows("aggregate")["batchnorm"].values

    assert pytest.approx((1.0, 0.5)) == (values["progress"].number, values["over_the_grid"].number)


def test_profile_counts_the_trainings_of_a_progress_or_more(two_tasks) -> None:
    """Of two tasks and three seeds, so many trainings reach .5, .8, .9, .95 and the reference itself."""
    every = progress("layer-norm").ravel()

    values = two_tasks.rows("aggregate")["layer-norm"].values

    shares = [values[f"from_{percent}"].number for percent in (50, 80, 90, 95, 100)]
    assert [pytest.approx((every >= least - 1e-12).mean()) for least in (0.5, 0.8, 0.9, 0.95, 1.0)] == shares
    assert 1 == shares[0] > shares[1] > shares[-1] > 0


def test_progress_above_the_reference_counts_as_it_is(folder) -> None:
    """Progress has no upper end: a norm that beats both references has more than 1."""
    for task in ("spirals", "moons"):
        folder.add({"batchnorm": {0.1: [0.95, 0.96]}}, task=task)

    value = folder.rows("aggregate")["batchnorm"].values["progress"]

    assert pytest.approx((0.955 - 0.1) / 0.8) == value.number > 1


def test_norms_are_ranked_with_intervals_by_the_mean_over_tasks(two_tasks) -> None:
    """Ranks, intervals and groups are of the per-seed means."""
    table = two_tasks.table("aggregate")
    order = sorted(FIRST, key=lambda norm: -progress(norm).mean())

    assert order == [row.norm for row in table.rows]
    assert [(1, (1, 2), 1), (2, (1, 2), 1), (3, (3, 3), 2)] == [(row.rank, row.ranks, row.group) for row in table.rows]


def test_a_norm_that_lacks_a_task_stands_apart(two_tasks, bits) -> None:
    """What was not run on a task, or has no score there, is not ranked, and named with what it lacks."""
    two_tasks.add({"new": {0.1: [0.9] * 3, 1.0: [0.8] * 3}}, task="spirals")
    two_tasks.add({"broken": {0.1: ["error"] * 3, 1.0: ["error"] * 3}}, task="words", measure=bits)

    table = two_tasks.table("aggregate")

    assert set(FIRST) == set(rows(table))
    assert {"new": "lacks words", "broken": "lacks every task"} == dict(table.apart)


def test_flags_are_those_of_all_tasks(folder) -> None:
    """Trials without a score are counted over the tasks, and seeds that chose a rate are flagged as on their boards."""
    for task in ("spirals", "moons"):
        folder.add({"batchnorm": {0.1: [0.9, "oom"], 1.0: [0.8, "oom"]}}, task=task)

    [row] = folder.table("aggregate").rows

    assert {"same-seeds", "oom:4"} <= set(row.flags)
    assert not any(flag.startswith("oom:2") for flag in row.flags)


def test_seeds_count_that_have_a_score_on_every_task(folder) -> None:
    """A seed that a task lacks is in no mean."""
    folder.add({"batchnorm": {0.1: [0.9, 0.5, 0.7]}, "none": {0.1: [0.9, None, None]}}, task="spirals")
    folder.add({"batchnorm": {0.1: [0.9, None, 0.7]}, "none": {0.1: [None, 0.9, 0.9]}}, task="moons")

    table = folder.table("aggregate")
    [row] = table.rows

    assert (2, pytest.approx(0.875)) == (row.seeds, row.values["progress"].number)
    assert [("none", "no seed has a score on every task")] == table.apart


def test_only_what_two_tasks_share_is_put_together(folder) -> None:
    """A condition or protocol of one task has no table; each that two share has one of its own."""
    for task in ("spirals", "moons"):
        folder.add({"batchnorm": {0.1: [0.9]}}, task=task)
        folder.add({"batchnorm": {0.1: [0.8]}}, task=task, condition={"momentum": 0.9})
    folder.add({"batchnorm": {0.1: [0.7]}}, task="moons", condition={"momentum": 0.5})
    folder.add({"batchnorm": {0.1: [0.7]}}, task="moons", protocol="published")

    found = tables(folder.store, ("aggregate",))

    assert [{}, {"momentum": 0.9}] == [table.condition for table in found]
    assert ["spirals v1, moons v1"] * 2 == [table.task for table in found]


def test_one_task_has_no_aggregate(folder) -> None:
    """There is nothing to put together, and nothing is said."""
    folder.add({"batchnorm": {0.1: [0.9]}})
    folder.add({"batchnorm": {0.1: [0.9]}}, condition={"momentum": 0.9})

    assert [] == tables(folder.store, ("aggregate",))


def test_of_a_task_its_latest_version_counts(folder) -> None:
    """Two versions of a task are not two tasks."""
    for version, score in ((2, 0.9), (1, 0.3)):
        folder.add({"batchnorm": {0.1: [score]}}, task="spirals", task_version=version)

    assert [] == tables(folder.store, ("aggregate",))

    folder.add({"batchnorm": {0.1: [0.9]}}, task="moons")

    table = folder.table("aggregate")
    assert ("spirals v2, moons v1", None) == (table.task, table.task_version)
    assert pytest.approx(1.0) == table.rows[0].values["progress"].number


def test_a_task_of_one_rate_leaves_out_the_grid(folder) -> None:
    """Where a task has no grid there is no column over it."""
    folder.add({"batchnorm": {0.1: [0.9], 1.0: [0.8]}}, task="spirals")
    folder.add({"batchnorm": {0.1: [0.9]}}, task="moons")

    table = folder.table("aggregate")

    assert "over_the_grid" not in {column.name for column in table.columns}


def test_ratio_is_the_geometric_mean_over_the_tasks(two_tasks) -> None:
    """Twice as fast on one task and half as fast on the other is as fast; a norm not timed on one has no ratio."""
    two_tasks.time("spirals", none=2.0, **{"layer-norm": 0.5})
    two_tasks.time("words", none=0.5)

    table = two_tasks.table("aggregate")

    ratios = {norm: row.values["ratio"].number for norm, row in rows(table).items()}
    assert {"batchnorm": 1.0, "none": pytest.approx(1.0), "layer-norm": None} == ratios


def test_without_a_session_of_every_task_there_is_no_ratio(two_tasks) -> None:
    """A ratio on one task is none over both."""
    two_tasks.time("spirals", none=2.0)

    table = two_tasks.table("aggregate")

    assert "ratio" not in {column.name for column in table.columns}


def test_it_stands_after_the_other_boards_in_every_format(two_tasks) -> None:
    """All tables of tasks come first; each format prints it, and a terminal has its tasks in the title."""
    found = tables(two_tasks.store)

    assert ["accuracy", "stability"] * 2 + ["aggregate"] == [table.board for table in found]
    assert terminal(found[-1:], 80).startswith("aggregate · spirals v1, words v1\n")
    assert max(map(len, terminal(found, 80).splitlines())) <= 80
    assert all("aggregate" in form(found) for form in FORMATS.values())


def test_mean_of_a_norm_is_that_of_its_seeds(two_tasks) -> None:
    """The mean that ranks go by is the one that is printed."""
    for norm, row in two_tasks.rows("aggregate").items():
        assert pytest.approx(statistics.fmean(progress(norm).ravel())) == row.values["progress"].number

"""Published figures beside measured ones: their column, where they are from, and what was not reproduced."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from scipy import stats

from normbench.tables import Table
from normbench.tables.text import as_csv, as_json, terminal

#: Three seeds whose 95% t interval is 85 ± 4.97 per cent.
AROUND_85 = [0.83, 0.85, 0.87]
SOURCE = {"source": "Somebody 2020, Table 2", "setting": "medians of 400 runs"}


def suite(**published: Any) -> dict[str, Any]:
    """Return a suite as a run stores it, with these figures for the task of the tests."""
    return {"published": {"spirals": {**SOURCE, **published}}}


def column(table: Table) -> dict[str, float | None]:
    """Return each norm's entry in the column."""
    return {row.norm: row.values["published"].number for row in table.rows}


def notes(table: Table, begin: str) -> list[str]:
    return [note for note in table.notes if note.startswith(begin)]


def measured(folder, scores: list, theirs: float, spread: float | None = 0.5, runs: int | None = 400) -> Table:
    """Return the board of one norm's seeds beside a published figure."""
    known = {"spread": spread, "runs": runs}
    figures = {key: {"batchnorm": value} for key, value in known.items() if value is not None}
    folder.add({"batchnorm": {0.1: scores}}, suite=suite(scores={"batchnorm": theirs}, **figures))
    return folder.table("accuracy")


def test_published_figures_stand_beside_ours(folder) -> None:
    """A norm with a published figure has it in a column, in the unit of the scores; a norm without has none."""
    published = suite(scores={"batchnorm": 84.9})
    folder.add({"batchnorm": {0.1: AROUND_85}, "layer-norm": {0.1: AROUND_85}}, suite=published)

    table = folder.table("accuracy")

    assert {"batchnorm": pytest.approx(0.849), "layer-norm": None} == column(table)
    assert ("published\n%", "%", 1) == next((c.title, c.unit, c.digits) for c in table.columns if c.name == "published")
    assert "published: Somebody 2020, Table 2; medians of 400 runs" in table.notes


def test_a_program_reads_them(folder) -> None:
    """JSON and CSV have the column, with null where there is no figure."""
    folder.add({"batchnorm": {0.1: [0.8]}, "layer-norm": {0.1: [0.7]}}, suite=suite(scores={"batchnorm": 84.9}))

    table = folder.table("accuracy")
    [board] = json.loads(as_json([table]))["boards"]

    assert [pytest.approx(84.9), None] == [row["published"] for row in board["rows"]]
    assert {"name": "published", "unit": "%", "digits": 1, "better": "up"} in board["columns"]
    assert ",published,flags" in as_csv([table]).splitlines()[0]


def test_a_norm_of_which_nothing_is_published_reads_as_a_dash(folder) -> None:
    """On the terminal the column is written like the scores."""
    folder.add({"batchnorm": {0.1: [0.8]}, "layer-norm": {0.1: [0.7]}}, suite=suite(scores={"batchnorm": 84.9}))

    lines = terminal([folder.table("accuracy")], 120).splitlines()

    assert [["84.9"], ["–"]] == [line.split()[-1:] for line in lines if line.startswith(("1  ", "2  "))]


@pytest.mark.parametrize("other", [{}, {"published": {}}, {"published": {"rings": {**SOURCE, "scores": {}}}}])
def test_without_figures_there_is_no_column(folder, other: dict[str, Any]) -> None:
    """A suite without figures for a task has the board that it always had."""
    folder.add({"batchnorm": {0.1: AROUND_85}}, suite=other)

    table = folder.table("accuracy")

    assert "published" not in [column.name for column in table.columns]
    assert not any(note.startswith("published") for note in table.notes)


def runs_of(mean: float, spread: float, runs: int) -> np.ndarray:
    """Return runs that have exactly this mean and standard deviation."""
    return mean + spread * stats.zscore(np.random.default_rng(runs).normal(size=runs), ddof=1)


@pytest.mark.parametrize(
    ("theirs", "spread", "runs", "reproduced"),
    [
        (84.0, 0.5, 400, True),
        (80.1, 0.5, 400, True),
        (79.9, 0.5, 400, False),
        (90.1, 0.5, 400, False),
        (92.0, 6.0, 3, True),
        (92.0, 0.01, 2, False),
    ],
)
def test_what_was_not_reproduced_by_welchs_test(
    folder, theirs: float, spread: float, runs: int, reproduced: bool
) -> None:
    """Seeds here are held against the source's own runs; the difference is told whatever the verdict."""
    test = stats.ttest_ind(100 * np.array(AROUND_85), runs_of(theirs, spread, runs), equal_var=False)
    half = test.confidence_interval().high - (85 - theirs)

    table = measured(folder, AROUND_85, theirs, spread, runs)

    [told] = notes(table, "here against published (points")
    assert told.endswith(f"'batchnorm' {85 - theirs:+.2f} ±{half:.2f} ({runs} runs, sd {spread:g})")
    assert reproduced == (test.pvalue > 0.05)
    expected = f"not reproduced: 'batchnorm', published {theirs:g}, here 85.00, a difference of {85 - theirs:+.2f} ±"
    assert reproduced == (not notes(table, expected))
    assert [] == notes(table, "no verdict")


def test_figures_of_a_table_share_the_five_per_cent(folder) -> None:
    """Two figures that each are just too far have Holm's correction over both; one alone has none."""
    figures = {
        kind: {"batchnorm": one, "layer-norm": one} for kind, one in (("scores", 79.9), ("spread", 0.5), ("runs", 400))
    }
    folder.add({"batchnorm": {0.1: AROUND_85}, "layer-norm": {0.1: AROUND_85}}, suite=suite(**figures))

    assert [] == notes(folder.table("accuracy"), "not reproduced")


@pytest.mark.parametrize(
    ("scores", "spread", "runs", "behind"),
    [
        pytest.param(AROUND_85, None, 400, "(400 runs)", id="no spread"),
        pytest.param(AROUND_85, 0.5, None, "(sd 0.5)", id="no runs"),
        pytest.param(AROUND_85, 0.5, 1, "(1 run, sd 0.5)", id="one run"),
        pytest.param([0.83, 0.87], 0.5, 400, "(400 runs, sd 0.5)", id="two seeds"),
        pytest.param([0.83, 0.2, 0.87], 0.5, 400, "(400 runs, sd 0.5)", id="a failed seed"),
        pytest.param([0.85, 0.85, 0.85], 0.0, 400, "(400 runs, sd 0)", id="nothing varies"),
    ],
)
def test_without_an_error_on_both_sides_there_is_no_verdict(
    folder, scores: list[float], spread: float | None, runs: int | None, behind: str
) -> None:
    """What does not say how much it varies is not called reproduced or not; the difference is told all the same."""
    table = measured(folder, scores, 99.0, spread, runs)

    [told] = notes(table, "here against published")
    assert told.endswith(f"'batchnorm' {100 * np.mean(scores) - 99:+.2f} {behind}")
    assert [] == notes(table, "not reproduced")
    assert 1 == len(notes(table, "no verdict on 'batchnorm'"))


def test_another_recipe_is_told(folder) -> None:
    """Under a condition, the figures are said to be of the task's own recipe, and nothing is held against them."""
    folder.add(
        {"batchnorm": {0.1: AROUND_85}}, condition={"weight_decay": 0.1}, suite=suite(scores={"batchnorm": 95.0})
    )

    table = folder.table("accuracy")

    assert (
        "the published figures are for the task's own recipe, not for weight_decay=0.1, and are not compared"
        in table.notes
    )
    assert [] == notes(table, "not reproduced") + notes(table, "no verdict") + notes(table, "here against")


def test_another_unit_is_taken_as_it_is(folder, bits) -> None:
    """A score that is no share is published in its own unit; where less is better, more is a difference below 0."""
    scores = {"batchnorm": 1.234, "layer-norm": 2.6}
    known = {"spread": {"batchnorm": 0.1}, "runs": {"batchnorm": 5}}
    folder.add({norm: {0.1: [2.4, 2.5, 2.6]} for norm in scores}, measure=bits, suite=suite(scores=scores, **known))

    table = folder.table("accuracy")

    assert scores == column(table)
    [told] = notes(table, "here against published (bits; ")
    assert "'batchnorm' -1.266 ±" in told
    assert "'layer-norm' +0.100" in told
    assert 1 == len(notes(table, "not reproduced: 'batchnorm', published 1.234, here 2.500, a difference of -1.266 ±"))


def test_the_latest_runs_figures_are_shown(folder) -> None:
    """A suite whose figures were mended shows the mended ones."""
    for theirs in (10.0, 84.9):
        folder.add({"batchnorm": {0.1: AROUND_85}}, suite=suite(scores={"batchnorm": theirs}))

    assert {"batchnorm": pytest.approx(0.849)} == column(folder.table("accuracy"))


@pytest.mark.parametrize(
    "foreign",
    [
        {"note": "98%, Table 2"},
        {"spirals": "98%"},
        {"spirals": {"accuracy": 0.98, "setting": "6 epochs", "source": "Table 2"}},
        {"spirals": {**SOURCE, "scores": [84.9]}},
        {"spirals": {**SOURCE, "scores": {"batchnorm": "84.9"}}},
    ],
    ids=["a note", "a text", "other keys", "a list", "texts"],
)
def test_what_an_older_run_stored_breaks_no_board(folder, foreign: dict[str, Any]) -> None:
    """A stored suite whose figures have another shape has a board without them."""
    folder.add({"batchnorm": {0.1: AROUND_85}}, suite={"published": foreign})

    table = folder.table("accuracy")

    assert ["batchnorm"] == [row.norm for row in table.rows]
    assert "published" not in [column.name for column in table.columns]

"""Published figures beside measured ones: their column, where they are from, and what was not reproduced."""

from __future__ import annotations

import json
from typing import Any

import pytest

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


def not_reproduced(table: Table) -> list[str]:
    return [note for note in table.notes if note.startswith("not reproduced")]


def test_published_figures_stand_beside_ours(folder) -> None:
    """A norm with a published figure has it in a column, in the unit of the scores; a norm without has none."""
    published = suite(scores={"batchnorm": 84.9})
    folder.add({"batchnorm": {0.1: AROUND_85}, "layer-norm": {0.1: AROUND_85}}, suite=published)

    table = folder.table("accuracy")

    assert {"batchnorm": pytest.approx(0.849), "layer-norm": None} == column(table)
    assert ("published\n%", "%", 1) == next((c.title, c.unit, c.digits) for c in table.columns if c.name == "published")
    assert "published: Somebody 2020, Table 2; medians of 400 runs" in table.notes
    assert [] == not_reproduced(table)


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


@pytest.mark.parametrize(
    ("theirs", "reproduced"), [(84.0, True), (80.1, True), (89.9, True), (79.9, False), (90.1, False)]
)
def test_what_lies_outside_of_our_interval_was_not_reproduced(folder, theirs: float, reproduced: bool) -> None:
    """A note names each norm whose published figure lies outside of the interval that was measured here."""
    folder.add({"batchnorm": {0.1: AROUND_85}}, suite=suite(scores={"batchnorm": theirs}))

    says = not_reproduced(folder.table("accuracy"))

    expected = f"not reproduced: 'batchnorm', published {theirs}, lies outside of 80.03…89.97 here"
    assert ([] if reproduced else [expected]) == says


def test_the_spread_of_published_runs_is_told(folder) -> None:
    """Where the source says how its runs spread, the note repeats it."""
    figures = suite(scores={"batchnorm": 95.0}, spread={"batchnorm": 0.58})
    folder.add({"batchnorm": {0.1: AROUND_85}}, suite=figures)

    [says] = not_reproduced(folder.table("accuracy"))

    assert "'batchnorm', published 95 (a standard deviation of 0.58 over runs), lies outside of " in says


def test_failed_seeds_count(folder) -> None:
    """Where a seed failed, the figure is held against the lowest and highest seed."""
    folder.add({"batchnorm": {0.1: [0.83, 0.2, 0.87]}}, suite=suite(scores={"batchnorm": 95.0}))

    [says] = not_reproduced(folder.table("accuracy"))

    assert "lies outside of 20.00…87.00 here" in says


def test_another_recipe_is_told(folder) -> None:
    """Under a condition, the figures are said to be of the task's own recipe, and nothing is called not reproduced."""
    folder.add(
        {"batchnorm": {0.1: AROUND_85}}, condition={"weight_decay": 0.1}, suite=suite(scores={"batchnorm": 95.0})
    )

    notes = folder.table("accuracy").notes

    assert (
        "the published figures are for the task's own recipe, not for weight_decay=0.1, and are not compared" in notes
    )
    assert [] == not_reproduced(folder.table("accuracy"))


@pytest.mark.parametrize("scores", [[0.83], [0.83, 0.87]])
def test_one_or_two_seeds_can_not_tell(folder, scores: list[float]) -> None:
    """With fewer than three seeds nothing is said to be not reproduced."""
    folder.add({"batchnorm": {0.1: scores}}, suite=suite(scores={"batchnorm": 95.0}))

    assert [] == not_reproduced(folder.table("accuracy"))


def test_another_unit_is_taken_as_it_is(folder, bits) -> None:
    """A score that is no share is published in its own unit."""
    scores = {"batchnorm": 1.234, "layer-norm": 2.5}
    folder.add({norm: {0.1: [2.4, 2.5, 2.6]} for norm in scores}, measure=bits, suite=suite(scores=scores))

    table = folder.table("accuracy")

    assert scores == column(table)
    assert ["not reproduced: 'batchnorm', published 1.234, lies outside of 2.252…2.748 here"] == not_reproduced(table)


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

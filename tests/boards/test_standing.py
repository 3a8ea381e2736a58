"""Ranks with intervals on the boards: what stands in a row, in every format, and in the notes."""

from __future__ import annotations

import csv
import json

import pytest

from normbench.boards import tables
from normbench.boards.standing import ranked
from normbench.tables.table import Column, Table, TableRow, Value, by_column
from normbench.tables.text import ASCII, as_csv, as_json, github, latex_booktabs, terminal

#: Four norms at five seeds: two alike, one below, one far below.
SEEDS = {
    "batchnorm": [0.95, 0.94, 0.96, 0.96, 0.94],
    "layer-norm": [0.94, 0.95, 0.95, 0.96, 0.94],
    "group-norm": [0.85, 0.84, 0.86, 0.83, 0.85],
    "none": [0.6, 0.61, 0.63, 0.62, 0.6],
}


@pytest.fixture
def board(folder):
    """Return a function that stores norms at two rates, and gives a board of them."""

    def made(name: str = "accuracy", seeds: dict[str, list[float]] = SEEDS) -> Table:
        folder.add(
            {norm: {0.1: scores, 1.0: [score and score - 0.05 for score in scores]} for norm, scores in seeds.items()}
        )
        return folder.table(name)

    return made


@pytest.mark.parametrize("name", ["accuracy", "stability"])
def test_ranks_have_intervals_and_groups(board, name: str) -> None:
    """Two norms that can't be told apart share their interval and their group, and may both be best."""
    rows = {row.norm: row for row in board(name).rows}

    assert {"batchnorm": (1, 2), "layer-norm": (1, 2), "group-norm": (3, 3), "none": (4, 4)} == {
        norm: row.ranks for norm, row in rows.items()
    }
    assert [1, 1, 2, 3] == [row.group for row in rows.values()]
    assert ["batchnorm", "layer-norm"] == sorted(norm for norm, row in rows.items() if "may-be-best" in row.flags)


@pytest.mark.parametrize("name", ["accuracy", "stability"])
def test_notes_say_the_groups(board, name: str) -> None:
    """One note explains interval and mark, another has the groups, best first."""
    notes = board(name).notes

    [groups] = [note for note in notes if note.startswith("groups by")]
    assert 1 == sum(note.startswith("rank [a…b]") and "*: may be best" in note for note in notes)
    assert groups.endswith("'layer-norm' | 'group-norm' | 'none'")


@pytest.mark.parametrize(
    ("seeds", "expected"),
    [
        ({"a": [0.9, 0.8, 0.7], "b": [0.8, 0.7, 0.9], "c": [0.7, 0.9, 0.8]}, "no norm is surely better than another"),
        ({"a": [0.9, 0.91, 0.89], "b": [0.87, 0.86, 0.9], "c": [0.85, 0.855, 0.865]}, "does not divide into groups"),
    ],
    ids=["none", "some"],
)
def test_notes_say_where_there_are_no_groups(board, seeds: dict[str, list[float]], expected: str) -> None:
    """Without a cut a note says whether any norm is surely better than another."""
    notes = board(seeds=seeds).notes

    assert 1 == sum(expected in note for note in notes)


@pytest.mark.parametrize(
    "seeds", [{"a": [0.9], "b": [0.8]}, {"a": [0.9, 0.8, 0.7]}, {"a": [0.9, None], "b": [None, 0.8]}]
)
def test_without_two_seeds_in_common_ranks_stand_alone(board, seeds: dict[str, list[float]]) -> None:
    """One seed, or one norm, or no two shared seeds: a rank has no interval, and no note speaks of one."""
    table = board(seeds=seeds)

    assert {(None, None)} == {(row.ranks, row.group) for row in table.rows}
    assert not any("may be best" in note or "surely" in note for note in table.notes)
    assert "\n1  a " in terminal([table], 100)


def test_less_is_better_where_the_task_says_so(folder, bits) -> None:
    """Of bits the norm with fewer is surely better."""
    folder.add(
        {"a": {0.1: [3.1, 3.2, 3.15, 3.1]}, "b": {0.1: [2.1, 2.2, 2.15, 2.2]}, "c": {0.1: [2.5, 2.52, 2.5, 2.55]}},
        measure=bits,
    )

    rows = folder.rows("accuracy")

    assert {"b": (1, 1), "c": (2, 2), "a": (3, 3)} == {norm: row.ranks for norm, row in rows.items()}


def test_an_interval_holds_the_rank_that_is_shown() -> None:
    """A mean over more seeds may place a norm where the shared seeds deny it: the interval reaches there."""
    shared = {seed: 0.5 + seed / 1000 for seed in range(4)}
    lucky = {
        **{seed: score - 0.2 + seed**2 / 10000 for seed, score in shared.items()},
        **dict.fromkeys(range(4, 20), 1),
    }

    found = ranked([TableRow("lucky", None, 20, {}), TableRow("shared", None, 4, {})], [lucky, shared])

    assert [("lucky", 1, (1, 2)), ("shared", 2, (1, 2))] == [(row.norm, row.rank, row.ranks) for row in found]


def test_text_formats_have_rank_interval_and_mark(board) -> None:
    """`1* [1…2]` stands in the terminal, in ASCII, in Markdown and in LaTeX, with each one's signs."""
    table = board()

    assert "1* [1…2]  " in terminal([table], 80)
    assert "1* [1..2]  " in terminal([table], 80, ascii_only=True)
    assert "| 1* [1…2] |" in github([table])
    assert r"1* [1$\ldots$2] &" in latex_booktabs([table])
    assert terminal([table], 80).translate(ASCII).isascii()


def test_a_table_with_intervals_folds_at_its_width(board) -> None:
    """The column of ranks counts where a table is folded."""
    named = {f"a-norm-with-a-name-{i}": [score - i / 100 for score in SEEDS["batchnorm"]] for i in range(12)}
    table = board(seeds=named)

    widths = [max(map(len, terminal([table], width).splitlines())) - width for width in range(72, 125)]

    assert max(widths) <= 0


def test_programs_read_ends_and_group(board) -> None:
    """JSON and CSV have rank_low, rank_high and group beside the rank."""
    table = board()

    rows = json.loads(as_json([table]))["boards"][0]["rows"]
    lines = list(csv.DictReader(as_csv([table]).splitlines()))

    keys = ("rank", "rank_low", "rank_high", "group")
    assert [(1, 1, 2, 1), (2, 1, 2, 1), (3, 3, 3, 2), (4, 4, 4, 3)] == [tuple(row[key] for key in keys) for row in rows]
    assert [[str(row[key]) for key in keys] for row in rows] == [[line[key] for key in keys] for line in lines]


@pytest.mark.parametrize("form", [terminal, github, latex_booktabs])
def test_a_table_without_ranks_has_no_column_for_them(board, form) -> None:
    """Where no row has a rank there is no # in any text; where one has, others have a dash."""
    table = board()
    rows = [TableRow(row.norm, None, row.seeds, row.values) for row in table.rows]
    hash_sign = r"\#" if form is latex_booktabs else "#"

    without = form([Table(**{**vars(table), "rows": rows, "notes": []})])
    some = form([Table(**{**vars(table), "rows": [*rows[:2], *table.rows[2:]], "notes": []})])

    assert hash_sign not in without
    assert hash_sign in some
    assert all(norm in without for norm in SEEDS)


def table_of(better: str | None, *values: Value) -> Table:
    """Return a table of one column, whose norms are a, b, c, ... in the order of their ranks."""
    rows = [TableRow("abcdef"[i], i + 1, 3, {"value": value}) for i, value in enumerate(values)]
    return Table(
        task="spirals",
        task_version=1,
        task_params={},
        condition={},
        protocol="tuned",
        baseline="a",
        rates=[],
        board="accuracy",
        columns=[Column("value", "value", better=better)],
        rows=rows,
        apart=[],
        notes=[],
    )


@pytest.mark.parametrize(
    ("better", "expected"), [("up", "cabd"), ("down", "abcd"), (None, "abcd")], ids=["up", "down", "neither"]
)
def test_rows_by_a_column_are_best_first(better: str | None, expected: str) -> None:
    """The best comes first, what has no number last, equals stay in the order of ranks; ranks stay as they are."""
    table = table_of(better, Value(1.0), Value(1.0), Value(3.0), Value(None, text="–"))

    found = by_column(table, "value").rows

    assert expected == "".join(row.norm for row in found)
    assert {"a": 1, "b": 2, "c": 3, "d": 4} == {row.norm: row.rank for row in found}


def test_rows_by_norm_and_by_a_column_that_is_not_there() -> None:
    """`norm` is the alphabet; a table without the column is left as it is."""
    table = by_column(table_of("down", Value(2.0), Value(3.0), Value(1.0)), "value")

    assert "cab" == "".join(row.norm for row in table.rows)
    assert "abc" == "".join(row.norm for row in by_column(table, "norm").rows)
    assert table == by_column(table, "ratio")


def test_failed_seeds_have_a_note_with_the_exact_interval(folder) -> None:
    """The share of failed seeds of each norm that failed at some stands with its Clopper-Pearson interval."""
    folder.add({"a": {0.1: [0.9, 0.9, 0.8]}, "b": {0.1: [0.9, 0.3, 0.8]}, "c": {0.1: ["diverged"] * 3}})

    [note] = [note for note in folder.table("accuracy").notes if note.startswith("failed")]

    assert note.endswith("its 95% interval: 'b' 33% [1…91], 'c' 100% [29…100]")


def test_no_failure_no_note(folder) -> None:
    """Where all trained nothing is said of failures."""
    folder.add({"a": {0.1: [0.9, 0.9, 0.8]}})

    found = [note for table in tables(folder.store) for note in table.notes if note.startswith("failed")]

    assert [] == found

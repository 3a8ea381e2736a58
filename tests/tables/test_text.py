"""Tables as text: each format is read back, and holds what the table holds."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace

import pandas as pd
import pytest

from normbench.boards import tables
from normbench.tables import Table
from normbench.tables.table import Column, Value
from normbench.tables.text import ASCII, FORMATS, as_csv, as_json, github, latex_booktabs, terminal, title, written

RATES = [0.01, 0.1, 1.0, 3.0, 10.0]
LONG = "online-norm(alpha_forward=0.999)"


def at_rates(*columns: object) -> dict[float, object]:
    """Return what the seeds gave at each of RATES."""
    return dict(zip(RATES, columns, strict=True))


@pytest.fixture
def every_entry(folder) -> list[Table]:
    """Return an accuracy and a stability board with every kind of entry, mark, flag and note that boards print."""
    good, fair, poor = [0.91, 0.9, 0.92], [0.7, 0.75, 0.72], [0.2, 0.3, 0.25]
    refused = {"outcome": "unsupported", "reason": "batch_size is 1,\na % of sites has 1 value"}
    learns = [{"score": score, "series": {"validation": [0.5, 0.7, 0.9]}} for score in good]
    folder.add(
        {
            "batchnorm": at_rates(fair, learns, [0.8, 0.85, 0.82], [0.6, 0.7, 0.2], poor),
            LONG: at_rates(good, good, good, [0.93, 0.92, 0.94], [0.95, 0.92, 0.93]),
            "none": at_rates(poor, [0.6, 0.4, 0.4], poor, ["diverged"] * 3, ["diverged"] * 3),
            "group-norm": at_rates(fair, good, [0.9, 0.8, "oom"], poor, [0.3, "diverged", 0.2]),
            "layer-norm": at_rates(*[[refused] * 3] * 5),
            "bn": at_rates(fair, good, good, good, [*fair[:2], None]),
        },
        condition={"momentum": 0.9},
    )
    return tables(folder.store)


def widest(text: str) -> int:
    """Return the number of columns that a text takes."""
    return max(len(line) for line in text.splitlines())


SIGNED = Column("vs_baseline", "vs batchnorm", "points", 1, "up", kind="signed", ends=True)
PERCENT = Column("accuracy", "accuracy", "%", 1, "up", ends=True)
RATE = Column("trains_up_to", "trains up to", kind="rate", ends=True)
DECADES = Column("range", "range", "decades", 2, "up", ends=True)


@pytest.mark.parametrize(
    ("value", "column", "expected"),
    [
        (Value(0.98765, 0.97765, 0.99765, "t"), PERCENT, "98.8 ±1.0"),
        (Value(0.9, 0.8, 0.95, "min-max"), PERCENT, "90.0 (80.0…95.0)"),
        (Value(0.9, 0.8, 0.95, "order"), PERCENT, "90.0 [80.0…95.0]"),
        (Value(0.9, 0.9, 0.9, "min-max"), PERCENT, "90.0"),
        (Value(0.0123, 0.0, 0.0246, "t"), SIGNED, "+1.2 ±1.2"),
        (Value(-0.5, -0.75, 0.1, "min-max"), SIGNED, "-50.0 (-75.0…+10.0)"),
        (Value(text="–"), SIGNED, "–"),
        (Value(None), Column("epochs_to", "epochs"), "–"),
        (Value(0.001, mark="edge"), Column("rate", "rate", kind="rate"), "0.001 edge"),
        (Value(3.0, 1.0, 10.0, "min-max", high_at_least=True), RATE, "3 (1…≥10)"),
        (Value(10.0, 10.0, 10.0, "min-max", at_least=True, high_at_least=True), RATE, "≥10"),
        (Value(1.0, None, 3.0, "min-max"), RATE, "1 (none…3)"),
        (Value(0.1, 0.1, 0.1, "min-max", beyond=0.3), RATE, "0.1 (<0.3)"),
        (Value(0.1, 0.03, 0.3, "min-max", beyond=0.3), RATE, "0.1 (<0.3) (0.03…0.3)"),
        (Value(0.1, 0.03, 0.3, "order", beyond=0.3), RATE, "0.1 (<0.3) [0.03…0.3]"),
        (Value(None, None, 3.0, "min-max", text="none"), RATE, "none (none…3)"),
        (Value(None, None, None, "min-max", text="none"), RATE, "none"),
        (Value(2.5, 2.0, 3.0, "min-max", at_least=True), DECADES, "≥2.50 (2.00…3.00)"),
        (Value(1, text="1/3"), Column("failed", "failed", kind="text"), "1/3"),
    ],
)
def test_an_entry_says_what_its_ends_are(value: Value, column: Column, expected: str) -> None:
    """± is an interval of a mean, [a…b] one of a median, (a…b) the min-max; ≥ is cut off by the grid, – is nothing."""
    text = written(value, column)

    assert expected == text


def test_json_has_the_schema_that_programs_read(every_entry) -> None:
    """A board in JSON has these keys, columns with unit, digits and direction, and rows with number and ends."""
    document = json.loads(as_json(every_entry))

    assert (1, ["accuracy", "stability"]) == (document["schema"], [board["board"] for board in document["boards"]])
    for board in document["boards"]:
        assert {
            "board", "task", "task_version", "condition", "protocol", "baseline", "grid", "columns", "rows", "notes",
        } == set(board) - {"apart", "task_params"}  # fmt: skip
        assert ("spirals", 1, {"momentum": 0.9}, "tuned", "batchnorm", RATES) == tuple(
            board[key] for key in ("task", "task_version", "condition", "protocol", "baseline", "grid")
        )
        assert all({"name", "unit", "digits", "better"} == set(column) for column in board["columns"])
        assert all(isinstance(note, str) for note in board["notes"])


@pytest.mark.parametrize(
    ("board", "with_ends", "without"),
    [
        (0, ["accuracy", "vs_baseline"], ["rate", "epochs_to", "failed"]),
        (1, ["over_the_grid", "trains_up_to", "range", "sensitivity"], ["strip", "trains_up_to_beyond"]),
    ],
)
def test_a_row_in_json_has_its_columns_by_name(
    every_entry, board: int, with_ends: list[str], without: list[str]
) -> None:
    """Each column is there by its name, those with ends also as _low and _high, beside norm, rank, seeds and flags."""
    ends = {f"{name}{end}" for name in with_ends for end in ("_low", "_high")}

    row = json.loads(as_json(every_entry))["boards"][board]["rows"][0]

    ranks = {"rank", "rank_low", "rank_high", "group"}
    assert {"norm", "seeds", "flags", *ranks, *with_ends, *ends, *without} == set(row)


def test_numbers_of_a_share_are_in_the_unit_that_json_names(folder) -> None:
    """A column in % or points holds shares times 100, one in decades and a rate the number itself."""
    folder.add({"batchnorm": {0.1: [0.5] * 3, 1.0: [0.8] * 3}, "layer-norm": {0.1: [0.6] * 3, 1.0: [0.9] * 3}})

    boards = json.loads(as_json(tables(folder.store)))["boards"]
    units = {column["name"]: column["unit"] for board in boards for column in board["columns"]}
    first = {name: value for board in boards for name, value in board["rows"][0].items()}

    assert ("%", 90.0) == (units["accuracy"], pytest.approx(first["accuracy"]))
    assert ("points", 10.0) == (units["vs_baseline"], pytest.approx(first["vs_baseline_low"]))
    assert ("%", 75.0) == (units["over_the_grid"], pytest.approx(first["over_the_grid_high"]))
    assert ("points", 15.0) == (units["sensitivity"], pytest.approx(first["sensitivity"]))
    # A threshold of .82 lies .08 / .3 of the way down to the lower rate.
    assert ("decades", 0.08 / 0.3) == (units["range"], pytest.approx(first["range"]))
    assert ("", 1.0, 1.0) == (units["rate"], first["rate"], first["trains_up_to"])


def test_numbers_of_other_measures_are_as_stored(folder, bits) -> None:
    """Bits are bits in JSON, and the columns in progress are between 0 and 1."""
    folder.add(
        {"batchnorm": {0.1: [3.0] * 3, 1.0: [2.5] * 3}, "layer-norm": {0.1: [2.5] * 3, 1.0: [2.0] * 3}}, measure=bits
    )

    first, second = json.loads(as_json(tables(folder.store)))["boards"]
    units = {column["name"]: column["unit"] for board in (first, second) for column in board["columns"]}

    assert pytest.approx((2.0, 0.5)) == (first["rows"][0]["accuracy"], first["rows"][0]["vs_baseline"])
    assert pytest.approx((0.875, 0.125)) == (second["rows"][0]["over_the_grid"], second["rows"][0]["sensitivity"])
    assert ("bits", "bits", "") == (units["accuracy"], units["vs_baseline"], units["over_the_grid"])


def test_what_json_can_not_say_in_numbers_is_null_or_flagged(every_entry) -> None:
    """What is nothing is null; what the grid cuts off, and ends that are no interval, are flags beside the number."""
    first, second = (
        {row["norm"]: row for row in board["rows"]} for board in json.loads(as_json(every_entry))["boards"]
    )

    assert (None, None, 2) == (first["batchnorm"]["vs_baseline"], first["none"]["epochs_to"], first["none"]["failed"])
    assert (None, None, 0.1) == tuple(second["none"][f"trains_up_to{end}"] for end in ("", "_low", "_high"))
    assert {"same-seeds", "edge", "unsettled", "may-be-best"} == set(first[LONG]["flags"])
    flags = {"same-seeds", "coarse", "may-be-best", "spread", "accuracy:min-max", "vs_baseline:min-max"}
    assert flags == set(first["none"]["flags"])
    assert {"trains_up_to:at-least", "range:at-least"} <= set(second[LONG]["flags"])
    assert "○◐○××" == second["none"]["strip"]


@pytest.mark.parametrize("names", ["abcdefghijkl", ["bn", "batchnorm", "layer-norm", LONG]], ids=["12 short", "long"])
def test_terminal_output_fits_its_width(folder, names: list[str]) -> None:
    """From 72 columns on no line is wider than the terminal: tables fold, titles and notes are wrapped."""
    folder.add(
        {
            name: at_rates([0.6, 0.2], [0.9, 0.7 - i / 100], [0.8, 0.6], [0.7, 0.4], [0.3, 0.1])
            for i, name in enumerate(names)
        },
        baseline=names[1],
    )
    found = tables(folder.store)

    too_wide = [width for width in range(72, 132) if widest(terminal(found, width)) > width]

    assert [] == too_wide


def test_terminal_output_folds_only_where_it_must(folder) -> None:
    """At 80 columns a board is several tables that each name the norms; at 120 it is one, and no entry is lost."""
    folder.add({"batchnorm": at_rates(*[[0.9, 0.8]] * 5), "batchnorm-no-affine": at_rates(*[[0.7, 0.8]] * 5)})
    found = tables(folder.store)

    folded, unfolded = terminal(found, 80), terminal(found, 120)

    assert len(found) == unfolded.count("  batchnorm-no-affine ") < folded.count("  batchnorm-no-affine ")
    for text in (folded, unfolded):
        entries = [written(row.values[c.name], c) for table in found for row in table.rows for c in table.columns]
        assert [] == [entry for entry in entries if "●" not in entry and entry not in text]


@pytest.mark.parametrize("width", [80, 120])
def test_marks_stand_below_their_rates(every_entry, width: int) -> None:
    """Read down from a rate, a strip shows what each norm did there."""
    table = every_entry[1]
    lines = terminal([table], width).splitlines()
    above = next(i for i, line in enumerate(lines) if "0.01 0.1 1 3 10" in line)
    start = lines[above].index("0.01")
    columns = [start + match.start() for match in re.finditer(r"\S+", "0.01 0.1 1 3 10")]

    strips = ["".join(line[column] for column in columns) for line in lines[above + 2 :][: len(table.rows)]]

    assert [row.values["strip"].text for row in table.rows] == strips


def test_a_long_grid_has_its_marks_side_by_side(folder) -> None:
    """A grid whose rates would fill the terminal is printed below the table alone, with its marks together."""
    folder.add({"batchnorm": {round(0.001 * 1.5**i, 5): [0.9 if i < 9 else 0.2] for i in range(12)}})

    text = terminal([folder.table("stability")], 80)

    assert "●●●●●●●●●○○○" in text
    assert widest(text) <= 80


def test_what_no_reader_must_miss_stands_below_the_first_table(every_entry) -> None:
    """Norms that are not ranked, what is missing and what failed are said once, before the next table."""
    first, second = terminal(every_entry, 80, notes=False).split("\nstability")

    for said in ("not ranked: 'layer-norm'", "89 of 90 trials", "1 oom", "same-seeds"):
        assert (1, 0) == (first.count(said), second.count(said))


def test_norms_that_are_not_ranked_for_one_reason_share_a_line(every_entry) -> None:
    """A run that was stopped early names the norms that it did not reach in one line."""
    table = replace(every_entry[0], apart=[("a", "lacks all"), ("b", "no luck"), ("c", "lacks all")])

    for form in (terminal, github):
        lines = [line for line in form([table]).splitlines() if "not ranked" in line]
        assert ["- not ranked: 'a', 'c': lacks all", "- not ranked: 'b': no luck"] == lines


def test_each_subject_has_what_no_reader_must_miss(folder) -> None:
    """What is said of one condition's trials is said of another's as well, be it in the same words."""
    for momentum in (0.5, 0.9):
        folder.add({"batchnorm": {0.1: [0.9, 0.8], 1.0: [0.8, None]}}, condition={"momentum": momentum})

    text = terminal(tables(folder.store), 80, notes=False)

    assert 2 == text.count("3 of 4 trials are stored")


def test_other_notes_stand_after_the_tables(every_entry) -> None:
    """Each once, below the title of the first table that has it; without them the rest is the same."""
    first, second = every_entry

    text, without = terminal(every_entry, 1000), terminal(every_entry, 1000, notes=False)

    assert text.startswith(without)
    further = text.removeprefix(without).strip().splitlines()
    headings = [f"notes on {title(first)}", f"notes on {title(second)}"]
    assert headings == [line for line in further if line and not line.startswith("- ")]
    notes = dict.fromkeys(note for table in every_entry for note in table.notes if note not in table.warnings)
    assert [note for note in notes if note != second.legend] == [line[2:] for line in further if line.startswith("- ")]


def test_marks_are_explained_below_their_table(every_entry) -> None:
    """What ●, ◐, ○ and × mean is no note that a reader has to ask for."""
    text = terminal(every_entry, 80, notes=False)

    assert 1 == text.count(every_entry[1].legend)


def test_a_title_says_what_a_table_is_of(folder) -> None:
    """Above a table stand its board, task and version, condition, and the protocol where it is not the usual one."""
    folder.add({"batchnorm": {0.1: [0.9]}}, condition={"momentum": 0.9}, protocol="published")

    title = terminal(tables(folder.store), 80).splitlines()[0]

    assert all(word in title for word in ("accuracy", "spirals v1", "momentum=0.9", "published"))


def test_github_tables_have_as_many_cells_in_every_line(folder) -> None:
    """Markdown's table is whole, with one header line, though a label has a bar in it; notes are a list below."""
    folder.add({"a|b": {0.1: [0.9, 0.8], 1.0: [0.9, 0.7]}, "none": {0.1: [0.6, 0.7], 1.0: [0.2, 0.3]}}, baseline="a|b")
    table = folder.table("stability")

    lines = github([table]).splitlines()
    cells = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines if line.startswith("|")]

    assert [2 + len(table.columns)] * 4 == [len(line) for line in cells]
    assert all(re.fullmatch(r"[-:]+", cell.strip()) for cell in cells[1])
    assert [r"a\|b", "none"] == [cells[2][1].strip(), cells[3][1].strip()]
    assert [f"- {note}".replace("<", r"\<") for note in table.notes] == lines[-len(table.notes) :]


def test_latex_tables_compile(every_entry) -> None:
    """Inside a tabular stand ASCII and escaped characters alone, a cell a column; all that is outside is a comment."""
    text = latex_booktabs(every_entry)
    bodies = re.findall(r"\\begin{tabular}.*?\\end{tabular}", text, re.DOTALL)
    outside = re.sub(r"\\begin{tabular}.*?\\end{tabular}", "", text, flags=re.DOTALL).splitlines()

    assert len(every_entry) == len(bodies)
    for body, table in zip(bodies, every_entry, strict=True):
        rows = [line for line in body.splitlines() if line.endswith(r"\\")]
        assert body.isascii()
        assert not re.search(r"(?<!\\)[%#_]", body)
        assert [1 + len(table.columns)] * (1 + len(table.rows)) == [row.count("&") for row in rows]
        assert body.index(r"\toprule") < body.index(r"\midrule") < body.index(r"\bottomrule")
    assert all(line.startswith("%") for line in outside if line)
    assert any("not ranked: 'layer-norm'" in line and "1 value" in line for line in outside)


def test_csv_holds_what_json_holds(every_entry) -> None:
    """Read back by any CSV reader, each row has the numbers of the JSON, in full, with nothing for null."""
    boards = json.loads(as_json(every_entry))["boards"]

    for table, board in zip(every_entry, boards, strict=True):
        rows = list(csv.DictReader(as_csv([table]).splitlines()))
        assert len(board["rows"]) == len(rows)
        for row, stored in zip(rows, board["rows"], strict=True):
            texts = {name: "" if value is None else str(value) for name, value in stored.items() if name != "flags"}
            head = {"board": board["board"], "task": "spirals", "task_version": "1", "task_params": ""}
            head |= {"condition": "momentum=0.9", "protocol": "tuned", "baseline": board["baseline"]}
            assert {**texts, **head, "flags": " ".join(stored["flags"])} == row


def test_tables_of_one_board_have_one_header_in_csv(every_entry) -> None:
    """All tables of a board are read at once by pandas; what only some have is empty in the others' rows."""
    [accuracy] = [table for table in every_entry if table.board == "accuracy"]
    fewer = replace(accuracy, task="moons", columns=accuracy.columns[:-1])

    frame = pd.read_csv(io.StringIO(as_csv([fewer, accuracy])))

    first, last = len(fewer.rows), accuracy.columns[-1].name
    assert ["moons"] * first + ["spirals"] * len(accuracy.rows) == list(frame["task"])
    assert ["float64"] * 2 == [str(frame[name].dtype) for name in ("accuracy", "accuracy_low")]
    assert frame[last][:first].isna().all()


def test_boards_stand_apart_in_csv(every_entry) -> None:
    """Each board has its own header, once, and all its tables below it; an empty line is between two."""
    twice = [table for table in every_entry for _ in range(2)]

    parts = as_csv(twice).split("\n\n")

    kinds = [{row["board"] for row in csv.DictReader(part.splitlines())} for part in parts]
    assert [{board} for board in dict.fromkeys(table.board for table in twice)] == kinds


@pytest.mark.parametrize("name", FORMATS)
def test_every_character_has_a_stand_in(every_entry, name: str) -> None:
    """A terminal that is not Unicode loses nothing of any format: each sign that tables print has one in ASCII."""
    text = FORMATS[name](every_entry)

    plain = text.translate(ASCII)

    assert plain.isascii()


def test_marks_stay_apart_in_ascii() -> None:
    """The marks of a strip are as many in ASCII, each a single character."""
    plain = "●◐○×".translate(ASCII)

    assert 4 == len(set(plain)) == len(plain)


@pytest.mark.parametrize("name", ["terminal", "github", "latex_booktabs", "json"])
def test_a_table_without_a_ranked_norm_still_says_why(folder, name: str) -> None:
    """Where every norm failed, each format names the norm and what happened to it."""
    folder.add({"batchnorm": {0.1: ["error", "error"], 1.0: ["error", "oom"]}})

    text = FORMATS[name](tables(folder.store))

    assert "batchnorm" in text
    assert "3 ended in error" in text


@pytest.mark.parametrize("width", [80, 120])
def test_ascii_tables_keep_their_columns(every_entry, width: int) -> None:
    """Stand-ins are put in before the layout, so that a plain table is as straight, and no wider than the terminal."""
    text = terminal(every_entry, width, ascii_only=True)

    rulers = [i for i, line in enumerate(text.splitlines()) if re.match("-+  -", line)]
    lines = text.splitlines()
    assert text.isascii()
    assert rulers
    assert all(len(line) <= width for line in lines)
    assert all(len(lines[i + 1]) <= len(lines[i]) for i in rulers)


@pytest.mark.parametrize("name", FORMATS)
def test_marks_are_known_by_the_kind_of_their_column(every_entry, name: str) -> None:
    """A column of marks looks the same in each format, whatever it is called."""
    strip = every_entry[1]
    columns = [replace(column, name="m" + column.name) for column in strip.columns]
    rows = [replace(row, values={f"m{key}": value for key, value in row.values.items()}) for row in strip.rows]

    renamed = FORMATS[name]([replace(strip, columns=columns, rows=rows, board="mine")])

    for column in strip.columns:
        renamed = re.sub(rf"\bm{column.name}(_low|_high|_beyond)?\b", rf"{column.name}\1", renamed)
    assert FORMATS[name]([strip]) == renamed.replace("mine", "stability")

"""`normbench leaderboard`: the tables of a folder, in every format, colour and encoding."""

import csv
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from normbench.store import Store

COLUMNS = {
    "accuracy": {"accuracy", "rate", "vs_baseline", "epochs_to", "failed"},
    "stability": {"strip", "over_the_grid", "trains_up_to", "range", "sensitivity"},
}


def test_the_tables_of_a_folder(normbench, results):
    """Stability comes first, as the suite says, then accuracy; each ranks the norms, and stderr stays empty."""
    ran = normbench("leaderboard", results)

    assert (0, "") == (ran.status, ran.err)
    assert ran.out.startswith("stability · digits-cnn v1 · epochs=1\n")
    assert "\n\naccuracy · digits-cnn v1 · epochs=1\n" in ran.out
    assert 2 == ran.out.count("\n1  batchnorm ")


def test_a_run_prints_what_leaderboard_prints(normbench, results):
    """`leaderboard DIR` repeats the tables that the run ended with."""
    words = ("--set", "rates=[0.1, 1]", "--set", "epochs=1", "--seeds", "1", "--norm", "none", "--norm", "batchnorm")
    ran = normbench("run", "quick", *words, "--device", "cpu", "--executor", "serial", "--no-throughput")

    assert ran.out == normbench("leaderboard", results).out


def test_notes_are_counted_or_printed(normbench, results):
    """Without --notes their number is said, with it they stand after the tables; JSON always has them."""
    counted, printed = normbench("leaderboard", results), normbench("leaderboard", results, "--notes")

    boards = normbench("leaderboard", results, "--json").json["boards"]
    legend = next(note for note in boards[0]["notes"] if note.startswith("●"))
    notes = dict.fromkeys(note for board in boards for note in board["notes"] if note != legend)
    assert f"\n\n{len(notes)} notes: --notes\n\n" in counted.out
    assert "--notes" not in printed.out
    assert len(notes) == printed.out.partition("notes on stability")[2].count("\n- ")


@pytest.mark.parametrize("board", COLUMNS)
def test_one_board(normbench, results, board):
    """--board leaves out the others."""
    ran = normbench("leaderboard", results, "--board", board, "--json")

    assert [board] == [found["board"] for found in ran.json["boards"]]


@pytest.mark.parametrize("board", COLUMNS)
def test_json_names_its_columns(normbench, results, board):
    """A board's JSON says what its columns are, and has each of them in every row."""
    ran = normbench("leaderboard", results, "--board", board, "--json")

    [found] = ran.json["boards"]
    named = {column["name"] for column in found["columns"]}
    assert COLUMNS[board] == named
    assert ["batchnorm", "none"] == sorted(row["norm"] for row in found["rows"])
    assert all(named <= set(row) for row in found["rows"])
    assert ("digits-cnn", 1, {"epochs": 1}, [0.1, 1.0]) == tuple(
        found[key] for key in ("task", "task_version", "condition", "grid")
    )


def test_csv_is_a_table_with_full_precision(normbench, results, lines):
    """--format csv gives a row a norm, whose numbers are those of the records of a fresh seed, at the chosen rate."""
    records = [record for record in lines(results) if record["seed"] == 1_000_000]
    scores = {(record["norm"], record["recipe"]["rate"]): record["score"] for record in records}

    ran = normbench("leaderboard", results, "--board", "accuracy", "--format", "csv")

    rows = {row["norm"]: row for row in csv.DictReader(io.StringIO(ran.out))}
    assert {"none", "batchnorm"} == set(rows)
    for norm, row in rows.items():
        assert 100 * scores[norm, float(row["rate"])] == float(row["accuracy"])


@pytest.mark.parametrize(
    ("terminal", "environment", "coloured"),
    [
        (False, {}, False),
        (True, {}, True),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"TERM": "dumb"}, False),
        (False, {"FORCE_COLOR": "1"}, True),
        (False, {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
    ],
    ids=["pipe", "terminal", "NO_COLOR", "dumb", "FORCE_COLOR", "both"],
)
def test_colour_where_it_is_wanted(normbench, results, monkeypatch, terminal, environment, coloured):
    """Colour is for terminals; NO_COLOR, TERM=dumb and a pipe go without, FORCE_COLOR has it anyway."""
    monkeypatch.setenv("TERM", "xterm-256color")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)

    ran = normbench("leaderboard", results)

    assert coloured == ("\x1b[32m●" in ran.out)
    assert coloured == ("\x1b" in ran.out)


def test_colour_changes_no_letter(normbench, results, monkeypatch):
    """Without its colours a coloured table is the plain one, mark by mark; its title is bold."""
    plain = normbench("leaderboard", results).out
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")

    coloured = normbench("leaderboard", results).out

    assert coloured.startswith("\x1b[1mstability · digits-cnn v1 · epochs=1\x1b[0m\n")
    for code in ("1", "32", "33", "31", "1;31", "0"):
        coloured = coloured.replace(f"\x1b[{code}m", "")
    assert plain == coloured


@pytest.mark.parametrize("form", ["json", "csv", "github", "latex_booktabs"])
def test_other_formats_have_no_colour(normbench, results, monkeypatch, form):
    """What other programs read is never coloured."""
    monkeypatch.setenv("FORCE_COLOR", "1")

    ran = normbench("leaderboard", results, "--format", form)

    assert 0 == ran.status
    assert "\x1b" not in ran.out


def test_a_terminal_without_unicode_gets_ascii(results):
    """With PYTHONIOENCODING=ascii the tables are plain ASCII and still say the same."""
    command = [sys.executable, "-m", "normbench.cli.main", "leaderboard", str(results)]

    ran = subprocess.run(command, capture_output=True, env={**os.environ, "PYTHONIOENCODING": "ascii"}, check=True)

    assert b"" == ran.stderr
    text = ran.stdout.decode("ascii")
    assert text.startswith("stability - digits-cnn v1 - epochs=1")
    assert "# all seeds trained, + some, . none, x none and one or more diverged" in text
    assert "?" not in text


def test_a_table_fits_the_terminal(normbench, results, monkeypatch):
    """At 80 columns no line of a table is longer."""
    monkeypatch.setenv("COLUMNS", "80")

    ran = normbench("leaderboard", results)

    assert max(len(line) for line in ran.out.splitlines()) <= 80


def test_a_line_that_cannot_be_read_is_named(normbench, results):
    """A foreign line is named on stderr and left out; the tables are those of the rest."""
    before = normbench("leaderboard", results)
    with (results / "trials.jsonl").open("a") as file:
        file.write('{"schema": 99, "of": "tomorrow"}\n')

    ran = normbench("leaderboard", results)

    assert (0, before.out) == (ran.status, ran.out)
    assert "normbench: results/quick/trials.jsonl line 7: written by a newer normbench; left out\n" == ran.err


def test_a_run_that_stored_nothing_yet_has_no_board(normbench, results):
    """A folder with a run and no trial says so; its JSON is an empty list of boards."""
    Path(results, "trials.jsonl").unlink()

    told, listed = normbench("leaderboard", results), normbench("leaderboard", results, "--json")

    assert (2, "") == (told.status, told.out)
    assert "results/quick: no trial is stored there yet" in told.err
    assert (0, {"schema": 1, "boards": []}) == (listed.status, listed.json)


@pytest.fixture
def two_tasks(results):
    """Return results/quick with what its task gave stored a second time, as that of another task."""
    store = Store(Path("results/quick"))
    [run], trials = store.runs(), list(store.trials())
    cells = [msgspec.structs.replace(cell, task="other-task") for cell in run.cells]
    keys = {(trial.norm, trial.recipe.rate, trial.seed): trial.key for cell in cells for trial in cell.every()}
    with store.writer() as writer:
        writer.append(msgspec.structs.replace(run, cells=cells))
        for trial in trials:
            key = keys[trial.norm, trial.recipe["rate"], trial.seed]
            writer.append(msgspec.structs.replace(trial, task="other-task", key=key))
    return store.folder


@pytest.fixture(scope="module")
def both(trained, train, tmp_path_factory):
    """Train with another batch size as well, and return the folder."""
    folder = shutil.copytree(trained, tmp_path_factory.mktemp("conditions") / "quick")
    return train("--set", "rates=[0.1, 1]", "--set", "batch_size=512", out=folder)


@pytest.fixture
def conditions(both):
    """Return results/quick with a second condition: another batch size."""
    return Path(shutil.copytree(both, "results/quick"))


def test_two_tasks_have_an_aggregate_board_at_the_end(normbench, two_tasks):
    """After the boards of each task comes the one over both; --board aggregate prints it alone."""
    every, alone = normbench("leaderboard", two_tasks), normbench("leaderboard", two_tasks, "--board", "aggregate")

    table = alone.out.partition(" notes: --notes")[0].rpartition("\n")[0]
    assert table.startswith("aggregate · digits-cnn v1, other-task v1 · epochs=1\n")
    assert table == every.out.partition(" notes: --notes")[0].rpartition("\n")[0][-len(table) :]


def test_one_task_has_no_aggregate_board(normbench, results):
    """Asked for, it is said not to be there."""
    ran = normbench("leaderboard", results, "--board", "aggregate")

    assert (2, "normbench: results/quick: nothing is stored there for the board aggregate\n") == (ran.status, ran.err)


def test_another_baseline(normbench, results):
    """--baseline compares with that norm on every board."""
    ran = normbench("leaderboard", results, "--baseline", "none", "--json")

    assert {"none"} == {board["baseline"] for board in ran.json["boards"]}
    [accuracy] = [board for board in ran.json["boards"] if board["board"] == "accuracy"]
    differences = {row["norm"]: row["vs_baseline"] for row in accuracy["rows"]}
    assert (None, True) == (differences["none"], differences["batchnorm"] > 0)


@pytest.mark.parametrize(
    ("column", "expected"),
    [("accuracy", ["batchnorm", "none"]), ("rate", ["batchnorm", "none"]), ("sensitivity", ["none", "batchnorm"])],
)
def test_rows_in_the_order_of_a_column(normbench, results, column, expected):
    """--sort puts the best of a column first, on the boards that have it; ranks stay, and so do other boards."""
    plain = normbench("leaderboard", results, "--json").json["boards"]

    boards = normbench("leaderboard", results, "--sort", column, "--json").json["boards"]

    for before, after in zip(plain, boards, strict=True):
        here = column in {each["name"] for each in after["columns"]}
        values = [row[column] for row in after["rows"]] if here else []
        assert sorted(values, reverse=column == "accuracy") == values
        assert here or before == after
        assert {row["norm"]: row["rank"] for row in before["rows"]} == {
            row["norm"]: row["rank"] for row in after["rows"]
        }


def test_rows_in_the_order_of_names(normbench, results):
    """`--sort norm` is the alphabet, on every board."""
    ran = normbench("leaderboard", results, "--sort", "norm", "--json")

    assert {("batchnorm", "none")} == {tuple(row["norm"] for row in board["rows"]) for board in ran.json["boards"]}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("batch_size=512",), [512]),
        (("batch_size=64",), [64]),
        (("epochs=1",), [64, 512]),
        (("epochs=1", "batch_size=512"), [512]),
        (("compile=false", "weight_decay=0"), [64, 512]),
    ],
)
def test_tables_of_a_recipe_value(normbench, conditions, words, expected):
    """--where keeps the tables with a value, be it in their condition or the task's own; several narrow further."""
    asked = [part for word in words for part in ("--where", word)]

    ran = normbench("leaderboard", conditions, "--board", "accuracy", *asked, "--json")

    assert expected == [board["condition"].get("batch_size", 64) for board in ran.json["boards"]]


def test_nothing_left_names_what_there_is(normbench, conditions):
    """Where no table has the value, all that there are stand in the message."""
    ran = normbench("leaderboard", conditions, "--where", "batch_size=7")

    assert "normbench: --where batch_size=7: no table has it; there are 512, 64\n" == ran.err

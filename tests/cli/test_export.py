"""`normbench export`: one file that every reporting command reads as it reads the folder."""

import json
import os
import sys
from pathlib import Path

import pytest

from normbench.api import Results
from normbench.throughput import session


@pytest.fixture(scope="module")
def measured(trained, tmp_path_factory):
    """Return a folder with two norms' trials and a session."""
    import shutil

    from normbench.cli.main import status

    folder = tmp_path_factory.mktemp("measured") / "quick"
    shutil.copytree(trained, folder)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("TRAINING", 1e-4), ("EVALUATION", 1e-4), ("LOOKS", (2,))):
            patch.setattr(session, name, value)
        assert 0 == status(["throughput", str(folder), "--device", "cpu", "--executor", "serial", "--quiet"])
    return folder


def export(normbench, folder, file):
    """Export a folder with four trials of the grid, two of fresh seeds, and a session."""
    ran = normbench("export", folder, "-o", file)
    assert (0, "", f"{file} written: 6 trials, 1 throughput session\n") == (ran.status, ran.out, ran.err)
    return Path(file)


@pytest.fixture
def exported(normbench, measured):
    """Export the folder into all.json."""
    return export(normbench, measured, "all.json")


@pytest.fixture
def parquet(normbench, measured):
    """Export the folder into all.parquet."""
    pytest.importorskip("pyarrow")
    return export(normbench, measured, "all.parquet")


def boards_of(ran):
    """Return what a command printed, without its last lines: they say where it read."""
    return ran.out.partition("\nreport ")[0]


@pytest.mark.parametrize("form", ["terminal", "github", "latex_booktabs", "csv", "json"])
def test_a_file_has_the_folders_leaderboards(normbench, measured, exported, form):
    """`leaderboard FILE` prints the boards that `leaderboard DIR` prints, byte by byte."""
    of_folder, of_file = (normbench("leaderboard", what, "--format", form) for what in (measured, exported))

    assert (0, "") == (of_file.status, of_file.err)
    assert boards_of(of_folder) == boards_of(of_file)
    assert "throughput" in of_file.out


def test_a_file_is_drawn_as_the_folder_is(normbench, measured, exported):
    """`plot FILE` draws what `plot DIR` draws."""
    normbench("plot", measured, "-o", "folder.svg")

    ran = normbench("plot", exported, "-o", "file.svg")

    assert 0 == ran.status
    assert Path("folder.svg").read_bytes() == Path("file.svg").read_bytes()


def test_a_trial_is_shown_from_a_file(normbench, measured, exported, lines):
    """`show TRIAL --in FILE` has all that is stored of a trial, with its environment."""
    key = lines(measured)[0]["key"]

    of_folder, of_file = (normbench("show", key, "--in", what, "--json") for what in (measured, exported))
    text = normbench("show", key, "--in", exported)

    assert of_folder.json == of_file.json
    assert text.out.startswith(f"trial        {key} in all.json\n")
    assert "run it with  normbench run quick --norm none " in text.out
    assert "--out" not in text.out


def test_results_read_a_file(measured, exported):
    """From Python a file is as good as the folder."""
    of_folder, of_file = Results(measured), Results(exported)

    assert str(of_folder) == str(of_file)
    assert of_folder.trials() == of_file.trials()


def test_a_file_exported_again_is_the_same(normbench, exported):
    """An export of an export changes no byte."""
    before = exported.read_bytes()

    again = normbench("export", exported, "-o", "again.json")

    assert 0 == again.status
    assert before == Path("again.json").read_bytes() == exported.read_bytes()


@pytest.mark.parametrize(
    "command",
    [
        ["leaderboard", "--format", "json"],
        ["leaderboard", "--board", "throughput"],
        ["show", "--json", "--in"],
    ],
    ids=" ".join,
)
def test_a_parquet_file_reads_as_the_json_file(normbench, measured, exported, parquet, lines, command):
    """What a command says of one form it says of the other."""
    key = [lines(measured)[0]["key"]] if command[0] == "show" else []

    of_json, of_parquet = (normbench(command[0], *key, *command[1:], file) for file in (exported, parquet))

    assert (0, "") == (of_parquet.status, of_parquet.err)
    assert boards_of(of_json) == boards_of(of_parquet)


def test_forms_turn_into_each_other(normbench, exported, parquet):
    """Parquet made of JSON is the Parquet made of the folder, and back again, byte by byte."""
    normbench("export", exported, "-o", "again.parquet")
    normbench("export", parquet, "-o", "again.json")

    assert parquet.read_bytes() == Path("again.parquet").read_bytes()
    assert exported.read_bytes() == Path("again.json").read_bytes()


def test_a_parquet_file_is_a_table(parquet):
    """It has the columns that `Results.to_pandas` gives, and the same values in them."""
    pandas = pytest.importorskip("pandas")
    frame = Results(parquet).to_pandas()

    table = pandas.read_parquet(parquet)

    assert set(frame.columns) <= set(table.columns)
    for name in ("key", "norm", "seed", "outcome", "score", "validation", "recipe.rate", "recipe.epochs", "seconds"):
        assert list(frame[name]) == list(table[name])
    assert list(frame["series"]) == [json.loads(text) for text in table["series"]]


def test_parquet_without_pyarrow(normbench, measured, monkeypatch):
    """What to install is said in one line, and nothing is written."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    ran = normbench("export", measured, "-o", "all.parquet")

    assert (2, "") == (ran.status, ran.out)
    assert "normbench: Parquet needs pyarrow: pip install 'normbench[parquet]'\n" == ran.err
    assert not list(Path().iterdir())


@pytest.mark.parametrize("file", ["all.csv", "all", ".parquet", "all.PARQUET"])
def test_another_ending_is_refused(normbench, measured, file):
    """The ending says which form is meant."""
    ran = normbench("export", measured, "-o", file)

    assert (2, f"normbench: -o {file}: an export ends in .json or .parquet\n") == (ran.status, ran.err)


def test_a_record_is_a_line(exported):
    """A file is JSON with one record a line, which a diff shows one by one."""
    text = exported.read_text(encoding="utf-8")
    document = json.loads(text)
    names = ["runs", "trials", "sessions", "environments", "sources", "traces", "fingerprints"]
    records = [record for name in names for record in document[name]]

    lines = [
        json.loads(line.removesuffix(",")) for line in text.splitlines() if line.startswith("{") and len(line) > 20
    ]

    assert ["schema", *names] == list(document)
    assert records == lines
    assert (6, 1) == (len(document["trials"]), len(document["sessions"]))


def test_what_was_trained_again_is_left_out(normbench, small, plugin, forget):
    """Of an edited layer the file has what its latest code gave."""
    options = ("--norm", "edited", "--norm", "none")
    small("--plugin", plugin("edited", "return 0 * x"), *options)
    forget()
    small("--plugin", plugin("edited", "return x"), *options)

    ran = normbench("export", "results/quick", "-o", "all.json")

    boards = [boards_of(normbench("leaderboard", what)) for what in ("results/quick", "all.json")]
    assert "all.json written: 2 trials, 0 throughput sessions\n" == ran.err
    assert boards[0] == boards[1]


def test_a_folder_with_sessions_alone_is_exported(normbench, measured):
    """Throughput without trials is worth a file, too."""
    Path("timed").mkdir()
    for name in ("sessions.jsonl", "environments.jsonl"):
        Path("timed", name).write_bytes((measured / name).read_bytes())

    ran = normbench("export", "timed", "-o", "timed.json")

    assert "timed.json written: 0 trials, 1 throughput session\n" == ran.err
    of_folder, of_file = (normbench("leaderboard", what) for what in ("timed", "timed.json"))
    assert boards_of(of_folder) == boards_of(of_file)


def test_an_export_appears_whole_or_not_at_all(normbench, measured, monkeypatch):
    """A file that was there stays as it was where the disk has no room, and nothing else is left behind."""
    Path("all.json").write_text("before")

    def no_room(*where):
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", no_room)
        ran = normbench("export", measured, "-o", "all.json")

    assert (2, "normbench: -o all.json: can't be written (No space left on device)\n") == (ran.status, ran.err)
    assert ["all.json"] == [path.name for path in Path().iterdir()]
    assert "before" == Path("all.json").read_text()


def test_a_file_named_like_a_folder_is_refused(normbench, measured):
    """What can't be written is a mistake with its reason, and leaves nothing behind."""
    Path("all.json").mkdir()

    ran = normbench("export", measured, "-o", "all.json")

    assert (2, 1) == (ran.status, ran.err.count("\n"))
    assert ran.err.startswith("normbench: -o all.json: can't be written (")
    assert ["all.json"] == [path.name for path in Path().iterdir()]


def test_a_line_that_cannot_be_read_is_named(normbench, results):
    """A foreign line of the folder is named, and not exported."""
    with (results / "trials.jsonl").open("a") as file:
        file.write("foreign\n")

    ran = normbench("export", results, "-o", "all.json")

    assert 0 == ran.status
    assert "normbench: results/quick/trials.jsonl line 7: " in ran.err
    assert "foreign" not in Path("all.json").read_text()


def test_a_record_that_cannot_be_read_costs_only_itself(normbench, exported):
    """A record of a newer version in a file is named and left out; the others are shown."""
    text = exported.read_text(encoding="utf-8")
    exported.write_text(text.replace('"trials":[\n{"schema":1', '"trials":[\n{"schema":9'), encoding="utf-8")

    ran = normbench("leaderboard", exported)

    assert 0 == ran.status
    assert 1 == ran.err.count("\n")
    assert "written by a newer normbench; left out" in ran.err


@pytest.mark.parametrize("command", ["run", "plan", "throughput"])
def test_results_do_not_go_into_a_file(normbench, exported, command):
    """A file is not written to: --out names a folder."""
    before = exported.read_bytes()

    ran = normbench(command, "quick", "--norm", "none", "--device", "cpu", "--out", exported)

    assert (2, "") == (ran.status, ran.out)
    assert "normbench: --out all.json: a file, which is not written to; name a folder\n" == ran.err
    assert before == exported.read_bytes()

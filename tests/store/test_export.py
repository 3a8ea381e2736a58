"""The store, sessions and export: a file reads as the folder it was made of, and is never written to."""

import sys

import msgspec
import pytest

from normbench.contract import Recipe
from normbench.errors import UsageError
from normbench.store import Store, export
from normbench.store.kinds import QUARANTINE, SESSIONS
from normbench.store.records import (
    SCHEMA,
    EnvironmentRecord,
    FingerprintRecord,
    RunRecord,
    SessionRecord,
    Timing,
    TrialRecord,
)
from normbench.trials import Cell, Measure

RECIPE = Recipe(rate=1, batch_size=8, epochs=1)
TASK = {"schema": SCHEMA, "task": "toy", "task_version": 1, "device": "cpu"}


@pytest.fixture
def run():
    """Return a run's record."""
    cell = Cell(task="toy", task_version=1, norm="é", label="é", recipe=RECIPE, rates=[1.0], seeds=[0])
    given = {"run": "run", "started": "now", "command": [], "version": "1", "suite": {"seeds": 1}, "baseline": "none"}
    return RunRecord(schema=SCHEMA, device="cpu", cells=[cell], **given)


@pytest.fixture
def trials():
    """Return two trials' records."""
    measure = Measure(name="accuracy", unit="%", direction="up", chance=0.1, reference=0.9)
    given = {"run": "run", "finished": "now", "norm": "é", "recipe": {"rate": 1.0}, "environment": "env"}
    return [
        TrialRecord(key=key, seed=seed, outcome="trained", score=0.9, measure=measure, **TASK, **given)
        for seed, key in enumerate("ab")
    ]


@pytest.fixture
def fingerprint():
    """Return a fingerprint's record."""
    given = {"started": "now", "command": [], "version": "1", "environment": "env", "outcome": "taken"}
    return FingerprintRecord(method=1, norm="none", label="none", recipe=RECIPE, numbers={"x": [1.5]}, **TASK, **given)


@pytest.fixture
def session():
    """Return a session's record."""
    timing = Timing(norm="none", label="none", train=[0.1, 0.25], evaluation=[0.5, 1e-6])
    given = {"session": "s", "started": "now", "finished": "later", "command": [], "version": "1", "environment": "env"}
    block = {"rounds": 2, "steps": 3, "batches": 4, "batch": 5, "stopped": "time"}
    return SessionRecord(recipe=RECIPE, baseline=timing, again=timing, norms=[], **TASK, **given, **block)


@pytest.fixture
def folder(tmp_path, run, trials, session, fingerprint):
    """Return a folder's store with a run, two trials, a session, a fingerprint and an environment."""
    store = Store(tmp_path / "results")
    with store.writer() as writer:
        for record in (run, *trials, session, fingerprint):
            writer.append(record)
        writer.environment(EnvironmentRecord.of(cores=2, packages={"torch": "2"}))
    return store


@pytest.fixture(params=[".json", ".parquet"])
def exported(request, folder, trials, tmp_path):
    """Return the file that has all of the folder, in each form."""
    if request.param == ".parquet":
        pytest.importorskip("pyarrow")
    file = tmp_path / f"all{request.param}"
    file.write_bytes(folder.export(trials, request.param))
    return file


@pytest.fixture
def parquet(folder, trials, tmp_path):
    """Return the Parquet file that has all of the folder, and what reads and writes such files."""
    parquet = pytest.importorskip("pyarrow.parquet")
    file = tmp_path / "all.parquet"
    file.write_bytes(folder.export(trials, ".parquet"))
    return file, parquet


def test_a_session_is_read_back(folder, session):
    """A session reads as it was written, and alone makes a folder one of results."""
    for path in folder.folder.iterdir():
        if path.name != SESSIONS:
            path.unlink()

    again = Store(folder.folder)

    assert again.exists()
    assert [session] == again.sessions()
    assert ([], [], []) == (again.runs(), list(again.trials()), again.unreadable)


@pytest.mark.parametrize("line", [b"<<<<<<< HEAD", b'{"schema":1}', b'{"schema":2,"all":"new"}', b'{"schema":1,"sess'])
def test_a_session_that_cannot_be_read(folder, session, line):
    """A line that is no session is named once, set aside by the next run, and left where it is."""
    with (folder.folder / SESSIONS).open("ab") as file:
        file.write(line)
    before = Store(folder.folder)
    found = before.sessions()

    with before.writer() as writer:
        writer.append(session)
    after = Store(folder.folder)

    assert [session] == found
    assert [(SESSIONS, 2)] == [(bad.file, bad.line) for bad in before.unreadable]
    assert [session, session] == after.sessions()
    assert [] == after.unreadable
    assert 1 == len((folder.folder / QUARANTINE).read_bytes().splitlines())


def test_a_file_reads_as_the_folder(folder, exported):
    """Runs, trials, results, sessions, fingerprints and environments are those of the folder."""
    file = Store(exported)

    for read in (Store.runs, Store.trials, Store.results, Store.sessions, Store.fingerprints):
        assert list(read(folder)) == list(read(file))
    assert folder.environments() == file.environments()
    assert file.exists()
    assert ([], set()) == (file.unreadable, file.known_unreadable())


def test_an_exported_file_exported_again_is_the_same(exported, trials):
    """Nothing is lost, and nothing of the time or the place gets in."""
    assert exported.read_bytes() == Store(exported).export(list(Store(exported).trials()), exported.suffix)


def test_only_the_trials_that_are_given_are_exported(folder, trials, tmp_path):
    """What to keep of the trials is the boards' to say."""
    (tmp_path / "one.json").write_bytes(folder.export(trials[1:]))

    assert ["b"] == [result.key for result in Store(tmp_path / "one.json").results()]


@pytest.mark.parametrize("form", [".json", ".parquet"])
def test_an_empty_folder_is_exported(tmp_path, form):
    """A file of nothing is a file all the same."""
    if form == ".parquet":
        pytest.importorskip("pyarrow")
    (tmp_path / "empty").write_bytes(Store(tmp_path / "absent").export([], form))

    file = Store(tmp_path / "empty")

    assert ([], [], [], {}) == (file.runs(), list(file.trials()), file.sessions(), file.environments())


def test_a_record_in_a_file_that_cannot_be_read(folder, trials, tmp_path):
    """A record of a newer version is named by its place among its like, and left out."""
    document = msgspec.json.decode(folder.export(trials))
    document["trials"][1]["schema"] = SCHEMA + 1
    (tmp_path / "all.json").write_bytes(msgspec.json.encode(document))

    file = Store(tmp_path / "all.json")

    assert ["a"] == [result.key for result in file.results()]
    assert [("trials.jsonl", 2, "written by a newer normbench")] == [
        (bad.file, bad.line, bad.reason) for bad in file.unreadable
    ]


@pytest.mark.parametrize(("line", "reason"), [(None, "its end is missing"), ('{"schema":2}', "written by a newer")])
def test_a_row_that_cannot_be_read(parquet, line, reason):
    """A row of a Parquet file whose record is missing, or newer, is named by its number, and left out."""
    import pyarrow

    file, forms = parquet
    table = forms.read_table(file)
    records = pyarrow.array([table["record"][0].as_py(), line], "string")
    forms.write_table(table.set_column(table.column_names.index("record"), "record", records), file)

    store = Store(file)

    assert ["a"] == [result.key for result in store.results()]
    assert [("trials.jsonl", 2)] == [(bad.file, bad.line) for bad in store.unreadable]
    assert store.unreadable[0].reason.startswith(reason)


def test_a_file_that_was_cut_is_refused(exported):
    """However much of a file is missing, it is named, and nothing of it is shown as the whole."""
    whole = exported.read_bytes().rstrip()

    for cut in {*range(0, len(whole), len(whole) // 100), *range(len(whole) - 50, len(whole))}:
        exported.write_bytes(whole[:cut])
        with pytest.raises(UsageError, match=rf"{exported.name}: not a file that normbench export wrote \(.+\)$"):
            Store(exported).runs()


def test_a_bit_that_fell_over_is_found(parquet):
    """A Parquet file in whose rows a bit changed is refused, or reads as before: its pages have checksums."""
    file, _ = parquet
    whole, before = file.read_bytes(), list(Store(file).trials())
    end = len(whole) - int.from_bytes(whole[-8:-4], "little") - 8

    refused = 0
    for place in range(4, end, 11):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        try:
            assert before == list(Store(file).trials())
        except UsageError:
            refused += 1

    assert refused > 0


def test_another_parquet_file_is_refused(tmp_path):
    """A table that normbench did not write is named."""
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table({"record": ["{}"]}), tmp_path / "other.parquet")

    with pytest.raises(UsageError, match=r"other\.parquet: not a file .* \(its metadata is not normbench's\)"):
        Store(tmp_path / "other.parquet").runs()


@pytest.mark.parametrize(
    ("document", "says"),
    [
        (b'{"schema":9}', "written by a newer normbench"),
        (b'{"schema":1,"runs":[]}', r"not a file .* \(it lacks sessions, environments\)"),
        (b'{"runs":[]}', r"not a file .* \(it has no schema\)"),
    ],
)
def test_metadata_that_lacks_a_part_is_refused(parquet, document, says):
    """A Parquet file is whole or refused, and one of a newer normbench is said to be."""
    file, forms = parquet
    forms.write_table(forms.read_table(file).replace_schema_metadata({"normbench": document}), file)

    with pytest.raises(UsageError, match=says):
        Store(file).runs()


def test_a_table_without_the_records_is_refused(parquet):
    """Its columns alone don't make up a trial."""
    file, forms = parquet
    forms.write_table(forms.read_table(file).drop_columns(["record"]), file)

    with pytest.raises(UsageError, match="not a file that normbench export wrote"):
        Store(file).runs()


def test_a_row_has_what_its_record_has(parquet, trials):
    """A column a field, the recipe's at their default where the record leaves them out; what is nested is JSON text."""
    file, forms = parquet

    table = forms.read_table(file)

    assert [*export.columns(), "record"] == table.column_names
    row = table.to_pylist()[1]
    assert trials[1] == msgspec.json.decode(row["record"], type=TrialRecord)
    assert ("b", "é", 1, 0.9, None) == tuple(row[name] for name in ("key", "norm", "seed", "score", "diverged_at"))
    assert (1.0, None, 0.0, True, "sgd") == tuple(
        row[f"recipe.{name}"] for name in ("rate", "batch_size", "momentum", "hold_out", "optimizer")
    )
    assert ("{}", "[0.5,0.75]", "32") == (row["series"], row["recipe.milestones"], row["recipe.precision"])


def test_columns_are_the_same_whatever_is_stored(folder, trials, tmp_path):
    """A file of no trials has the names and types of any other, so that tables can be put together."""
    parquet = pytest.importorskip("pyarrow.parquet")
    for name, kept in (("none", []), ("all", trials)):
        (tmp_path / name).write_bytes(folder.export(kept, ".parquet"))

    none, some = (parquet.read_schema(tmp_path / name).remove_metadata() for name in ("none", "all"))

    assert none.equals(some)


@pytest.mark.parametrize(("field", "value"), [("seed", 2**63), ("recipe", {"rate": "fast", "epochs": 2**63})])
def test_a_value_that_no_column_can_have(folder, trials, tmp_path, field, value):
    """A number too large, or a word for a number, is null in its column, and whole in the record."""
    pytest.importorskip("pyarrow")
    odd = msgspec.structs.replace(trials[0], **{field: value})

    (tmp_path / "odd.parquet").write_bytes(folder.export([odd], ".parquet"))

    assert [odd] == list(Store(tmp_path / "odd.parquet").trials())


@pytest.mark.parametrize("missing", ["pyarrow", "pyarrow.parquet"])
def test_without_pyarrow(parquet, folder, trials, monkeypatch, missing):
    """Writing Parquet, and reading it, says what to install; JSON needs nothing."""
    file, _ = parquet
    monkeypatch.setitem(sys.modules, missing, None)

    with pytest.raises(UsageError, match=r"^Parquet needs pyarrow: pip install 'normbench\[parquet\]'$"):
        folder.export(trials, ".parquet")
    with pytest.raises(UsageError, match=r"all\.parquet: Parquet needs pyarrow: pip install 'normbench\[parquet\]'$"):
        Store(file).runs()
    assert folder.export(trials)


def test_a_file_is_not_written_to(exported):
    """Results go into a folder."""
    before = exported.read_bytes()

    with (
        pytest.raises(UsageError, match=rf"{exported.name}: a file, which is not written to; name a folder"),
        Store(exported).writer(),
    ):
        pass

    assert before == exported.read_bytes()
    assert [exported.name, "results"] == sorted(path.name for path in exported.parent.iterdir())


def test_figures_are_a_column(folder, trials, tmp_path):
    """Single numbers stand in a table as JSON text, and are in the record."""
    parquet = pytest.importorskip("pyarrow.parquet")
    measured = [msgspec.structs.replace(trials[0], figures={"bytes": 2.0}), trials[1]]
    (tmp_path / "all.parquet").write_bytes(folder.export(measured, ".parquet"))

    assert ['{"bytes":2.0}', "{}"] == parquet.read_table(tmp_path / "all.parquet")["figures"].to_pylist()
    assert measured == list(Store(tmp_path / "all.parquet").trials())

"""Folders and exports that something happened to: whatever a file holds, a command answers, and nothing is lost.

Each file of a folder x what may have become of it x each command that reads; in this process, and without training.
"""

import errno
import math
import os
import shutil
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

import normbench as library
from normbench.charts import panels
from normbench.cli.commands import throughput
from normbench.errors import UsageError
from normbench.execute import Request, prepare
from normbench.execute.run import _trace_record, _trial_record, run_record
from normbench.store import Store
from normbench.store.kinds import KINDS, QUARANTINE, RUNS, TRIALS
from normbench.store.records import SCHEMA, EnvironmentRecord, FingerprintRecord, SessionRecord, Timing
from normbench.trials import Made, Measure, Outcome, Points, Source, Trace

PLAN = ("quick", "--norm", "none", "--norm", "batchnorm", "--seeds", "6", "--set", "rates=[0.1, 1]", "--device", "cpu")
DEEP = 5000
NEST = b"[" * DEEP + b"]" * DEEP


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return a folder with some of every kind of record, made up; boards and commands have what to say."""
    folder = tmp_path_factory.mktemp("damaged") / "whole"
    settings = {"rates": [0.1, 1]}
    prepared = prepare(Request("quick", norms=("none", "batchnorm"), seeds=6, settings=settings, out=folder))
    cells = prepared.cells
    task = {"schema": SCHEMA, "device": "cpu", "task": cells[0].task, "task_version": cells[0].task_version}
    call = {"started": "2025-01-01", "command": [], "version": "1", "recipe": cells[0].recipe, "task_print": "t"}
    timings = [Timing(norm=cell.norm, label=cell.label, train=[0.1] * 9, evaluation=[0.1] * 9) for cell in cells]
    with Store(folder).writer() as writer:
        run, env = (
            run_record(prepared),
            writer.environment(EnvironmentRecord.of(processor="p", packages={"torch": "2.6.0"})),
        )
        writer.append(msgspec.structs.replace(run, suite={**run.suite, "gate": {"accuracy": "-5pt"}}))
        measure = Measure.of(prepared.registry.task(cells[0].task), {})
        files = [Source(at="plugin mine", path="mine.py", sha256="1")]
        made, sources = Made(norm_print="n", task_print="t"), writer.sources(files)
        for i, work in enumerate(prepared.work):
            given = {"score": 0.9 - i / 100, "validation": 0.9, "series": {"loss": [0.1], "validation": [0.9]}}
            outcome = Outcome(trial=work.trial, outcome="trained", steps=8, epoch_steps=8, **given)
            record = _trial_record(outcome, made, sources, run, env, measure, ["seeing"])
            seen = Points([0, 1], [[0.5, math.inf], [0.5, 1.0]])
            writer.append(_trace_record(Trace(probe="seeing", series={"seen": seen}), record))
            writer.append(record)
        common = {**task, **call, "environment": env}
        rounds = {"rounds": 9, "steps": 3, "batches": 4, "batch": 5, "stopped": "time", "norms": timings[:1]}
        pair = {"baseline": timings[1], "again": timings[1]}
        writer.append(SessionRecord(session="s", finished="2025-01-01", **common, **rounds, **pair))
        numbers = {"outcome": "taken", "digest": "d", "numbers": {"loss": [0.5]}}
        writer.append(FingerprintRecord(method=1, norm="none", label="none", **common, **numbers))
    with (folder / TRIALS).open("ab") as file:
        file.write(b"a line that is set aside\n")
    with Store(folder).writer():
        return folder


def _a_folder(path):
    path.unlink()
    path.mkdir()


def _nested(path):
    """Add lines that are nested too deep by themselves, and in each of their fields."""
    fields = msgspec.json.decode(path.read_bytes().splitlines()[0], type=dict[str, msgspec.Raw])
    lines = [NEST, b'{"schema":1,"x":' * DEEP]
    lines += [msgspec.json.encode({**fields, name: msgspec.Raw(NEST)}) for name in (*fields, "unknown")]
    path.write_bytes(path.read_bytes() + b"\n".join(lines) + b"\n")


def _wrong_types(path):
    """Put lines in its place that are no records, or have one field that is missing or of a wrong type."""
    record = msgspec.json.decode(path.read_bytes().splitlines()[0])
    lines = [b"7", b'"x"', b"null", b"[]", b"{}", *map(msgspec.json.encode, _wrong(record))]
    path.write_bytes(b"\n".join(lines) + b"\n")


def _wrong(record):
    for name, value in record.items():
        for other in (7, -1e300, "x", [7], {"x": 7}, None):
            yield {**record, name: other}
        yield {key: kept for key, kept in record.items() if key != name}
        if isinstance(value, dict):
            yield from ({**record, name: wrong} for wrong in _wrong(value))
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            yield from ({**record, name: [wrong, *value[1:]]} for wrong in _wrong(value[0]))


DAMAGES = {
    "is a folder": _a_folder,
    "is nested 5,000 deep": _nested,
    "has wrong types": _wrong_types,
    "is empty": lambda path: path.write_bytes(b""),
    "is another's": lambda path: path.write_bytes(b"<<<<<<< HEAD\na,b\n\xef\xbb\xbf{}\n" + bytes(range(256)) * 20),
    "is deleted": Path.unlink,
}


@pytest.fixture
def answered(normbench, monkeypatch, whole):
    """Return a function that has every command read a folder or an export, and holds its answer to docs/cli.md."""
    monkeypatch.setattr(throughput, "measure_all", lambda *args, **options: iter(()))
    monkeypatch.setattr(panels, "figure", lambda charts: SimpleNamespace(encoded=lambda form: b""))
    key = next(Store(whole).results()).key

    def read(what):
        for command in (
            ("leaderboard", what),
            ("compare", what, whole),
            ("compare", whole, what, "--format", "junit"),
            ("plot", what, "-o", "rates.svg"),
            ("plot", what, "--curves", "-o", "curves.svg"),
            ("export", what, "-o", "export.json"),
            ("merge", what, whole, "-o", "merged"),
            ("show", key, "--in", what),
            ("plan", "--no-time", *PLAN, "--out", what),
            ("calibrate", what, "--repetitions", "100"),
            ("throughput", what, "--device", "cpu"),
        ):
            shutil.rmtree("merged", ignore_errors=True)
            ran = normbench(*command)
            assert ran.status in (0, 1, 2, 3, 4), command
            assert all(line.startswith("normbench: ") for line in ran.err.splitlines() if ran.status == 2), command
        results = library.Results(what)
        for ask in (results.boards, results.trials, results.traces, lambda: str(results)):
            with suppress(UsageError):
                ask()

    return read


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("name", [*KINDS, QUARANTINE])
def test_a_damaged_folder_is_answered_and_written_to(whole, answered, tmp_path, name, damage):
    """No command ends in a trace; the next run sets aside what can't be read, and changes nothing that is there."""
    folder = Path(shutil.copytree(whole, tmp_path / "folder"))
    path = folder / name
    damage(path)
    before = b"" if path.is_dir() or not path.exists() else path.read_bytes()

    answered(folder)
    if path.is_dir():
        with pytest.raises(UsageError, match=f"{name}: can't be read .Is a directory."), Store(folder).writer():
            pass
    else:
        with Store(folder).writer():
            pass
        after = Store(folder)
        for kind in KINDS.values():
            list(after.whole(kind))
        assert [] == after.unreadable
        assert not before or path.read_bytes().startswith(before)


@pytest.mark.parametrize("part", [None, *(name.removesuffix(".jsonl") for name in KINDS)])
@pytest.mark.parametrize("value", [NEST, b"7", b'[7, {}, "x", {"schema": 1}]', b""], ids=["nested", "7", "wrong", ""])
def test_a_damaged_export_is_answered(whole, answered, tmp_path, part, value):
    """The same of a file: one of its parts, or the whole of it, is something else."""
    file = tmp_path / "all.json"
    document = msgspec.json.decode(Store(whole).export(list(Store(whole).trials())), type=dict[str, msgspec.Raw])
    parts = (b'"%s":%s' % (name.encode(), value if name == part else bytes(raw)) for name, raw in document.items())
    file.write_bytes(b"{%s}" % b",".join(parts) if part else value)

    answered(file)


@pytest.mark.parametrize("name", [RUNS, TRIALS])
def test_a_file_that_may_not_be_read_is_named(whole, answered, tmp_path, monkeypatch, name):
    """Who lacks the right to read a file is told which, in one line."""
    folder = Path(shutil.copytree(whole, tmp_path / "folder"))
    real = Path.open

    def refused(self, *args, **options):
        if self == folder / name:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))
        return real(self, *args, **options)

    monkeypatch.setattr(Path, "open", refused)

    answered(folder)
    with pytest.raises(UsageError, match=f"{name}: can't be read .Permission denied."):
        library.Results(folder).boards()

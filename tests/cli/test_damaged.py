"""Folders and exports that something happened to: whatever a file holds, a command answers, and nothing is lost.

Each file of a folder x what may have become of it x each command that reads; in this process, and without training.
"""

import shutil
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

import normbench as library
from normbench.cli import throughput
from normbench.errors import UsageError
from normbench.execute import Request, prepare
from normbench.execute.training import _trial_record, run_record
from normbench.records import SCHEMA, FingerprintRecord, Measure, Outcome, SessionRecord, Timing
from normbench.store import ENVIRONMENTS, FINGERPRINTS, QUARANTINE, RUNS, SESSIONS, TRIALS, Store

PLAN = ("quick", "--norm", "none", "--norm", "batchnorm", "--seeds", "6", "--set", "rates=[0.1, 1]", "--device", "cpu")
KINDS = (RUNS, TRIALS, SESSIONS, FINGERPRINTS, ENVIRONMENTS, QUARANTINE)
DEEP = 5000


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return a folder with some of every kind of record, made up; boards and commands have what to say."""
    folder = tmp_path_factory.mktemp("damaged") / "whole"
    settings = ("rates=[0.1, 1]",)
    prepared = prepare(Request("quick", norms=("none", "batchnorm"), seeds="6", settings=settings, out=folder))
    cells = prepared.cells
    task = {"schema": SCHEMA, "device": "cpu", "task": cells[0].task, "task_version": cells[0].task_version}
    call = {"started": "2025-01-01", "command": [], "version": "1", "recipe": cells[0].recipe, "task_print": "t"}
    timings = [Timing(norm=cell.norm, label=cell.label, train=[0.1] * 9, evaluation=[0.1] * 9) for cell in cells]
    with Store(folder).writer() as writer:
        run, env = run_record(prepared), writer.environment({"processor": "p", "packages": {"torch": "2.6.0"}})
        writer.append(msgspec.structs.replace(run, suite={**run.suite, "gate": {"accuracy": "-5pt"}}))
        measure = Measure.of(prepared.registry.task(cells[0].task))
        for i, work in enumerate(prepared.work):
            given = {"score": 0.9 - i / 100, "validation": 0.9, "series": {"loss": [0.1], "validation": [0.9]}}
            outcome = Outcome(trial=work.trial, outcome="trained", steps=8, epoch_steps=8, **given)
            writer.append(_trial_record(outcome, work.cell, run, env, measure, []))
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
    nest = b"[" * DEEP + b"]" * DEEP
    line = path.read_bytes().splitlines()[0]
    fields = msgspec.json.decode(line, type=dict[str, msgspec.Raw])
    deep = [msgspec.json.encode({**fields, name: msgspec.Raw(nest)}) for name in (*fields, "unknown")]
    with path.open("ab") as file:
        file.write(b"\n".join([nest, b'{"schema":1,"x":' * DEEP, *deep]) + b"\n")


def _wrong_type(path):
    """Put lines in its place of which each has one field of a wrong type, or lacks it, at the top or one below."""
    line = msgspec.json.decode(path.read_bytes().splitlines()[0])
    path.write_bytes(b"\n".join([b"7", b'"x"', b"null", b"[]", b"{}", *map(msgspec.json.encode, _wrong(line))]) + b"\n")


def _wrong(value):
    for name, inner in value.items():
        for other in (7, -1e300, "x", [7], {"x": 7}, None):
            yield {**value, name: other}
        yield {key: kept for key, kept in value.items() if key != name}
        if isinstance(inner, dict):
            yield from ({**value, name: wrong} for wrong in _wrong(inner))
        elif isinstance(inner, list) and inner and isinstance(inner[0], dict):
            yield from ({**value, name: [wrong, *inner[1:]]} for wrong in _wrong(inner[0]))


DAMAGES = {
    "is a folder": _a_folder,
    "is nested 5,000 deep": _nested,
    "has wrong types": _wrong_type,
    "is empty": lambda path: path.write_bytes(b""),
    "is another's text": lambda path: path.write_text("<<<<<<< HEAD\nb,c\n\ufeff\n", encoding="utf-8"),
    "is binary": lambda path: path.write_bytes(bytes(range(256)) * 40),
    "is deleted": Path.unlink,
}


def _commands(folder, whole, key):
    """Return every command that reads a folder."""
    return [
        ("leaderboard", folder),
        ("compare", folder, whole),
        ("compare", whole, folder, "--format", "junit"),
        ("plot", folder, "-o", "plot.svg"),
        ("export", folder, "-o", "export.json"),
        ("merge", folder, whole, "-o", "merged"),
        ("show", key, "--in", folder),
        ("plan", *PLAN, "--out", folder),
        ("calibrate", folder, "--repetitions", "100"),
        ("throughput", folder, "--device", "cpu"),
    ]


@pytest.fixture
def answered(normbench, monkeypatch, whole):
    """Return a function that has every command read a folder, and holds each answer to what docs/cli.md says."""
    monkeypatch.setattr(throughput, "measure_all", lambda *args, **options: iter(()))
    key = next(Store(whole).results()).key

    def read(folder):
        for command in _commands(folder, whole, key):
            shutil.rmtree("merged", ignore_errors=True)
            ran = normbench(*command)
            last = ran.err.splitlines()[-1:]
            assert ran.status in (0, 1, 2, 3, 4), command
            assert ran.status != 2 or last[0].startswith("normbench: "), (command, ran.err)
            assert "Traceback" not in ran.err
        results = library.Results(folder)
        for ask in (results.boards, results.trials, lambda: str(results)):
            with suppress(UsageError):
                ask()

    return read


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("name", KINDS)
def test_a_damaged_folder_is_answered_by_every_command(whole, answered, tmp_path, name, damage):
    """No trace, whatever a file of the folder has become."""
    folder = Path(shutil.copytree(whole, tmp_path / "folder"))
    damage(folder / name)

    answered(folder)

"""A report that another process writes while trials run."""

import subprocess
from pathlib import Path

import pytest

from normbench.cli import reporting
from normbench.cli.reporting import Reporting


@pytest.fixture
def writing(monkeypatch):
    """Return a function that makes reports by a shell's command instead, and gives those that were begun."""

    def by(command: str) -> list[subprocess.Popen[bytes]]:
        begun: list[subprocess.Popen[bytes]] = []

        def begin(self: Reporting, stderr: int) -> subprocess.Popen[bytes]:
            begun.append(subprocess.Popen(["sh", "-c", command], stderr=stderr))
            return begun[-1]

        monkeypatch.setattr(Reporting, "_writing", begin)
        return begun

    return by


@pytest.fixture
def run(monkeypatch):
    """Return a report of results/quick, due after each trial, and what a run calls: after one, and in a session."""
    monkeypatch.setattr(reporting, "EVERY", 0.0)
    report = Reporting(Path("results/quick"))
    calls: list[str] = []
    hooks = report.along(lambda progress: calls.append("trial"), lambda session, done: calls.append("session"))
    yield report, *hooks, calls
    report.stop()


def test_one_report_at_a_time_is_written(writing, run):
    """It begins after a trial, as soon as the one before is done; what shows progress is called first."""
    _, progressed, _, calls = run
    begun = writing("sleep 60")

    progressed(None)
    progressed(None)
    first = len(begun)
    begun[0].kill()
    begun[0].wait()
    progressed(None)

    assert (1, 2, ["trial"] * 3) == (first, len(begun), calls)


def test_no_report_is_written_before_it_is_due(writing, run, monkeypatch):
    """Trials of a second each do not write one each."""
    monkeypatch.setattr(reporting, "EVERY", 60.0)
    begun = writing("true")
    progressed, _ = Reporting(Path("results/quick")).along(None, None)

    progressed(None)

    assert [] == begun


@pytest.mark.parametrize(
    "command", ["sleep 60", "trap '' TERM; while :; do sleep 0.1; done"], ids=["ends", "is killed"]
)
def test_nothing_is_written_while_throughput_is_measured(writing, run, monkeypatch, command):
    """A session has the machine to itself."""
    monkeypatch.setattr(reporting, "PATIENCE", 0.2)
    _, progressed, measured, calls = run
    begun = writing(command)
    progressed(None)

    measured(None, 0)

    assert begun[0].returncode is not None
    assert ["trial", "session"] == calls


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("true", "results/quick-report.html written"),
        (
            "echo 'warning: x'; echo 'normbench: no room' >&2; exit 2",
            "normbench: --report: results/quick-report.html can't be written: no room",
        ),
        ("kill -9 $$", "normbench: --report: results/quick-report.html can't be written: no reason given"),
    ],
    ids=["written", "refused", "killed"],
)
def test_the_end_says_what_became_of_it(writing, run, capsys, command, expected):
    """Where it can't be written the run says so in one line, and goes on."""
    writing(command)

    run[0].finish()

    assert f"{expected}\n" == capsys.readouterr().err

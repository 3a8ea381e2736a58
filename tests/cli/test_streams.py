"""Streams that nobody reads, that are full or closed: no command ends by them, and no status changes but for a result.

Each is a process of its own: what it has as stdout and stderr is what is tried.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

#: Results to report, without training any.
STORED = Path(__file__).resolve().parents[2] / "results" / "mnist-lr.json"
NORMBENCH = [sys.executable, "-m", "normbench.cli.main"]


@pytest.fixture
def shell():
    """Return a function that runs a command with redirections, as a shell does; and its status, stdout and stderr."""

    def run(*args: object, redirected: str = "", **environment: str) -> tuple[int, str, str]:
        ran = subprocess.run(
            ["bash", "-c", f'"$@" {redirected}', "bash", *NORMBENCH, *map(str, args)],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        return ran.returncode, ran.stdout, ran.stderr

    return run


@pytest.fixture
def gone():
    """Return a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


@pytest.mark.parametrize(
    ("args", "environment"),
    [
        (["--help"], {}),
        (["list", "norms"], {}),
        (["leaderboard", STORED], {}),
        (["leaderboard", STORED], {"FORCE_COLOR": "1"}),
        (["leaderboard", STORED, "--json"], {}),
    ],
    ids=["help", "list", "leaderboard", "colours", "json"],
)
def test_a_closed_pipe_ends_quietly(spawn, gone, args, environment):
    """Where nobody reads on, as before `| head -1`, a command ends with exit status 0 and without a trace."""
    process = spawn(*args, stdout=gone, env={**os.environ, **environment})

    _, err = process.communicate()

    assert (0, "") == (process.returncode, err)


def test_a_reader_that_wants_one_line_gets_it():
    """`normbench leaderboard | head -1` prints a line, and complains of nothing."""
    words = ["leaderboard", STORED, "--json"]
    shell = 'set -o pipefail; "$@" | head -1'

    ran = subprocess.run(["bash", "-c", shell, "bash", *NORMBENCH, *words], capture_output=True, text=True, check=False)

    assert (0, "{\n", "") == (ran.returncode, ran.stdout, ran.stderr)


@pytest.mark.parametrize("args", [("list", "suites"), ("--help",), ("--version",)], ids=lambda args: args[0])
@pytest.mark.parametrize(
    ("redirected", "why"),
    [(">&-", "Bad file descriptor"), (">/dev/full", "No space left on device")],
    ids=["closed", "full"],
)
def test_a_result_that_cannot_be_printed_is_status_4(shell, args, redirected, why):
    """Where stdout is closed or its disk full, a line says so."""
    ran = shell(*args, redirected=redirected)

    assert (4, "", f"normbench: the result can't be written to stdout ({why})\n") == ran


def test_a_comparison_of_nothing_that_cannot_be_printed_is_status_4(shell):
    """Of two statuses the one that counts is that of the result, which is lost."""
    status, _, err = shell("compare", STORED, STORED.with_name("fashion-mlp.json"), redirected=">/dev/full")

    assert (4, True) == (status, "nothing in common" in err)


@pytest.mark.parametrize("redirected", ["2>&-", "2>/dev/full"])
def test_messages_that_cannot_be_written_are_dropped(shell, redirected):
    """Without a stderr a mistake is still status 2, and its message does not land on stdout."""
    assert (2, "", "") == shell("plan", "qick", redirected=redirected)


def test_without_any_stream_the_status_is_the_same(shell):
    """A command whose every stream is closed writes nowhere, and no file gets their numbers."""
    assert (2, "", "") == shell("plan", "qick", redirected="<&- >&- 2>&-")


def test_a_regression_is_one_whoever_reads(spawn, gone):
    """`compare` ends with 1 for a regression where neither its table nor its annotations can be written."""
    export = json.loads(STORED.read_text(encoding="utf-8"))
    for trial in export["trials"]:
        trial["score"] -= 0.3 if trial["norm"] == "batchnorm" and "score" in trial else 0
    Path("worse.json").write_text(json.dumps(export), encoding="utf-8")
    told = {"stdout": gone, "stderr": gone, "env": {**os.environ, "GITHUB_ACTIONS": "true"}}

    process = spawn("compare", STORED, "worse.json", "--fail", "accuracy:-1pt", **told)

    assert 1 == process.wait()


def test_a_run_goes_on_without_a_reader(spawn, plugin, lines, gone):
    """All trials of a run are stored, and its status is that of a failed trial, where nobody reads what it says."""
    broken = plugin("broken", "return late(x, self.calls)")
    small = ("--device", "cpu", "--seeds", "1", "--set", "rates=[0.1, 1]", "--set", "epochs=1", "--no-throughput")
    norms = ("--plugin", broken, "--norm", "broken", "--norm", "none", "--executor", "serial")

    process = spawn("run", "quick", *small, *norms, stdout=gone, stderr=gone)

    assert 4 == process.wait()
    assert ["error", "error"] == [trial["outcome"] for trial in lines("results/quick") if trial["norm"] == "broken"]
    assert 5 == len(lines("results/quick"))

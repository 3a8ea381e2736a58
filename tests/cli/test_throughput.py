"""`normbench throughput`, and throughput at the end of `normbench run`: what they print, store and end with."""

import os
import re
import signal
import time
from pathlib import Path

import pytest
from rich.progress import Progress as Bar

from normbench.cli.progress import _Times
from normbench.store import Store
from normbench.throughput import session

HERE = ("--device", "cpu", "--executor", "serial")
ASKED = (*HERE, "--set", "epochs=1")
TWO = """
name = "two"
summary = "A suite of the tests"
tasks = ["digits-cnn"]
norms = ["none", "batchnorm"]
rates = [0.1]
seeds = 1

[fix]
epochs = 1

[vary]
batch_size = [32, 64]
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Make a session a matter of a tenth of a second: two rounds of the shortest blocks."""
    monkeypatch.setattr(session, "TRAINING", 1e-4)
    monkeypatch.setattr(session, "EVALUATION", 1e-4)
    monkeypatch.setattr(session, "LOOKS", (2,))


@pytest.fixture
def timed(small):
    """Return a function that runs `small` with throughput."""
    return lambda *args: small("--throughput", *args)


@pytest.fixture
def unlucky(plugin, monkeypatch):
    """Return a plugin's file whose norm trains, and raises once it is timed."""
    monkeypatch.setattr(session.Candidate, "train", _without_luck(session.Candidate.train))
    monkeypatch.setenv("LUCK", "1")
    return plugin("unlucky", 'return late(x, 9 * (os.environ["LUCK"] == "0"))')


def _without_luck(train):
    def wrapped(self, steps):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("LUCK", "0")
            return train(self, steps)

    return wrapped


def boards(ran):
    """Return of each board that was printed as JSON its name and its norms, in alphabetical order."""
    return [(board["board"], sorted(row["norm"] for row in board["rows"])) for board in ran.json["boards"]]


def test_a_run_ends_with_throughput(timed, lines):
    """After its trials a run measures the throughput of its norms, and prints that board last."""
    ran = timed("--norm", "none", "--norm", "batchnorm", "--json")

    both = ["batchnorm", "none"]
    assert 0 == ran.status
    assert [("accuracy", both), ("throughput", both)] == boards(ran)
    assert "throughput of digits-cnn: 2 norms, in rounds\n" in ran.err
    assert "2 trials run, 0 were stored before, 1 throughput session measured; all in results/quick\n" in ran.err
    assert [2] == [record["rounds"] for record in lines("results/quick", "sessions.jsonl")]


def test_running_again_measures_nothing(timed, lines):
    """What is measured is only shown again."""
    first = timed("--norm", "none")

    again = timed("--norm", "none")

    assert first.out == again.out
    assert "0 trials run, 1 were stored before; all in results/quick\n" == again.err
    assert 1 == len(lines("results/quick", "sessions.jsonl"))


def test_no_throughput_leaves_it_out(small, normbench):
    """--no-throughput trains alone; a plan says what is left, and the folder's board of throughput what is missing."""
    small("--norm", "none", "--no-throughput")

    planned = normbench("plan", "quick", "--no-time", *ASKED, "--norm", "none", "--seeds", 1, "--set", "rates=0.1")
    board = normbench("leaderboard", "results/quick", "--board", "throughput")

    assert not Path("results/quick/sessions.jsonl").exists()
    assert "to run: 1 throughput session" in planned.out
    assert (2, "normbench: results/quick: nothing is stored there for the board throughput\n") == (
        board.status,
        board.err,
    )


def test_each_condition_is_measured(normbench, lines):
    """A suite with two conditions has two sessions, and says so."""
    Path("two.toml").write_text(TWO)

    ran = normbench("run", "two.toml", *HERE, "--json")

    assert "2 throughput sessions measured" in ran.err
    assert [32, 64] == [record["recipe"]["batch_size"] for record in lines("results/two", "sessions.jsonl")]
    assert ["accuracy", "throughput"] * 2 == [board["board"] for board in ran.json["boards"]]


def test_a_norm_that_fails_is_exit_status_4(small, timed, unlucky):
    """A norm that raises only when it is timed is named with the reason; the others are measured, and shown."""
    asked = ("--plugin", unlucky, "--norm", "unlucky", "--norm", "none")
    small(*asked)

    ran = timed(*asked, "--json", "--quiet")

    assert 4 == ran.status
    assert (
        "normbench: throughput of 'unlucky' on digits-cnn: error: RuntimeError: no luck (unlucky_of_the_tests.py:11)\n"
        == ran.err
    )
    assert ("throughput", ["batchnorm", "none"]) == boards(ran)[-1]
    assert [{"norm": "unlucky", "why": "error: RuntimeError: no luck (unlucky_of_the_tests.py:11)"}] == ran.json[
        "boards"
    ][-1]["apart"]


def test_a_terminal_shows_the_rounds(timed, monkeypatch):
    """On a terminal a run says how far a session is; the board has the last trial before it begins."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("rich.console.Console.is_terminal", True)

    ran = timed("--norm", "none", "--norm", "batchnorm")

    assert 0 == ran.status
    assert "throughput of digits-cnn, 2 rounds; trials" in ran.err
    last_frame = ran.err.partition("0 rounds; trials")[0].rpartition("accuracy")[2]
    assert [True, True] == [len(re.findall(rf"\d +{norm} ", last_frame)) > 0 for norm in ("none", "batchnorm")]


def test_the_clock_goes_on_while_throughput_is_measured():
    """When all trials are done the time goes on, and what is left is that of the sessions."""
    now = [100.0]
    bar = Bar(_Times(lambda: 120.0 - now[0]), get_time=lambda: now[0])
    task = bar.add_task("trials", total=2, completed=2)
    now[0] = 115.0
    bar.update(task, completed=2)

    assert "0:00:15 left 0:00:05" == _Times(lambda: 120.0 - now[0]).render(bar.tasks[0]).plain


def test_the_norms_of_a_suite_are_measured_anew(normbench, lines):
    """`throughput SUITE` trains nothing, and measures each time it is called; stdout is the board."""
    first, second = (normbench("throughput", "quick", *ASKED, "--norm", "none") for _ in range(2))

    assert (0, 0) == (first.status, second.status)
    assert first.out.startswith("throughput · digits-cnn v1 · epochs=1\n")
    assert "throughput of digits-cnn: 2 norms, in rounds\n1 throughput session measured; all in results/quick\n" == (
        first.err
    )
    assert 2 == len(lines("results/quick", "sessions.jsonl"))
    assert {"environments.jsonl", "sessions.jsonl", ".lock"} == {path.name for path in Path("results/quick").iterdir()}


def test_json_is_alone_on_stdout(normbench):
    """--json prints the boards as JSON and nothing else."""
    ran = normbench("throughput", "quick", *ASKED, "--norm", "none", "--norm", "layer-norm", "--json")

    [board] = ran.json["boards"]
    assert "throughput" == board["board"]
    assert ["train_samples_per_s", "eval_samples_per_s", "ratio", "share"] == [c["name"] for c in board["columns"]]
    [row] = [row for row in board["rows"] if row["norm"] == "layer-norm"]
    assert all(row[name] > 0 for name in ("train_samples_per_s", "eval_samples_per_s", "ratio", "ratio_low"))


def test_quiet_says_nothing(normbench):
    """--quiet leaves the board."""
    ran = normbench("throughput", "quick", *ASKED, "--norm", "none", "--quiet", "--out", "elsewhere")

    assert (0, "") == (ran.status, ran.err)
    assert Store(Path("elsewhere")).sessions()


def test_a_folders_norms_are_measured_anew(normbench, results):
    """`throughput DIR` measures every norm of the folder's runs, as they ran, into that folder."""
    ran = normbench("throughput", results, *HERE, "--json")

    [stored] = Store(results).sessions()
    assert [("throughput", ["batchnorm", "none"])] == boards(ran)
    assert {"epochs": 1} == stored.condition
    assert "1 throughput session measured; all in results/quick\n" in ran.err


def test_a_folder_measured_so_is_done(normbench, results, lines):
    """What `throughput DIR` measured, a run does not measure again."""
    normbench("throughput", results, *HERE)

    words = ("--set", "rates=[0.1, 1]", "--seeds", "1", "--norm", "none", "--norm", "batchnorm", "--json")
    ran = normbench("run", "quick", *ASKED, *words)

    assert "0 trials run, 6 were stored before; all in results/quick\n" == ran.err
    assert ["stability", "accuracy", "throughput"] == [board["board"] for board in ran.json["boards"]]


@pytest.mark.skipif(os.name != "posix", reason="a terminal's Ctrl-C is for a whole process group")
def test_ctrl_c_ends_a_session_in_one_line(spawn):
    """Wherever its worker is, as yet being started or timing: exit status 130, and no trace of any process."""
    process = spawn("throughput", "quick", "--device", "cpu", "--norm", "none", start_new_session=True)
    process.stderr.readline()
    time.sleep(0.5)

    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)

    assert (130, 1) == (process.returncode, said.count("\n")), said


def test_a_failure_of_a_folders_norm_is_exit_status_4(normbench, small, unlucky):
    """A norm that can't be timed is named, and the rest is shown."""
    small("--plugin", unlucky, "--norm", "unlucky")

    ran = normbench("throughput", "results/quick", "--plugin", unlucky, *HERE, "--quiet")

    assert 4 == ran.status
    assert (
        "normbench: throughput of 'unlucky' on digits-cnn: error: RuntimeError: no luck (unlucky_of_the_tests.py:11)\n"
        == ran.err
    )
    assert "- not ranked: 'unlucky': error: RuntimeError: no luck" in ran.out


def test_a_baseline_that_fails_is_named(normbench, plugin):
    """Without its baseline a session has no figures: exit status 4, the reason once, and the norms beside it."""
    suite = TWO.replace("rates = [0.1]", 'rates = [0.1]\nbaseline = "bad"').replace("[32, 64]", "[64]")
    Path("two.toml").write_text(suite)

    ran = normbench("throughput", "two.toml", "--plugin", plugin("bad", "return x[:1] / 0"), *HERE, "--quiet")

    assert 4 == ran.status
    assert 1 == ran.err.count("\n")
    assert ran.err.startswith("normbench: throughput of 'bad' on digits-cnn: error: ")
    assert "- not ranked: 'none', 'batchnorm': the baseline 'bad' could not be measured" in ran.out


def test_a_plugin_that_failed_is_named(normbench, installed):
    """A plugin that could not be loaded is told of, and the rest is measured."""
    installed("a_bad_plugin", "raise RuntimeError('no luck')")

    ran = normbench("throughput", "quick", *ASKED, "--norm", "none", "--quiet")

    assert 0 == ran.status
    assert ran.err.startswith("normbench: plugin a_bad_plugin 1.0 failed: RuntimeError: no luck; ")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            ("--norm", "none"),
            "--norm: results/quick is a results folder, whose norms are measured as its runs had them",
        ),
        (("--set", "epochs=2"), "--set epochs: results/quick is a results folder"),
        (("--epochs", "2"), "--epochs: results/quick is a results folder"),
        (("--out", "elsewhere"), "--out: results/quick is a results folder"),
        (("--device", "cuda:99"), "device 'cuda:99'"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_what_a_folder_does_not_take_is_refused(normbench, results, options, says):
    """A folder is measured as its runs were; a mistake is one line, and nothing is measured."""
    ran = normbench("throughput", results, *options)

    assert (2, "", 1) == (ran.status, ran.out, ran.err.count("\n"))
    assert f"normbench: {says}" in ran.err
    assert not (results / "sessions.jsonl").exists()


def test_a_folder_without_runs_is_refused(normbench, results):
    """Where there are sessions and no run, nobody knows what to measure."""
    normbench("throughput", results, *HERE)
    (results / "runs.jsonl").unlink()

    ran = normbench("throughput", results)

    assert (2, "normbench: results/quick: no run of trials on one device is stored there; give a suite\n") == (
        ran.status,
        ran.err,
    )


def test_a_folder_of_a_norm_that_is_gone_is_refused(normbench, small, plugin, forget):
    """A norm of a plugin that is no longer there is named, with the folder."""
    small("--plugin", plugin("gone", "return x"), "--norm", "gone")
    forget()

    ran = normbench("throughput", "results/quick")

    assert (2, 1) == (ran.status, ran.err.count("\n"))
    assert ran.err.startswith("normbench: results/quick: no norm 'gone'")


def test_a_folder_that_another_run_holds_is_refused(normbench, results):
    """One command at a time writes into a folder."""
    with Store(results).writer():
        ran = normbench("throughput", results, *HERE)

    assert (2, "") == (ran.status, ran.out)
    assert "normbench: results/quick: another run holds this folder" in ran.err


def test_a_line_that_cannot_be_read_is_named(normbench, results):
    """A torn line is named once and costs nothing else."""
    normbench("throughput", results, *HERE)
    with (results / "sessions.jsonl").open("a") as file:
        file.write('{"schema": 1, "sess')

    first, second = (normbench("throughput", results, *HERE) for _ in range(2))

    assert "normbench: results/quick/sessions.jsonl line 2: its end is missing; left out\n" in first.err
    assert "line 2" not in second.err
    assert 3 == len(Store(results).sessions())


def test_what_a_session_ran_with_is_stored(normbench, lines):
    """A line of sessions.jsonl stands alone: norms, seconds of each round, block, recipe, device, environment."""
    normbench("throughput", "quick", *ASKED, "--norm", "layer-norm", "--seconds", "1")

    [record] = lines("results/quick", "sessions.jsonl")
    [environment] = lines("results/quick", "environments.jsonl")
    assert ("digits-cnn", 1, "cpu", environment["environment"]) == tuple(
        record[name] for name in ("task", "task_version", "device", "environment")
    )
    assert ["normbench", "throughput", "quick"] == record["command"][:3]
    assert ("batchnorm", "batchnorm", "none") == tuple(
        record[name]["norm"] for name in ("baseline", "again", "without")
    )
    assert ["layer-norm"] == [timing["norm"] for timing in record["norms"]]
    assert all(len(record["norms"][0][name]) == record["rounds"] == 2 for name in ("train", "evaluation"))

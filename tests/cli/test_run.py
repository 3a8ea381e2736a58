"""`normbench run`: it finishes the rest, stores as it goes, ends with the right status, and says what it did."""

import json
import os
import signal
import time
from pathlib import Path
from textwrap import dedent

import pytest

from normbench.store import Store

SUITE = """
name = "mine"
summary = "A suite of the tests"
tasks = ["digits-cnn"]
norms = ["none", { norm = "batchnorm", momentum = 0.5, label = "quicker" }]
baseline = "none"
rates = [0.1]
seeds = 1

[fix]
epochs = 1

[vary]
batch_size = [256, 512]
"""


def conditions(ran):
    """Return the conditions of the boards that a run printed as JSON, each once."""
    return [json.loads(text) for text in dict.fromkeys(json.dumps(board["condition"]) for board in ran.json["boards"])]


def accuracies(ran):
    """Return each norm's accuracy on the first board that a run printed as JSON."""
    return {row["norm"]: row["accuracy"] for row in ran.json["boards"][0]["rows"]}


def test_running_again_runs_nothing(small, lines):
    """The same command again prints the same table, trains nothing, and ends with exit status 0."""
    first = small("--norm", "none", "--norm", "batchnorm")

    again = small("--norm", "none", "--norm", "batchnorm")

    assert (0, 0) == (first.status, again.status)
    assert first.out == again.out
    assert "2 trials run, 0 were stored before; all in results/quick" in first.err
    assert "0 trials run, 2 were stored before; all in results/quick\n" == again.err
    assert 2 == len(lines("results/quick"))


@pytest.mark.slow
def test_a_run_writes_its_report(small):
    """--report writes a page beside the results, which the last lines then name."""
    ran = small("--norm", "none", "--report")

    assert 0 == ran.status
    assert "results/quick-report.html written" == ran.err.splitlines()[-1]
    assert "report   results/quick-report.html\n" in ran.out
    assert "digits-cnn" in Path("results/quick-report.html").read_text(encoding="utf-8")


def test_more_seeds_run_only_the_new_ones(small, lines):
    """--seeds 2 after --seeds 1 trains the second seed."""
    small("--norm", "none")

    more = small("--norm", "none", "--seeds", "2")

    assert "1 of 2 trials to run" in more.err
    assert [0, 1] == [record["seed"] for record in lines("results/quick")]


def test_other_epochs_make_a_second_table(normbench, small):
    """Runs with other recipe values in one folder give tables of their own, never a mixed one; a run prints its own."""
    small("--norm", "none")

    second = small("--norm", "none", "--set", "epochs=2", "--json")

    both = normbench("leaderboard", "results/quick", "--json")
    assert [{"epochs": 2}] == conditions(second)
    assert "results/quick holds other tasks or conditions too: normbench leaderboard results/quick\n" in second.err
    assert [{"epochs": 1}, {"epochs": 2}] == conditions(both)
    assert [["none"], ["none"]] == [[row["norm"] for row in board["rows"]] for board in both.json["boards"]]


def test_an_edited_layer_is_trained_again(small, plugin, forget, lines):
    """The board shows what the edited layer gives; what the old code gave stays in the log."""
    options = ("--norm", "edited", "--norm", "none", "--json")
    blind = small("--plugin", plugin("edited", "return 0 * x"), *options)
    forget()

    edited = small("--plugin", plugin("edited", "return (x - x.mean(0)) / (x.std(0) + 0.1)"), *options)

    assert "1 of 2 trials to run" in edited.err
    assert accuracies(blind)["edited"] < 30 < accuracies(edited)["edited"]
    assert accuracies(blind)["none"] == accuracies(edited)["none"]
    *first, last = [record["norm"] for record in lines("results/quick")]
    assert (["edited", "none"], "edited") == (sorted(first), last)


def test_a_trial_that_ends_in_error_is_exit_status_4(small, plugin, lines):
    """A layer that raises costs its own trials; the others are trained, stored and shown, and the reason is told."""
    broken = plugin("broken", "return late(x, self.calls)")

    ran = small("--plugin", broken, "--norm", "broken", "--norm", "none", "--json")

    assert 4 == ran.status
    assert ["none"] == list(accuracies(ran))
    assert [{"norm": "broken", "why": "1 ended in error"}] == ran.json["boards"][0]["apart"]
    stored = {record["norm"]: record for record in lines("results/quick")}
    assert "RuntimeError: no luck (broken_of_the_tests.py:11)" == stored["broken"]["reason"]
    last = ran.err.splitlines()[-1]
    assert (
        "1 of 2 trials have no result (1 error); the first, 'broken' at rate 0.1, seed 0: RuntimeError: no luck" in last
    )
    assert f"(normbench show {stored['broken']['key']} --in results/quick)" in last


def test_a_training_that_diverges_is_no_failure(small, lines):
    """A loss that becomes infinite is a result: it is stored, shown, and the run ends with exit status 0."""
    ran = small("--norm", "none", "--set", "rates=[1e30]")

    [record] = lines("results/quick")
    assert (0, "diverged") == (ran.status, record["outcome"])
    assert "1  none" in ran.out


def test_a_trial_that_ended_in_error_is_tried_again(small, plugin, monkeypatch):
    """An error may have passed: the next run trains that trial, and that one alone."""
    moody = plugin("moody", 'return late(x, 0 if os.environ["LUCK"] == "1" else self.calls)')
    options = ("--plugin", moody, "--norm", "moody", "--norm", "none")
    monkeypatch.setenv("LUCK", "0")
    failed = small(*options)
    monkeypatch.setenv("LUCK", "1")

    again = small(*options)

    assert (4, 0) == (failed.status, again.status)
    assert "1 trials run, 1 were stored before" in again.err


def test_a_layer_without_a_form_for_the_network_is_no_failure(small, plugin):
    """Where a norm can't stand, the run ends with exit status 0, and the board says why beside the table."""
    narrow = plugin("narrow", "return x", 'layouts={"NC"}')

    ran = small("--plugin", narrow, "--norm", "narrow", "--norm", "none")

    assert 0 == ran.status
    assert "- not ranked: 'narrow': unsupported: narrow has no form for layout NCHW; it has NC" in ran.out
    assert "1  none" in ran.out


def test_a_folder_that_another_run_holds_is_refused(small, lines):
    """Two runs into one folder: the second names the first, and touches nothing."""
    small("--norm", "none")
    before = lines("results/quick", "runs.jsonl")

    with Store(Path("results/quick")).writer():
        ran = small("--norm", "none", "--norm", "batchnorm")

    assert (2, "") == (ran.status, ran.out)
    assert f"normbench: results/quick: another run holds this folder (process {os.getpid()} on " in ran.err
    assert 1 == ran.err.count("\n")
    assert before == lines("results/quick", "runs.jsonl")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sent", "after", "status", "word"),
    [
        (signal.SIGINT, 7, 130, "interrupted"),
        (signal.SIGTERM, 1, 143, "terminated"),
        (signal.SIGKILL, 1, -9, None),
    ],
    ids=["Ctrl-C among fresh seeds", "SIGTERM", "kill -9"],
)
def test_a_run_that_is_stopped_is_finished_by_the_next(spawn, normbench, plugin, lines, sent, after, status, word):
    """Ctrl-C, SIGTERM and kill -9 cost the trial in flight; the same command runs the rest, and nothing twice."""
    slow = plugin("slow", 'time.sleep(float(os.environ.get("SLOWLY", 0))); return x')
    words = ("run", "quick", "--plugin", slow, "--norm", "slow", "--device", "cpu", "--set", "epochs=1")
    words += ("--set", "rates=[0.1, 1]", "--set", "batch_size=512", "--no-throughput")
    process = spawn(*words, env={**os.environ, "SLOWLY": "0.05"})
    _wait_for_lines(process, Path("results/quick/trials.jsonl"), after)

    process.send_signal(sent)
    out, err = process.communicate()
    stored = len(lines("results/quick"))
    again = normbench(*words, "--executor", "serial")

    assert (status, "") == (process.returncode, out)
    assert "Traceback" not in err
    if word is not None:
        assert f"normbench: {word}; what was finished is stored, and the same command goes on" == err.splitlines()[-1]
    assert after <= stored < 9
    assert 0 == again.status
    assert f"{9 - stored} trials run, {stored} were stored before" in again.err
    assert 9 == len({record["key"] for record in lines("results/quick")}) == len(lines("results/quick"))


def _wait_for_lines(process, file, count):
    deadline = time.monotonic() + 240
    while not (file.exists() and file.read_bytes().count(b"\n") >= count):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "too few trials were stored"
        time.sleep(0.02)


def test_progress_stands_on_stderr_and_the_result_on_stdout(small, lines):
    """Without a terminal each trial is a line on stderr with its key; stdout holds the tables alone."""
    ran = small("--norm", "none", "--seeds", "2")

    first, second = lines("results/quick")
    told = ran.err.splitlines()
    assert "2 of 2 trials to run; results go to results/quick" == told[0]
    assert told[1].startswith(f"[1/2] {first['key']} 'none' at rate 0.1, seed {first['seed']}: ")
    assert told[2].startswith(f"[2/2] {second['key']} 'none' at rate 0.1, seed {second['seed']}: ")
    assert "2 trials run, 0 were stored before; all in results/quick" == told[3]
    assert ran.out.startswith("accuracy · digits-cnn v1 · epochs=1\n")
    assert first["key"] not in ran.out


def test_a_terminal_shows_trials_and_the_board_so_far(small, monkeypatch):
    """On a terminal a run shows how many trials are done, the last results, and the leaderboard so far."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("LINES", "50")
    monkeypatch.setattr("rich.console.Console.is_terminal", True)

    ran = small("--norm", "none", "--norm", "batchnorm")

    assert 0 == ran.status
    assert "2/2" in ran.err
    assert "'batchnorm' at rate 0.1, seed 0: " in ran.err
    assert "accuracy · digits-cnn v1 · epochs=1" in ran.err


def test_quiet_shows_no_progress(small):
    """--quiet leaves the tables."""
    ran = small("--norm", "none", "--quiet")

    assert (0, "") == (ran.status, ran.err)
    assert "1  none" in ran.out


def test_quiet_hides_no_failure(small, plugin):
    """--quiet still tells of trials without a result, in one line."""
    ran = small("--plugin", plugin("broken", "return late(x, self.calls)"), "--norm", "broken", "--quiet")

    assert 4 == ran.status
    assert 1 == ran.err.count("\n")
    assert "1 of 1 trials have no result" in ran.err


def test_a_suite_of_ones_own(normbench, lines):
    """A file is a suite: its results go to results/NAME, a table for each condition, its labels in the tables."""
    Path("mine.toml").write_text(SUITE)

    ran = normbench("run", "mine.toml", "--device", "cpu", "--executor", "serial", "--no-throughput", "--json")

    assert 0 == ran.status
    assert [{"batch_size": 256, "epochs": 1}, {"batch_size": 512, "epochs": 1}] == conditions(ran)
    assert {"none", "quicker"} == set(accuracies(ran))
    assert "none" == ran.json["boards"][0]["baseline"]
    trained = {(record["norm"], record.get("params", {}).get("momentum")) for record in lines("results/mine")}
    assert {("none", None), ("batchnorm", 0.5)} == trained


def test_parameters_on_the_command_line(small, lines):
    """--norm 'name(param=value)' is trained with that value, and named so in the table."""
    ran = small("--norm", "batchnorm(momentum=0.5, eps=1)", "--norm", "batchnorm", "--json")

    assert {"batchnorm(eps=1.0, momentum=0.5)", "batchnorm"} == set(accuracies(ran))
    assert {"eps": 1.0, "momentum": 0.5} in [record.get("params") for record in lines("results/quick")]


def test_what_a_probe_saw_is_stored(small, lines):
    """--probe gradients stores what it gives by step, in a file of its own; what does not apply is said."""
    beta = "activation-beta(site=9)"
    ran = small("--norm", "none", "--probe", "gradients(every=5)", "--probe", beta, "--set", "epochs=2")

    [record] = lines("results/quick")
    [trace] = [one for one in lines("results/quick", "traces.jsonl") if one["probe"] == "gradients"]
    assert ["gradients(every=5)", beta] == record["probes"]
    assert f"probe {beta!r} does not apply to norm 'none': site is 9; the network has sites 0 to" in ran.err
    assert [0, 5, 10] == trace["series"]["all_weights"]["step"][:3]


def test_a_torn_line_is_named_once_and_costs_nothing_else(small, lines):
    """What can't be read is named by the run that meets it, set aside, and trained anew; later runs say nothing."""
    options = ("--norm", "none", "--norm", "batchnorm")
    small(*options)
    file = Path("results/quick/trials.jsonl")
    whole, torn = file.read_bytes().splitlines()
    file.write_bytes(whole + b"\n" + torn[:-40])

    first, second = small(*options), small(*options)

    assert "normbench: results/quick/trials.jsonl line 2: its end is missing; left out" in first.err
    assert "1 trials run, 1 were stored before" in first.err
    assert "0 trials run, 2 were stored before; all in results/quick\n" == second.err
    assert [torn[:-40].decode()] == [bad["text"] for bad in lines("results/quick", "quarantine.jsonl")]
    assert [whole, torn[:-40]] == file.read_bytes().splitlines()[:2]


def test_a_job_on_github_gets_its_summary(small, monkeypatch):
    """Under GITHUB_ACTIONS the tables go to the step's summary as Markdown as well."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "summary.md")
    Path("summary.md").write_text("before\n")

    ran = small("--norm", "none", "--json")

    summary = Path("summary.md").read_text()
    assert summary.startswith("before\n**accuracy · digits-cnn v1 · epochs=1**\n")
    assert "| # | norm " in summary
    assert ["accuracy"] == [board["board"] for board in ran.json["boards"]]


@pytest.mark.parametrize(
    ("options", "begins"),
    [
        (("--format", "csv"), "board,task,task_version,"),
        (("--format", "github"), "**accuracy · digits-cnn v1 · epochs=1**\n"),
        (("--format", "latex_booktabs"), "% accuracy · digits-cnn v1 · epochs=1\n\\begin{tabular}"),
        (("--format", "json"), '{\n  "schema": 1,'),
        (("--format", "csv", "--json"), '{\n  "schema": 1,'),
    ],
    ids=["csv", "github", "latex", "json", "json wins"],
)
def test_formats(small, options, begins):
    """--format and --json print the tables for other programs, and nothing else."""
    ran = small("--norm", "none", *options)

    assert ran.out.startswith(begins)


def test_a_layer_of_the_wrong_shape_is_found_before_any_training(small, plugin):
    """One line names the norm and its site, the exit status is 2, and nothing of it is trained."""
    wrong = plugin("wrong", "return x[:, :3]")

    ran = small("--plugin", wrong, "--norm", "none", "--norm", "wrong", "--quiet")

    assert 2 == ran.status
    assert (
        "normbench: norm wrong at site 0 of digits-cnn (16 channels, NCHW): the layer returned the shape "
        "(64, 3, 8, 8); here it is (64, 16, 8, 8)\n"
    ) in ran.err
    stored = Path("results/quick/trials.jsonl")
    assert not stored.exists() or '"norm":"wrong"' not in stored.read_text()


def test_a_layer_that_changes_what_all_share_and_prints(normbench, tmp_path):
    """It is named once, on stderr, where all that it prints goes; stdout is the result."""
    (tmp_path / "loud.py").write_text(
        dedent("""
        import normbench, torch
        from torch import nn

        class Loud(nn.Module):
            def forward(self, x):
                print("so loud")
                return x

            def on_step(self, step, steps):
                torch.set_default_dtype(torch.float64)

        @normbench.hookimpl
        def normbench_norms():
            print("loaded")
            yield normbench.Norm("loud", lambda site: Loud(), summary="S")
        """),
        encoding="utf-8",
    )

    small = ("--device", "cpu", "--seeds", "2", "--set", "rates=0.1", "--set", "epochs=1", "--no-throughput", "--json")
    ran = normbench("run", "quick", *small, "--executor", "serial", "--norm", "loud", "--plugin", "loud.py")

    assert 0 == ran.status
    assert ["accuracy"] == [board["board"] for board in ran.json["boards"]]
    assert {"loaded", "so loud"} <= set(ran.err.splitlines())
    said = [line for line in ran.err.splitlines() if "changed" in line]
    expected = "norm 'loud' on digits-cnn changed torch's default dtype, which was put back after each trial"
    assert [f"normbench: training {expected}"] == said

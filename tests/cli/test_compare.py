"""`normbench compare`: exit statuses, annotations and files."""

import errno
import json
import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest

from normbench.store import Store

WIDE = "accuracy:-60pt"


@pytest.fixture
def pair(results):
    """Return BASE and HEAD, copies of the same results of two norms at two rates, of one seed."""
    return results, shutil.copytree(results, "results/head")


@pytest.fixture
def edited(results, lines):
    """Return a function that copies results, the fields of each trial and run changed."""

    def copy(name, change, change_run=lambda run: run):
        folder = Path(shutil.copytree(results, f"results/{name}"))
        for file, edit in (("trials.jsonl", change), ("runs.jsonl", change_run)):
            text = "".join(json.dumps(edit(line)) + "\n" for line in lines(results, file))
            (folder / file).write_text(text, encoding="utf-8")
        return folder

    return copy


@pytest.fixture
def seeds(edited, lines, results):
    """Return a function that makes results of five seeds in which batchnorm lost so much, and a step more at each."""

    def make(name, loss, step=0.0001):
        folder = edited(name, lambda trial: trial)
        [run] = [json.loads(line) for line in (folder / "runs.jsonl").read_text(encoding="utf-8").splitlines()]
        for cell in run["cells"]:
            cell["seeds"] = [0, 1, 2, 3, 4]
        (folder / "runs.jsonl").write_text(json.dumps(run) + "\n", encoding="utf-8")
        rows = {cell.norm: cell for cell in Store(folder).runs()[-1].cells}
        text = ""
        for trial in lines(results):
            for seed in range(5):
                key = rows[trial["norm"]].trial(trial["recipe"]["rate"], {}, seed).key
                score = trial["score"] + 0.001 * seed - (loss + step * seed if trial["norm"] == "batchnorm" else 0)
                text += json.dumps({**trial, "seed": seed, "key": key, "score": score}) + "\n"
        (folder / "trials.jsonl").write_text(text, encoding="utf-8")
        return folder

    return make


def test_identical_results_end_with_0(normbench, pair):
    """The same results are identical, row by row."""
    ran = normbench("compare", *pair, "--fail", "accuracy:-0.5pt")

    assert 0 == ran.status
    assert "identical" in ran.out


def test_a_regression_ends_with_1(normbench, seeds):
    """A norm that lost more than its margin fails; the line says which, by how much, and what was allowed."""
    base, head = seeds("base", 0), seeds("lost", 0.1)

    ran = normbench("compare", base, head, "--fail", "accuracy:-1pt")

    assert 1 == ran.status
    assert "regressed: accuracy of 'batchnorm' on digits-cnn (epochs=1): -10.0" in ran.out
    assert "allowed -1pt" in " ".join(ran.out.split())


def test_a_loss_without_a_gate_ends_with_0(normbench, seeds):
    """Nothing fails that was not declared."""
    ran = normbench("compare", seeds("base", 0), seeds("lost", 0.1))

    assert 0 == ran.status
    assert "gates: none, so nothing can fail" in ran.out


def test_without_a_baseline_nothing_fails_unless_it_is_required(normbench, results):
    """The first time there is no BASE: the command that makes one is said, and works."""
    first, required = (normbench("compare", "base", results, *asked) for asked in ((), ("--require-baseline",)))

    assert (0, 3) == (first.status, required.status)
    assert f"there is no baseline base yet; cp -r {results} base makes HEAD the baseline" in first.err
    assert "" == first.out


def test_nothing_in_common_ends_with_3(normbench, results, edited):
    """Results of another version of the task have nothing in common; strictly, or under a gate, they vanished."""

    def newer(run):
        return {**run, "cells": [{**cell, "task_version": 2} for cell in run["cells"]]}

    folder = edited("newer", lambda trial: trial, newer)
    cells = {(cell.norm, cell.task_version): cell for cell in Store(folder).runs()[-1].cells}
    text = ""
    for line in (folder / "trials.jsonl").read_text(encoding="utf-8").splitlines():
        trial = json.loads(line)
        key = cells[trial["norm"], 2].trial(trial["recipe"]["rate"], {}, 0).key
        text += json.dumps({**trial, "task_version": 2, "key": key}) + "\n"
    (folder / "trials.jsonl").write_text(text, encoding="utf-8")

    plain, *failing = (normbench("compare", results, folder, *asked) for asked in ((), ("--strict",), ("--fail", WIDE)))

    assert (3, 1, 1) == (plain.status, *(one.status for one in failing))
    assert "nothing in common" in plain.err


def crash(trial):
    """Return a trial of batchnorm at rate 1 as one that crashed."""
    if (trial["norm"], trial["recipe"]["rate"]) != ("batchnorm", 1.0):
        return trial
    return {**trial, "outcome": "error", "score": None, "validation": None, "reason": "no luck"}


def test_crashed_trials_of_head_end_with_4(normbench, results, edited):
    """A trial that crashed is no verdict: the status says so, unless something regressed."""
    ran = normbench("compare", results, edited("crashed", crash))

    assert 4 == ran.status
    assert "1 trials of HEAD have no result" in ran.err


def test_a_row_that_vanished_in_a_crash_fails(normbench, results, edited):
    """Both 1 and 4 hold where every trial of a gated norm crashed, or --strict asks: 1 is said."""

    def all_of_it(trial):
        return crash({**trial, "recipe": {**trial["recipe"], "rate": 1.0}}) if trial["norm"] == "batchnorm" else trial

    folder = edited("crashed", all_of_it)

    plain, *failing = (normbench("compare", results, folder, *asked) for asked in ((), ("--strict",), ("--fail", WIDE)))

    assert (4, 1, 1) == (plain.status, *(one.status for one in failing))


@pytest.mark.parametrize(("margin", "expected"), [("0.43pt", [0, 1]), ("2pt", [0, 0])])
def test_unclear_rows_fail_strictly(normbench, seeds, margin, expected):
    """A row that is neither surely worse nor ok passes, but not with --strict."""
    # Losses of 0 to .8 points: a mean of .4 with an end at about .7, and the other above half the margin.
    base, head = seeds("base", 0), seeds("near", 0, step=0.002)

    ran = [normbench("compare", base, head, "--fail", f"accuracy:-{margin}", *asked) for asked in ((), ("--strict",))]

    assert expected == [one.status for one in ran]
    assert ("unclear" in ran[0].out.partition("gated rows")[0]) == (expected == [0, 1])


def test_a_gate_that_held_no_row_is_said_and_fails_strictly(normbench, seeds):
    """A gate on throughput without a session checks nothing: the table says so, and --strict ends with 3."""
    base, head = seeds("base", 0), seeds("other", 0)

    found, strict = (
        normbench("compare", base, head, "--fail", "throughput:-10%", *option) for option in ([], ["--strict"])
    )

    assert (0, 3) == (found.status, strict.status)
    assert "gate throughput:-10% checked nothing" in found.out


def test_the_junit_report_of_nothing_has_an_error(normbench, pair, edited, tmp_path):
    """Where nothing is in common, a report that a pipeline shows beside the red job is not green."""
    other = edited("other", lambda trial: trial, lambda run: {**run, "cells": []})

    found = normbench("compare", pair[0], other, "-o", tmp_path / "report.xml")

    root = ElementTree.parse(tmp_path / "report.xml").getroot()
    assert 3 == found.status
    assert ["nothing in common"] == [error.get("message") for error in root.iter("error")]


def test_github_gets_annotations_and_a_summary(normbench, seeds, tmp_path, monkeypatch):
    """In a GitHub job regressions are annotations, escaped as commands need, and the report is the step's summary."""
    base, head = seeds("base", 0), seeds("lost", 0.1)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))

    ran = normbench("compare", base, head, "--fail", "accuracy:-1pt")

    [line] = [line for line in ran.err.splitlines() if line.startswith("::error")]
    assert line.startswith("::error title=normbench regressed::accuracy of 'batchnorm' on digits-cnn (epochs=1): -10.0")
    assert (tmp_path / "summary.md").read_text(encoding="utf-8").startswith("### normbench compare: 1 regressed")


@pytest.mark.parametrize(
    "raised",
    [ZeroDivisionError("no such luck"), SystemExit(1), BrokenPipeError(errno.EPIPE, "Broken pipe")],
    ids=["error", "exit", "pipe"],
)
def test_a_bug_is_no_regression(normbench, pair, monkeypatch, raised):
    """Whatever goes wrong inside ends with 70, which no pipeline takes for a gate that is exceeded."""

    def fail(*args, **options):
        raise raised

    monkeypatch.setattr("normbench.compare.folders.compare", fail)

    ran = normbench("compare", *pair, "--fail", "accuracy:-1pt")

    assert (70, "") == (ran.status, ran.out)
    assert type(raised).__name__ in ran.err
    assert ran.err.endswith("this is a bug in normbench; please report it, with the command and the lines above\n")


def test_outside_of_github_there_are_no_annotations(normbench, seeds):
    """A person's terminal shows no commands to GitHub."""
    ran = normbench("compare", seeds("base", 0), seeds("lost", 0.1), "--fail", "accuracy:-1pt")

    assert "::" not in ran.err


def test_files_are_written_beside_the_output(normbench, pair, tmp_path):
    """-o takes its form from the ending, as often as it is given; --json is all of stdout."""
    files = [f"table{ending}" for ending in (".md", ".xml", ".json", ".csv", ".tex")]

    ran = normbench("compare", *pair, "--json", *(word for file in files for word in ("-o", file)))

    assert ran.json == json.loads((tmp_path / "table.json").read_text(encoding="utf-8"))
    rows = ran.json["compare"]["rows"]
    assert len(rows) == len((tmp_path / "table.csv").read_text(encoding="utf-8").splitlines()) - 1
    assert len(rows) == len(ElementTree.parse(tmp_path / "table.xml").findall(".//testcase"))
    assert "### normbench compare" in (tmp_path / "table.md").read_text(encoding="utf-8")
    assert r"\toprule" in (tmp_path / "table.tex").read_text(encoding="utf-8")


def test_an_export_is_read_like_its_folder(normbench, seeds):
    """BASE may be the one file that `normbench export` writes; the missing baseline's command makes it."""
    base, head = seeds("base", 0), seeds("lost", 0.1)
    assert 0 == normbench("export", base, "-o", "base.json").status

    ran = normbench("compare", "base.json", head, "--fail", "accuracy:-1pt", "--json")

    assert 1 == ran.status
    folders = normbench("compare", base, head, "--fail", "accuracy:-1pt", "--json")
    assert folders.json["compare"]["rows"] == ran.json["compare"]["rows"]


def test_the_gate_of_heads_suite_holds_and_a_changed_one_is_said(normbench, seeds):
    """[gate] as it was stored with HEAD is used; --fail replaces one margin."""
    base, head = seeds("base", 0), seeds("lost", 0.1)
    file = head / "runs.jsonl"
    run = json.loads(file.read_text(encoding="utf-8"))
    run["suite"]["gate"] = {"accuracy": "-1pt"}
    file.write_text(json.dumps(run) + "\n", encoding="utf-8")

    declared, wider = normbench("compare", base, head), normbench("compare", base, head, "--fail", WIDE)

    assert (1, 0) == (declared.status, wider.status)
    assert "[gate] of HEAD's suite is not BASE's: accuracy -1pt, not none" in declared.err


def test_a_folder_of_sessions_alone_has_no_seeds_to_buy(normbench, pair):
    """Where HEAD was timed but never run, all that is gated vanished, and --until decided says so."""
    folder = Path(pair[1])
    (folder / "runs.jsonl").rename(folder / "sessions.jsonl")

    ran = normbench("compare", *pair, "--until", "decided", "--max-seeds", "5", "--fail", "accuracy:-1pt")

    assert 1 == ran.status
    assert "Traceback" not in ran.err

"""`normbench compare`: exit statuses, annotations, files, and what is trained on the way to a verdict."""

import json
import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest

from normbench.store import Store

#: One rate, one epoch, on the CPU, in this process, no throughput; the seeds are each test's own.
TINY = ("--device", "cpu", "--executor", "serial", "--set", "rates=[0.1]", "--set", "epochs=1", "--no-throughput")
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


def benchmark_file(path, scale=1.0, **extra):
    """Write a file as pytest-benchmark does, of one benchmark of 20 rounds."""
    data = [scale * (1 + 0.001 * i) for i in range(20)]
    stats = dict.fromkeys(("min", "max", "mean", "median", "stddev", "iqr", "q1", "q3", "ops", "total"), 1.0)
    stats |= {"min": data[0], "max": data[-1], "median": scale * 1.0095, "mean": scale * 1.0095, "ops": 1 / scale}
    entry = {"fullname": "test_it", "stats": {**stats, "rounds": 20, "data": data}, "extra_info": extra}
    document = {"machine_info": {"machine": "x86_64"}, "benchmarks": [entry], "version": "5.0.0"}
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


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
    """Results of another version of the task have nothing in common; strictly they vanished, which is a failure."""

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

    plain, strict = normbench("compare", results, folder), normbench("compare", results, folder, "--strict")

    assert (3, 1) == (plain.status, strict.status)
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


def test_a_row_that_vanished_in_a_crash_fails_strictly(normbench, results, edited):
    """Both 1 and 4 hold where every trial of a norm crashed and --strict asks: 1 is said."""

    def all_of_it(trial):
        return crash({**trial, "recipe": {**trial["recipe"], "rate": 1.0}}) if trial["norm"] == "batchnorm" else trial

    folder = edited("crashed", all_of_it)

    plain, strict = (normbench("compare", results, folder, *asked) for asked in ((), ("--strict",)))

    assert (4, 1) == (plain.status, strict.status)


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


@pytest.mark.parametrize(
    ("fail", "scale", "extra", "status"),
    [
        ("median:+10%", 1.3, {}, 1),
        ("median:+10%", 1.02, {}, 0),
        ("median:+10%", 0.5, {}, 0),
        ("median:-20%", 0.5, {}, 1),
        ("breaks:+1%", 1.0, {"breaks": 7}, 1),
        ("breaks:-1%", 1.0, {"breaks": 7}, 0),
        ("saved_bytes:+1%", 1.0, {"saved_bytes": 120}, 1),
        ("saved_bytes:+30%", 1.0, {"saved_bytes": 120}, 0),
        ("saved_bytes:-10%", 1.0, {"saved_bytes": 80}, 1),
    ],
)
def test_files_of_benchmarks_are_held_to_a_threshold_in_a_direction(normbench, tmp_path, fail, scale, extra, status):
    """The sign of a threshold says which way is worse; beyond it the status is 1."""
    base = benchmark_file(tmp_path / "base.json", saved_bytes=100, breaks=0)
    head = benchmark_file(tmp_path / "head.json", scale, **{"saved_bytes": 100, "breaks": 0, **extra})

    ran = normbench("compare", base, head, "--fail", fail)

    assert status == ran.status, ran.out + ran.err


def test_benchmarks_without_a_threshold_only_say(normbench, tmp_path):
    """Without --fail the median's change is shown, and nothing fails."""
    base, head = benchmark_file(tmp_path / "base.json"), benchmark_file(tmp_path / "head.json", 2.0)

    ran = normbench("compare", base, head, "--json")

    [row] = ran.json["compare"]["rows"]
    assert (0, "worse", "median", "%") == (ran.status, row["verdict"], row["metric"], row["unit"])
    assert pytest.approx(100, abs=1) == row["difference"]


def test_a_number_that_head_lacks_has_vanished(normbench, tmp_path):
    """A number that is gone is not left out in silence: strictly it fails."""
    base = benchmark_file(tmp_path / "base.json", saved_bytes=100)
    head = benchmark_file(tmp_path / "head.json")

    ran = normbench("compare", base, head, "--fail", "saved_bytes:+10%", "--strict")

    assert 1 == ran.status
    assert "HEAD has no saved_bytes of it" in ran.out


@pytest.mark.parametrize("asked", [("--fingerprint",), ("--until", "decided", "--max-seeds", "5")])
def test_benchmarks_are_only_read(normbench, tmp_path, asked):
    """What trains in folders is refused beside files of benchmarks."""
    base = benchmark_file(tmp_path / "base.json")

    ran = normbench("compare", base, base, *asked)

    assert 2 == ran.status
    assert "files of benchmarks are only read" in ran.err


@pytest.mark.parametrize(
    ("fail", "message"),
    [
        ("median:+5%", "a threshold on them is 10% or more"),
        ("medain:+10%", "--fail: no statistic 'medain'; did you mean 'median'"),
        ("median:+1pt", "a threshold on timings is like +10%"),
        ("max:+10%", "no statistic 'max'; known: median"),
        ("median:-100%", "it can't fall by 100% or more"),
    ],
)
def test_what_is_no_threshold_is_refused(normbench, tmp_path, fail, message):
    """A threshold on timings is a per cent, 10 or more."""
    base = benchmark_file(tmp_path / "base.json")

    ran = normbench("compare", base, base, "--fail", fail)

    assert 2 == ran.status
    assert message in ran.err


def test_times_of_too_few_rounds_carry_no_gate(normbench, tmp_path):
    """Of two rounds a side no order is rare enough to fail: the line says how many rounds it takes."""
    files = [benchmark_file(tmp_path / f"{name}.json") for name in ("base", "head")]
    for file in files:
        document = json.loads(file.read_text(encoding="utf-8"))
        stats = document["benchmarks"][0]["stats"]
        stats |= {"data": stats["data"][:2], "rounds": 2}
        file.write_text(json.dumps(document), encoding="utf-8")

    ran = normbench("compare", *files, "--fail", "median:+10%")

    assert 2 == ran.status
    assert "has 2 and 2 rounds; with 1 gated row it needs 3 per side" in ran.err


def test_exact_numbers_are_held_between_unlike_machines(normbench, tmp_path):
    """Times of another processor are not compared; bytes are."""
    base = benchmark_file(tmp_path / "base.json", saved_bytes=100)
    head = benchmark_file(tmp_path / "head.json", saved_bytes=200)
    head.write_text(head.read_text(encoding="utf-8").replace("x86_64", "arm64"), encoding="utf-8")

    ran = normbench("compare", base, head, "--fail", "saved_bytes:+1%", "--fail", "median:+10%", "--json")

    assert 1 == ran.status
    assert [("saved_bytes", "regressed")] == [(row["metric"], row["verdict"]) for row in ran.json["compare"]["rows"]]


def test_a_folder_of_sessions_alone_has_no_seeds_to_buy(normbench, pair):
    """Where HEAD was timed but never run, --until decided is one line, not a trace."""
    folder = Path(pair[1])
    (folder / "runs.jsonl").rename(folder / "sessions.jsonl")

    ran = normbench("compare", *pair, "--until", "decided", "--max-seeds", "5", "--fail", "accuracy:-1pt")

    assert ran.status in (2, 3)
    assert "Traceback" not in ran.err


BOUGHT = ("--until", "decided", "--device", "cpu", "--quiet", "--fail", "accuracy:-0.5pt", "--max-seeds")


@pytest.fixture(scope="module")
def seeded(train):
    """Train two norms with three seeds, and with five, and return the folders."""
    return [(name, train("--seeds", seeds)) for name, seeds in (("head", "3"), ("base", "5"))]


@pytest.fixture
def disordered(seeded, lines):
    """Make base with five seeds of two norms, and head with three: those of batchnorm are of no fixed difference."""
    for name, folder in seeded:
        shutil.copytree(folder, name)
    change = {0: 0.1, 1: -0.1, 2: 0.05}
    trials = [
        {**trial, "score": trial["score"] + change[trial["seed"]] * (trial["norm"] == "batchnorm")}
        for trial in lines("head")
    ]
    Path("head/trials.jsonl").write_text("".join(json.dumps(trial) + "\n" for trial in trials), encoding="utf-8")


def seeds_of(trials, norm):
    """Return the seeds that are stored of a norm."""
    return sorted(trial["seed"] for trial in trials if trial["norm"] == norm)


def test_until_decided_buys_seeds_for_unclear_rows_alone(normbench, disordered, lines):
    """What three seeds decide gets no more; what they leave open is trained on the seeds that BASE has besides."""
    ran = normbench("compare", "base", "head", *BOUGHT, "5")

    trained = lines("head")
    assert 0 == ran.status, ran.err
    assert ([0, 1, 2], [0, 1, 2, 3, 4]) == (seeds_of(trained, "none"), seeds_of(trained, "batchnorm"))


def test_looks_are_stored_before_the_first_and_stay(normbench, disordered, lines):
    """Another --max-seeds would be another test: it is refused, and nothing more is trained."""
    normbench("compare", "base", "head", *BOUGHT, "5")
    before = lines("head")

    ran = normbench("compare", "base", "head", *BOUGHT, "8")

    assert 2 == ran.status
    assert "head: looks at 3, 5 seeds were fixed before the first; go on with --max-seeds 5" in ran.err
    assert before == lines("head")
    assert [3, 5] == next(run["looks"] for run in lines("head", "runs.jsonl") if run.get("looks"))


def test_seeds_that_base_lacks_can_not_be_bought(normbench, disordered, lines):
    """Where BASE has no more seeds a row stays unclear, and a note says why."""
    ran = normbench("compare", "base", "head", *BOUGHT, "8")

    assert [0, 1, 2, 3, 4] == seeds_of(lines("head"), "batchnorm")
    assert "BASE has 5 seeds; train more of them there" in " ".join(ran.out.split())


@pytest.mark.parametrize(("gate", "seeds"), [("accuracy:-99pt", 3), ("accuracy:-0.001pt", 4)])
def test_a_run_until_decided_stops_where_all_is(normbench, lines, gate, seeds):
    """Against the baseline: a wide gate is decided by three seeds; a narrow one takes all that are allowed."""
    asked = ("--norm", "batchnorm-after", "--norm", "batchnorm", "--out", "out", "--quiet", "--fail", gate)

    ran = normbench("run", "quick", *TINY, *asked, "--until", "decided", "--max-seeds", "4")

    assert 0 == ran.status, ran.err
    assert [list(range(seeds))] * 2 == [seeds_of(lines("out"), norm) for norm in ("batchnorm-after", "batchnorm")]
    assert "BASE the baseline, HEAD each norm in out" in ran.out
    other = normbench("run", "quick", *TINY, *asked, "--until", "decided", "--max-seeds", "5")
    assert 2 == other.status
    assert "were fixed before the first" in other.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "--until decided needs a gate"),
        (["--fail", WIDE, "--seeds", "3"], "--seeds 3: with --until decided, --max-seeds says how many"),
    ],
)
def test_a_run_until_decided_is_refused(normbench, options, message):
    """It needs a gate, and its own number of seeds; nothing is trained."""
    ran = normbench("run", "quick", *TINY, "--until", "decided", "--max-seeds", "4", "--out", "out", *options)

    assert 2 == ran.status
    assert message in ran.err
    assert not Path("out").exists()


def test_with_fingerprints_nothing_is_trained_where_nothing_changed(normbench, results, lines):
    """BASE's fingerprints are taken again: equal ones need no training, and the rows are unchanged."""
    options = ("--device", "cpu", "--quiet")
    ran_before = normbench("compare", results, "head", "--fingerprint", *options)
    assert 2 == ran_before.status
    assert (
        "no fingerprints there; in BASE's checkout, normbench fingerprint quick --out results/quick" in ran_before.err
    )
    asked = ("--norm", "none", "--norm", "batchnorm", "--set", "rates=[0.1, 1]", "--set", "epochs=1")
    taken = normbench("fingerprint", "quick", *asked, "--device", "cpu", "--executor", "serial", "--out", results)
    assert 0 == taken.status, taken.err

    ran = normbench("compare", results, "head", "--fingerprint", "--json", *options)

    assert 0 == ran.status, ran.err
    assert {"unchanged"} == {row["verdict"] for row in ran.json["compare"]["rows"]}
    assert not Path("head/trials.jsonl").exists()

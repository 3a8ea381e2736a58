"""`normbench show`: all that is stored of one trial, and the command that runs it."""

import json
import shlex
from pathlib import Path

import pytest

from normbench.cli import output

SUITE = """
name = "mine"
summary = "A suite of the tests"
tasks = ["digits-cnn"]
norms = ["mine"]
baseline = "none"
rates = [0.1, 1]
seeds = 2
probes.gradients.every = 5

[fix]
epochs = 1

[vary]
batch_size = [64, 512]
"""


@pytest.fixture
def record(results, lines):
    """Return the record of batch norm at rate 1, in results/quick."""
    return next(found for found in lines(results) if (found["norm"], found["recipe"]["rate"]) == ("batchnorm", 1.0))


def again(ran):
    """Return the arguments of the command that `show` says runs the trial."""
    [line] = [line for line in ran.out.splitlines() if line.startswith("run it with ")]
    words = shlex.split(line.removeprefix("run it with "))
    assert "normbench" == words[0]
    return words[1:]


@pytest.mark.parametrize("length", [16, 8])
def test_a_trial_by_its_key_or_the_beginning_of_it(normbench, record, length):
    """A key, whole or cut, finds the trial in the results below the current folder."""
    ran = normbench("show", record["key"][:length])

    assert (0, "") == (ran.status, ran.err)
    assert ran.out.startswith(f"trial        {record['key']} in results/quick\n")
    told = dict(line.split(maxsplit=1) for line in ran.out.splitlines())
    assert ("batchnorm", "0", record["outcome"]) == (told["norm"], told["seed"], told["outcome"])
    assert "rate=1.0, batch_size=64, epochs=1, momentum=0.9" == told["recipe"]
    assert told["accuracy"].startswith(f"{100 * record['score']:.2f}% on test, ")
    assert f"\nloss         {record['series']['loss'][0]:.4f}  (one per epoch)\n" in ran.out


def test_a_beginning_that_several_keys_share_is_refused(normbench, results, record):
    """Too short a beginning names some of the keys it could mean."""
    twin = record["key"][:2] + "0" * 14
    with (results / "trials.jsonl").open("a") as file:
        file.write(json.dumps({**record, "key": twin}) + "\n")

    ran = normbench("show", record["key"][:2])

    assert (2, "") == (ran.status, ran.out)
    assert f"'{record['key'][:2]}' begins the keys of 2 trials ({twin}, {record['key']}" in ran.err


def test_json_is_the_whole_record(normbench, record, lines, results):
    """--json has every field as it is stored, the environment that the trial ran in, and its traces."""
    [environment] = lines(results, "environments.jsonl")
    [trace] = [trace for trace in lines(results, "traces.jsonl") if trace["key"] == record["key"]]

    ran = normbench("show", record["key"], "--json")

    assert {**record, "environment": environment, "traces": [trace]} == ran.json


def drawn(ran):
    """Return the blocks of the loss by step, and what is said of them."""
    told = ran.out.splitlines()
    at = next(i for i, line in enumerate(told) if line.startswith("loss by step "))
    assert max(map(len, told[at : at + 2])) <= 80
    return told[at].removeprefix("loss by step "), told[at + 1].strip()


@pytest.fixture
def by_step(normbench, results, record, lines):
    """Return a function that stores another loss by step for the record, and shows it."""
    [trace] = [trace for trace in lines(results, "traces.jsonl") if trace["key"] == record["key"]]

    def show(step, value):
        changed = {**trace, "series": {"loss": {"step": step, "value": value}}}
        (results / "traces.jsonl").write_text(json.dumps(changed) + "\n")
        return normbench("show", record["key"])

    return show


@pytest.mark.parametrize(
    ("step", "value", "blocks", "said"),
    [
        ([0, 1, 2], [8.0, 1.0, 4.5], "█▁▅", "from 8 to 4.5 in 3 steps; ▁ is 1, █ is 8"),
        ([0], [2.5], "▁", "from 2.5 to 2.5 in 1 step; ▁ is 2.5, █ is 2.5"),
        ([0], ["nan"], "×", "from nan to nan at step 1; × is not finite"),
        ([0, 1, 2], [0.0, 7e9, "inf"], "▁█×", "from 0 to inf at step 3; ▁ is 0, █ is 7e+09, × is not finite"),
        (range(120), [0, 2, 1, 1] * 30, "▁" * 60, "from 0 to 1 in 120 steps; ▁ is 1, █ is 1"),
        # A window of thirty steps counts as much as thirty, and stands in each stretch that it covers.
        ([*range(59), 89, 119], [0] * 59 + [31, 30], "▁" * 29 + "█" * 31, "from 0 to 30 in 120 steps"),
    ],
    ids=["three", "one", "lost", "diverged", "means", "windows"],
)
def test_the_loss_by_step_is_a_line_of_blocks(by_step, step, value, blocks, said):
    """Each block is the mean over equally many steps, on a linear scale; ends and scale stand below."""
    found, ends = drawn(by_step(list(step), value))

    assert blocks == found
    assert said in ends


def test_blocks_where_the_terminal_has_ascii_alone(by_step, monkeypatch):
    """They are characters that grow darker."""
    monkeypatch.setattr(output, "speaks_unicode", lambda *stream: False)

    assert "@.x" == drawn(by_step([0, 1, 2], [8.0, 1.0, "nan"]))[0]


def test_a_trial_without_a_curve_is_shown(normbench, results, record):
    """As those are that were stored before there were curves."""
    (results / "traces.jsonl").unlink()

    ran = normbench("show", record["key"])

    assert 0 == ran.status
    assert "loss by step" not in ran.out
    assert [] == normbench("show", record["key"], "--json").json["traces"]


def test_validation_within_epochs_is_shown_with_its_steps(normbench, results, record):
    """In place of one per epoch."""
    within = {"series": {"loss": [1.0], "validation": [0.5, None]}, "validated": [5, 8]}
    with (results / "trials.jsonl").open("a") as file:
        file.write(json.dumps({**record, **within}) + "\n")

    ran = normbench("show", record["key"])

    assert "loss         1.0000  (one per epoch)\n" in ran.out
    assert "validation   50.00% –  (after 5, 8 steps)\n" in ran.out


@pytest.fixture
def shown(normbench, results, record):
    """Return a function that stores the record anew with these values, and shows it."""

    def show(**values):
        with (results / "trials.jsonl").open("a") as file:
            file.write(json.dumps({**record, **values}) + "\n")
        return normbench("show", record["key"])

    return show


def test_a_diverged_trial_says_why_it_has_more_steps(shown):
    """It trains to the end of the epoch in which a loss is not finite."""
    ran = shown(outcome="diverged", diverged_at=5, reason="a loss is not finite")

    assert "outcome      diverged at step 5: a loss is not finite\n" in ran.out
    assert "trained      16 steps (to the end of the epoch in which it diverged) in " in ran.out


def test_what_probes_saw_is_shown(shown, record, results):
    """What each gave at how many steps, or why it does not apply; the command asks for them again."""
    numbers, vectors = {"step": [0, 5], "value": [1.0, 2.0]}, {"step": [5], "value": [[1.0, 2.0]]}
    own = {"key": record["key"], "run": record["run"]}
    [line] = [one for one in map(json.loads, (results / "traces.jsonl").open()) if own.items() <= one.items()]
    loss = {**line, "series": {"loss": line["series"]["loss"], "test": {"step": [0], "value": [0.5]}}}
    traces = [
        {**line, "probe": "moments", "probe_params": {"every": 5}, "series": {"mean": numbers, "change": vectors}},
        {**line, "probe": "sharpness", "series": {}, "reason": "no second derivative"},
        loss,
    ]
    (results / "traces.jsonl").write_text("".join(json.dumps(trace) + "\n" for trace in traces))

    ran = shown(probes=["moments(every=5)", "sharpness", "curve"])

    assert (
        "probes       moments(every=5): mean, change; 2 looks\n"
        "             sharpness: does not apply: no second derivative\n"
        "             curve: test; 1 look\n"
    ) in ran.out
    asked = ["--probe", "moments(every=5)", "--probe", "sharpness", "--probe", "curve"]
    assert asked == [word for word in again(ran) if word == "--probe" or word in asked]


def test_fresh_trial(normbench, results, lines):
    """Its rate follows from the grid: the command that trains it is that of the whole run."""
    fresh = next(one for one in lines(results) if one["seed"] == 1_000_000)

    ran = normbench("show", fresh["key"])

    told = dict(line.split(maxsplit=1) for line in ran.out.splitlines())
    assert (0, "1000000") == (ran.status, told["seed"])
    assert ran.out.rstrip().endswith("# a fresh seed: it follows the grid, at the rate that this chooses")


def test_in_names_the_folder(normbench, record, results):
    """--in looks into that folder alone."""
    results.rename("elsewhere")

    assert 2 == normbench("show", record["key"]).status
    assert f"{record['key']} in elsewhere" in normbench("show", record["key"], "--in", "elsewhere").out


def test_the_latest_of_a_trial_is_shown(normbench, results, record):
    """Where a trial was run again, its last result is shown."""
    with (results / "trials.jsonl").open("a") as file:
        file.write(json.dumps({**record, "seconds": 77.5}) + "\n")

    assert " in 77.50 s" in normbench("show", record["key"]).out


def test_what_weight_decay_spares_is_shown(normbench, results, record):
    """How many parameters of each name, of norms and elsewhere; nothing where it spares none, or does not act."""
    spared = {"norms": {"weight": 4, "bias": 4}, "elsewhere": {"bias": 1}}

    without = normbench("show", record["key"]).out
    with (results / "trials.jsonl").open("a") as file:
        file.write(json.dumps({**record, "spared": spared}) + "\n")

    assert "not decayed" not in without
    told = "not decayed  norms: weight (4), bias (4); elsewhere: bias (1)\n"
    assert told in normbench("show", record["key"]).out


def test_an_error_shows_its_reason(normbench, small, plugin, lines):
    """A trial that failed says what was raised, and has no score."""
    small("--plugin", plugin("broken", "return late(x, self.calls)"), "--norm", "broken")
    [failed] = lines("results/quick")

    ran = normbench("show", failed["key"])

    assert "outcome      error: RuntimeError: no luck (broken_of_the_tests.py:11)\n" in ran.out
    assert "accuracy     none on test, none on validation (chance 10.00%)\n" in ran.out


def test_the_command_it_prints_runs_that_trial(normbench, record):
    """The command of a stored trial, executed, finds one trial, which is stored."""
    ran = normbench(*again(normbench("show", record["key"])), "--device", "cpu")

    assert 0 == ran.status
    assert "0 trials run, 1 were stored before; all in results/quick\n" == ran.err


@pytest.mark.parametrize(
    "options",
    [
        ("--norm", "batchnorm(momentum=0.5)", "--set", "momentum=0"),
        ("--norm", "none", "--set", "rates=[0.1234567]", "--seeds", "7,", "--set", "batch_size=512"),
        ("--norm", "none", "--out", "a folder/results"),
    ],
    ids=["parameters and a default", "a long rate", "a folder"],
)
def test_the_command_repeats_what_was_asked(normbench, small, lines, options):
    """Parameters, recipe values at their defaults, rates of many digits and the folder are all in the command."""
    small(*options)
    folder = options[-1] if "--out" in options else "results/quick"
    [stored] = lines(folder)

    ran = normbench(*again(normbench("show", stored["key"], "--in", folder)), "--device", "cpu")

    assert f"0 trials run, 1 were stored before; all in {folder}\n" == ran.err


def test_the_command_of_a_suite_of_ones_own(normbench, plugin, lines):
    """A suite's file and a plugin's are in the command; what the suite varies is run for each of its values."""
    Path("mine.toml").write_text(SUITE)
    mine = plugin("mine", "return x")
    normbench(
        "run",
        "mine.toml",
        "--plugin",
        mine,
        "--device",
        "cpu",
        "--executor",
        "serial",
        "--seeds",
        "1",
        "--no-throughput",
    )
    stored = [found for found in lines("results/mine") if found["recipe"]["rate"] == 1.0]

    commands = [again(normbench("show", found["key"])) for found in stored]
    ran = normbench(*commands[0])

    assert {64, 512} == {found["recipe"]["batch_size"] for found in stored}
    assert commands[0] == commands[1]
    assert "--probe" not in commands[0]  # the suite has it
    assert "0 trials run, 2 were stored before; all in results/mine\n" == ran.err

"""`normbench plan`: what a run would do, before it does it."""

import re
from pathlib import Path

import pytest

from normbench.cli.commands import plan

TWO = """
name = "two"
summary = "A suite of the tests"
tasks = ["digits-cnn"]
norms = ["none", "batchnorm"]
rates = [0.1]

[vary]
batch_size = [32, 64]
"""
QUICKLY = ("--no-time", "--device", "cpu")
ASKED = ("quick", "--device", "cpu", "--norm", "none", "--set", "epochs=1", "--set", "rates=[0.1, 1]", "--seeds")


@pytest.fixture
def planned(normbench):
    """Return a function that plans the norm `none` at two rates for some seeds, and times nothing."""
    return lambda seeds, *args: normbench("plan", *ASKED, seeds, "--no-time", *args)


def test_a_plan_is_what_a_run_then_does(planned, normbench):
    """The trials that a plan counts are those that a run trains; afterwards nothing is left."""
    before = planned(2, "--json")
    ran = normbench("run", *ASKED, 2, "--executor", "serial", "--no-throughput")
    after = planned(2, "--json")

    assert (6, 6) == (before.json["trials"], before.json["to_run"])
    assert "6 trials run, 0 were stored before" in ran.err
    assert (6, 0) == (after.json["trials"], after.json["to_run"])
    assert "results/quick; to run: 1 throughput session, about 20 seconds\n" in planned(2).out


def test_a_plan_counts_the_sessions(normbench, planned):
    """A plan says of throughput how many sessions, one a task and condition, are still to measure."""
    Path("two.toml").write_text(TWO)

    first, two = planned(1), normbench("plan", "two.toml", *QUICKLY)

    assert first.out.endswith("; then 1 throughput session, about 20 seconds\n")
    assert two.out.endswith("; then 2 throughput sessions, about 40 seconds\n")
    assert (1, 2) == (
        planned(1, "--json").json["sessions"],
        normbench("plan", "two.toml", "--no-time", "--json").json["sessions"],
    )


def test_a_plan_makes_nothing(planned, tmp_path):
    """A plan leaves no trace in the folder."""
    planned(1)

    assert [] == list(tmp_path.iterdir())


def test_the_table_counts_by_norm(normbench, results):
    """Of each norm the plan says how many trials there are, are stored, and are to run."""
    ran = normbench("plan", "quick", *QUICKLY, "--norm", "none", "--norm", "layer-norm", "--set", "epochs=1")

    assert (0, "") == (ran.status, ran.err)
    rows = [line.split() for line in ran.out.splitlines()[2:4]]
    assert [["digits-cnn,", "epochs=1", "none", "24", "3", "21"], ["digits-cnn,", "epochs=1"]] == [rows[0], rows[1][:2]]
    assert ["layer-norm", "24", "0", "24"] == rows[1][2:]


def test_the_time_is_unknown_until_a_trial_is_stored(planned, results):
    """Where nothing is timed, the time is what stored trials of the same folder took; else it is not known."""
    fresh, fresh_json = planned(2, "--out", "fresh"), planned(2, "--out", "fresh", "--json")

    known, known_json = planned(2), planned(2, "--json")

    assert "6 of 6 trials to run, into fresh; time: unknown until one trial is stored" in fresh.out
    assert fresh_json.json["seconds"] is None
    assert "3 of 6 trials to run, into results/quick; time: about " in known.out
    assert known_json.json["seconds"] > 0


def test_the_time_before_the_first_trial_is_that_of_first_steps(normbench, plugin, tmp_path):
    """Where nothing is stored the first steps are timed; what can't be timed is named, and nothing is stored."""
    asked = ("plan", *ASKED, 1, "--executor", "serial", "--plugin", plugin("raises", "raise RuntimeError('no luck')"))

    text, json = normbench(*asked, "--norm", "raises"), normbench(*asked, "--norm", "raises", "--json")

    assert (0, 0) == (text.status, json.status)
    assert re.search(r"; time: about [\d.]+ to [\d.]+ seconds \(timed: the first steps of 1 of 2 rows\)", text.out)
    named = "normbench: not timed: 'raises' on digits-cnn, epochs=1: error: RuntimeError: no luck"
    assert text.err.startswith(named)
    [none, raises] = json.json["paces"]
    assert ("none", "timed", {"epochs": 1}) == (none["norm"], none["outcome"], none["condition"])
    assert ("raises", "error", None) == (raises["norm"], raises["outcome"], raises["seconds"])
    low, high = json.json["between"]
    assert 0 < low < json.json["seconds"] < high
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(7, 15.2, "7 to 15 seconds"), (125, 251, "2.1 to 4.2 minutes"), (7000, 14900, "120 to 250 minutes")],
)
def test_a_range_has_one_unit_and_two_digits(low, high, expected):
    """The unit is the largest of which there are two or more at the lower end."""
    assert expected == plan._range(low, high)


def test_stored_trials_count_before_first_steps(normbench, results):
    """Where similar trials are stored nothing is timed."""
    ran = normbench("plan", *ASKED, 2, "--executor", "serial", "--json")

    assert ([], None) == (ran.json["paces"], ran.json["between"])
    assert ran.json["seconds"] > 0


def test_trials_lists_each_with_its_key(planned, results, lines):
    """--trials names every trial, its key, and whether it is stored with which outcome."""
    stored = {record["seed"]: record for record in lines(results) if record["norm"] == "none"}

    ran = planned(2, "--trials")

    listed = [line for line in ran.out.splitlines() if " at rate " in line]
    assert f"{stored[0]['key']}  'none' at rate 1, seed 0: {stored[0]['outcome']}" == listed[1]
    assert [True, True, False, False, True] == ["to run" not in line for line in listed]
    coming = [line.strip() for line in ran.out.splitlines() if "chooses" in line]
    assert ["'none' at the rate that its grid chooses, seed 1000001: to run"] == coming


def test_json_has_every_trial(planned, results, lines):
    """--json has of each trial its key, norm, condition, rate, seed, what is stored and whether it is to run.

    Of a fresh seed that is not stored the rate, and so the key, is not known while its grid lacks trials.
    """
    stored = {record["key"]: record["outcome"] for record in lines(results)}

    ran = planned("0,3", "--json")

    assert ("quick", "results/quick") == (ran.json["suite"], ran.json["folder"])
    first, _, _, last, known, coming = ran.json["work"]
    expected = {
        "task": "digits-cnn",
        "norm": "none",
        "condition": {"epochs": 1},
        "rate": 0.1,
        "seed": 0,
        "stage": "grid",
    }
    assert {**expected, "key": first["key"], "stored": stored[first["key"]], "to_run": False} == first
    assert (1.0, 3, None, True) == (last["rate"], last["seed"], last["stored"], last["to_run"])
    assert ("fresh", 1_000_000, False) == (known["stage"], known["seed"], known["to_run"])
    assert {
        **expected,
        "key": None,
        "rate": None,
        "seed": 1_000_003,
        "stage": "fresh",
        "stored": None,
        "to_run": True,
    } == coming


def test_an_edited_layer_is_planned_anew(normbench, small, plugin, forget):
    """A plan sees an edit: trials of the old code are not counted as stored."""
    options = ("--norm", "edited", "--plugin", plugin("edited", "return x"))
    small(*options)
    forget()
    plugin("edited", "return x + 0.5")

    ran = normbench("plan", "quick", *QUICKLY, "--seeds", 1, "--set", "rates=0.1", "--set", "epochs=1", *options)

    assert "1 of 1 trials to run" in ran.out


def test_a_plugin_that_failed_is_named(normbench, installed):
    """A plan tells of an installed plugin that could not be loaded, and plans the rest."""
    installed("a_bad_plugin", "import nothing_of_this_name")

    ran = normbench("plan", "quick", "--no-time")

    assert 0 == ran.status
    assert "normbench: plugin a_bad_plugin 1.0 failed: ModuleNotFoundError" in ran.err
    assert "120 of 120 trials to run" in ran.out


def test_a_suite_of_an_installed_plugin_names_files_beside_it(normbench, installed, plugin, tmp_path):
    """What a suite needs comes with it, whoever brings the suite."""
    source = """
        from pathlib import Path
        import normbench

        @normbench.hookimpl
        def normbench_suites():
            yield normbench.SuiteFile(Path(__file__).parent / "mine.toml")
        """
    installed("a_good_plugin", source)
    plugin("beside", "return x").rename(tmp_path / "site" / "beside.py")
    (tmp_path / "site" / "mine.toml").write_text(
        'name = "mine"\nsummary = "M"\nplugins = ["beside.py"]\n'
        'tasks = ["digits-cnn"]\nnorms = ["beside"]\nrates = [0.1, 1]\nseeds = 1\n'
    )

    listed, planned = normbench("list", "suites", "mine"), normbench("plan", "mine", "--no-time")

    assert "  plugins  beside.py\n" in listed.out
    assert (0, "") == (planned.status, planned.err)
    assert "3 of 3 trials to run" in planned.out


def test_trials_are_named_by_all_in_which_they_differ(normbench):
    """A line has the task where there are several, and the values that vary or are tuned; not what all share."""
    Path("mine.toml").write_text(
        'name = "mine"\nsummary = "x"\ntasks = ["digits-cnn", "mnist-cnn"]\nnorms = ["none"]\n'
        "rates = [0.1]\nseeds = 1\n"
        "[fix]\nepochs = 2\n[vary]\nbatch_size = [8, 64]\n[tune]\nweight_decay = [0, 0.5]\n"
    )

    trials, one = (
        normbench("plan", "mine.toml", "--no-time", "--trials"),
        normbench("plan", "quick", "--no-time", "--trials"),
    )

    listed = [line.partition("  ")[2] for line in trials.out.splitlines() if " at rate " in line]
    assert "'none' on digits-cnn (batch_size=8, weight_decay=0.0) at rate 0.1, seed 0: to run" == listed[0]
    assert 8 == len(set(listed)) == len(listed)
    assert "  'none' at rate 0.1, seed 0: to run" in one.out


def test_a_file_whose_norms_nobody_named_is_told_of(normbench, plugin):
    """--plugin without --norm trains none of the file's norms, unless the suite has them: a line says how to."""
    file = plugin("mine", "return x")

    without, named = (
        normbench("plan", "quick", "--no-time", "--plugin", file),
        normbench("plan", "quick", "--no-time", "--plugin", file, "--norm", "mine"),
    )

    assert (0, 0, "") == (without.status, named.status, named.err)
    assert f"normbench: plugin {file}: no norm of it is in the suite's list; --norm +mine adds it\n" == without.err

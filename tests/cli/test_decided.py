"""`--until decided` and `--fingerprint`: what is trained on the way to a verdict."""

import json
import shutil
from pathlib import Path

import pytest

#: One rate, one epoch, on the CPU, in this process, no throughput; the seeds are each test's own.
TINY = ("--device", "cpu", "--executor", "serial", "--set", "rates=[0.1]", "--set", "epochs=1", "--no-throughput")


WIDE = "accuracy:-60pt"


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

"""`normbench fingerprint`: what it prints, stores and ends with."""

from pathlib import Path

import pytest

FIRST = ("fingerprint", "quick", "--device", "cpu", "--executor", "serial")


@pytest.fixture
def taken(normbench):
    """Return a function that takes fingerprints of norms of the suite `quick`, and what is asked."""
    return lambda *args: normbench(*FIRST, *args)


def rows(ran):
    """Return each row that was printed as JSON: the norm, and what is said of it."""
    [board] = ran.json["boards"]
    return [(row["norm"], row["verdict"], row["number"]) for row in board["rows"]]


def test_a_second_time_is_the_same(taken, lines):
    """The first fingerprints are new, the next are held against them; all are stored, and nothing is trained."""
    asked = ("--norm", "none", "--norm", "batchnorm")

    first, second = taken(*asked), taken(*asked)

    assert (0, 0) == (first.status, second.status)
    assert first.out.startswith("fingerprint · digits-cnn v1\n")
    assert "2 fingerprints: 2 new; all in results/quick\n" == first.err
    assert "2 fingerprints: 2 same; all in results/quick\n" == second.err
    digests = [record["digest"] for record in lines("results/quick", "fingerprints.jsonl")]
    assert digests[:2] == digests[2:]
    assert all(digest in second.out for digest in digests)
    assert {"environments.jsonl", "fingerprints.jsonl", ".lock"} == {
        path.name for path in Path("results/quick").iterdir()
    }


def test_an_edited_layer_has_changed(taken, plugin, forget):
    """The number that differs most is named, and that the norm's code is another; the exit status is 0 all the same."""
    asked = ("--norm", "mine", "--norm", "none", "--json", "--plugin")
    taken(*asked, plugin("mine", "return x"))
    forget()

    ran = taken(*asked, plugin("mine", "return 1.01 * x"))

    [mine, none] = rows(ran)
    [board] = ran.json["boards"]
    assert 0 == ran.status
    assert (("mine", "changed"), ("none", "same", "")) == (mine[:2], none)
    assert mine[2]
    assert board["rows"][0]["difference"] > 5e-5
    assert "; the norm's code changed, too" in board["notes"][0]
    assert "2 fingerprints: 1 changed, 1 same; all in results/quick\n" == ran.err


def test_a_norm_that_raises_is_exit_status_4(taken, plugin):
    """It is named with the reason, and the others are taken; --quiet leaves that."""
    file = plugin("unlucky", "return late(x, 9)")

    ran = taken("--plugin", file, "--norm", "unlucky", "--norm", "none", "--json", "--quiet")

    assert 4 == ran.status
    assert (
        "normbench: fingerprint of 'unlucky' on digits-cnn: RuntimeError: no luck (unlucky_of_the_tests.py:11)\n"
        == ran.err
    )
    assert [("unlucky", "error", ""), ("none", "new", "")] == rows(ran)


def test_an_unsupported_norm_is_no_failure(taken, plugin):
    """What can't stand in the task's network is said to be unsupported."""
    file = plugin("flat", "return x", 'layouts={"NC"}')

    ran = taken("--plugin", file, "--norm", "flat")

    assert 0 == ran.status
    assert "'flat': unsupported: flat has no form for layout NCHW" in ran.out
    assert "1 fingerprint: 1 unsupported; all in results/quick\n" == ran.err


def test_a_condition_has_a_table_of_its_own(taken):
    """Another recipe is not held against the first."""
    taken("--norm", "none")

    ran = taken("--norm", "none", "--set", "batch_size=32", "--format", "github")

    assert ran.out.startswith("**fingerprint · digits-cnn v1 · batch_size=32**\n")
    assert "1 fingerprint: 1 new; all in results/quick\n" == ran.err


def test_a_torn_line_is_named(taken):
    """What is left of a line that was cut is left out, and the next fingerprint is new."""
    taken("--norm", "none")
    path = Path("results/quick/fingerprints.jsonl")
    path.write_bytes(path.read_bytes()[:200])

    ran, again = taken("--norm", "none"), taken("--norm", "none")

    assert 0 == ran.status
    assert "normbench: results/quick/fingerprints.jsonl line 1: its end is missing; left out\n" in ran.err
    assert "1 fingerprint: 1 new; all" in ran.err
    assert "1 fingerprint: 1 same; all in results/quick\n" == again.err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--norm", "batchnrm"), "batchnorm"),
        (("--format", "html"), "--format"),
        (("--out", "suite.json"), "a file, which is not written to"),
    ],
)
def test_mistakes_are_one_line(taken, args, message):
    """An unknown norm or format, or a file in a folder's place, is exit status 2."""
    Path("suite.json").write_text("{}")

    ran = taken(*args)

    assert (2, "", 1) == (ran.status, ran.out, ran.err.count("\n"))
    assert message in ran.err

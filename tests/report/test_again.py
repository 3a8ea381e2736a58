"""The command that repeats all that is stored of a norm: with what changes its numbers, without what does not."""

import shlex

import msgspec
import pytest
from reported import SUITE

from normbench.report.again import UNKNOWN, of_norm


@pytest.fixture
def repeated(folder):
    """Return a function that stores a run by a command, and returns the words that repeat its first norm."""

    def words(*command, suite=SUITE, norm="batchnorm"):
        store = folder.add({norm: {0.1: [0.8, 0.8]}}, suite=suite, command=list(command))
        [run] = store.runs()[-1:]
        return shlex.split(of_norm(store, run, run.cells[0]))

    return words


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ([], []),
        (["--norm", "none", "--norm=batchnorm", "--jobs", "2", "--quiet", "--fail", "accuracy:-1pt"], []),
        (
            ["--seeds", "5", "--set", "epochs=3", "--set=rates=[1]"],
            ["--seeds", "5", "--set", "epochs=3", "--set", "rates=[1]"],
        ),
        (
            ["--plugin", "mine.py", "--device", "cpu", "--no-fresh"],
            ["--plugin", "mine.py", "--device", "cpu", "--no-fresh"],
        ),
        (["--until", "decided", "--max-seeds", "9"], ["--seeds", "2"]),
    ],
    ids=str,
)
def test_what_changes_numbers_is_kept(repeated, folder, given, kept):
    """Settings, seeds, plugins and the device are; how trials were run, and the other norms, are not."""
    words = repeated("normbench", "run", "mine", *given)

    assert ["normbench", "run", "mine", "--norm", "batchnorm", *kept, "--out", str(folder.store.folder)] == words


def test_a_file_stays_a_file(repeated):
    """A suite of the user's own is named by its path."""
    assert ["normbench", "run", "suites/mine.toml"] == repeated("normbench", "run", "suites/mine.toml")[:3]


def test_a_script_is_spelled_out(repeated):
    """Its command says nothing of settings, but the suite that was stored has them."""
    suite = {**SUITE, "fix": {"epochs": 2}}

    words = repeated("my_script.py", suite=suite)

    expected = ["--seeds", "3", "--set", "rates=[0.1, 0.3, 1.0]", "--set", "epochs=2"]
    assert ["normbench", "run", "mine", "--norm", "batchnorm", *expected] == words[:11]


def test_a_shell_reads_a_name_as_a_name(repeated):
    """Whatever a norm is called."""
    assert "no$(norm) 'x'" == repeated("normbench", "run", "mine", norm="no$(norm) 'x'")[4]


def test_a_suite_that_is_cut_repeats_nothing(folder):
    """It says so."""
    store = folder.add({"batchnorm": {0.1: [0.8]}}, suite={"name": "mine"})
    [run] = store.runs()

    assert UNKNOWN == of_norm(store, run, msgspec.structs.replace(run.cells[0]))

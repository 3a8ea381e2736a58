"""Where one results folder lies below `results`, no command needs its name."""

import os
from pathlib import Path

import pytest

from normbench.cli import folders
from normbench.errors import UsageError
from normbench.store import RESULTS


def lay(*names):
    """Lay out results folders, each written to later than those before."""
    for seconds, name in enumerate(names):
        file = RESULTS / name / "runs.jsonl"
        file.parent.mkdir(parents=True)
        file.touch()
        os.utime(file, (seconds, seconds))


def test_what_is_given_is_meant(capsys):
    """Nothing is looked for, and nothing said."""
    lay("mine")

    assert Path("other") == folders.chosen(Path("other"))
    assert ("", "") == capsys.readouterr()


def test_the_only_folder_is_meant(capsys):
    """A line on stderr says which it is; exports beside it don't count."""
    lay("mine")
    Path("results/zoo.json").touch()

    assert Path("results/mine") == folders.chosen(None)
    assert ("", "using results/mine, the only results folder below results\n") == capsys.readouterr()


def test_of_several_none_is_meant():
    """They are named, the one that was written to last first."""
    lay("old", "new")

    with pytest.raises(UsageError, match=r"below results lie, newest first: results/new, results/old$"):
        folders.chosen(None)


def test_without_any_the_message_says_how_to_make_one():
    """Also where there is no folder `results`."""
    with pytest.raises(UsageError, match="normbench run SUITE makes one"):
        folders.chosen(None)


@pytest.mark.parametrize(
    ("command", "status", "says"),
    [
        (["leaderboard", "--board", "accuracy"], 0, ""),
        (["plot"], 0, "results/quick-rates.png written"),
        (["export", "-o", "it.json"], 0, "it.json written"),
        (["report", "-o", "it.html"], 0, "it.html written"),
        (["calibrate", "--fail", "accuracy:-1pt"], 2, "results/quick: no gate has a norm there with 2 seeds or more"),
        (["throughput", "--norm", "none"], 2, "--norm: results/quick is a results folder"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_commands_that_need_no_folder(normbench, results, command, status, says):
    """Each takes the only folder, and says what it takes first."""
    ran = normbench(*command)

    first, _, rest = ran.err.partition("\n")
    assert (status, "using results/quick, the only results folder below results") == (ran.status, first)
    assert says in rest

"""`normbench merge`: parts of a run, trained apart, are the run."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def whole(train, tmp_path_factory):
    """Return a folder with three results: of seed 0 in one, of seed 1 in another, and of both in the third.

    Without fresh seeds: each half would choose their rate for itself.
    """
    folder = tmp_path_factory.mktemp("halves")
    for name, seeds in (("a", "0,"), ("b", "1,"), ("all", "0,1")):
        train("--set", "rates=[0.1, 1]", "--no-fresh", "--seeds", seeds, out=folder / name)
    return folder


@pytest.fixture
def halves(whole):
    """Lay out the results in the current folder, and return those of each seed."""
    shutil.copytree(whole, ".", dirs_exist_ok=True)
    return "a", "b"


def boards(normbench, folder):
    return normbench("leaderboard", folder, "--format", "json").out


def test_halves_merged_are_the_whole(normbench, halves):
    """Two folders with a seed each have, merged, the very boards of one run of both seeds."""
    ran = normbench("merge", *halves, "-o", "merged")

    assert (0, "") == (ran.status, ran.out)
    assert "merged written: 2 runs, 8 trials, 0 throughput sessions, of 2 sources\n" == ran.err
    assert boards(normbench, "all") == boards(normbench, "merged")
    assert boards(normbench, "all") != boards(normbench, "a")


def test_exports_are_merged(normbench, halves):
    """A file stands for its folder, whichever form it has."""
    pytest.importorskip("pyarrow")
    normbench("export", "a", "-o", "a.json")
    normbench("export", "b", "-o", "b.parquet")

    ran = normbench("merge", "a.json", "b.parquet", "--output", "merged")

    assert 0 == ran.status
    assert boards(normbench, "all") == boards(normbench, "merged")


def test_nothing_of_a_merged_folder_is_trained_again(small, normbench, halves):
    """A run of all seeds into it finds everything done."""
    normbench("merge", *halves, "-o", "merged")
    before = Path("merged/trials.jsonl").read_bytes()

    asked = ("--norm", "none", "--norm", "batchnorm", "--set", "rates=[0.1, 1]", "--seeds", "2", "--no-fresh")
    ran = small(*asked, "--out", "merged")

    assert 0 == ran.status
    assert before == Path("merged/trials.jsonl").read_bytes()


def test_a_contradiction_ends_with_status_2(normbench, results, lines):
    """It is one line on stderr, and nothing is written."""
    first = lines(results)[0]
    Path("b").mkdir()
    for path in results.iterdir():
        text = path.read_text(encoding="utf-8")
        Path("b", path.name).write_text(text.replace(f'"score":{first["score"]}', '"score":0.123'), encoding="utf-8")

    ran = normbench("merge", results, "b", "-o", "merged")

    assert (2, "", 1) == (ran.status, ran.out, ran.err.count("\n"))
    assert ran.err.startswith(f"normbench: {results} and b contradict: trial {first['key']} ({first['norm']}, rate ")
    assert not Path("merged").exists()


@pytest.mark.parametrize("command", [["merge", "a"], ["merge", "-o", "merged"]], ids=["no output", "no source"])
def test_what_is_missing_is_said(normbench, command):
    """Both what to merge and where it goes have to be named."""
    ran = normbench(*command)

    assert (2, "", 1) == (ran.status, ran.out, ran.err.count("\n"))
    assert "Missing" in ran.err

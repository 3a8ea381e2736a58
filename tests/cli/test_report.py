"""`normbench report`: where the page goes, and mistakes in one line."""

import shutil
from pathlib import Path

import pytest


def test_it_goes_beside_the_results(normbench, results):
    """Or where -o says; stdout stays empty."""
    ran = normbench("report", results)
    named = normbench("report", results, "-o", "mine.html")

    assert (0, "", "results/quick-report.html written\n") == (ran.status, ran.out, ran.err)
    assert "mine.html written\n" == named.err
    written = Path("mine.html").read_bytes()
    assert written.startswith(b"<!doctype html>")
    assert written == Path("results/quick-report.html").read_bytes()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["nowhere"], "nowhere: no results there"),
        (["begun"], "begun: no trial is stored there yet"),
        (["results/quick", "-o", "it.pdf"], "-o it.pdf: a report ends in .html or .htm"),
        (["results/quick", "-o", "no/it.html"], "-o no/it.html: there is no folder no"),
        (["results/quick", "./results/quick/"], "results/quick: given twice"),
    ],
    ids=str,
)
def test_a_mistake_is_one_line(normbench, results, args, words):
    """And nothing is written."""
    Path("begun").mkdir()
    shutil.copy(results / "runs.jsonl", "begun")
    before = sorted(Path().rglob("*"))

    ran = normbench("report", *args)

    assert (2, 1) == (ran.status, ran.err.count("\n"))
    assert words in ran.err
    assert before == sorted(Path().rglob("*"))

"""`normbench plot`: the picture it writes, and when there is nothing to draw."""

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize(("name", "magic"), [("plot.png", b"\x89PNG\r\n\x1a\n"), ("plot.svg", b"<?xml ")])
def test_the_suffix_says_which_kind(normbench, results, name, magic):
    """-o FILE.png writes a PNG, FILE.svg an SVG; stdout stays empty."""
    ran = normbench("plot", results, "-o", name)

    assert (0, "", f"{name} written\n") == (ran.status, ran.out, ran.err)
    assert Path(name).read_bytes().startswith(magic)


def test_a_line_for_each_norm(normbench, results):
    """The picture has a curve for each norm, in a colour of its own, and the norms' names."""
    normbench("plot", results, "-o", "plot.svg")

    text = Path("plot.svg").read_text(encoding="utf-8")
    curves = [
        path.get("style")
        for group in ET.fromstring(text).iter(f"{SVG}g")
        if (group.get("id") or "").startswith("line2d")
        for path in group.iterfind(f"{SVG}path[@clip-path]")
        if "stroke-width: 1.4" in path.get("style")
    ]
    assert 2 == len(curves) == len(set(curves))
    assert all(
        f"<!-- {words} -->" in text for words in ("none", "batchnorm", "learning rate", "validation accuracy, %")
    )


def test_the_same_results_give_the_same_picture(normbench, results):
    """An SVG that is drawn again can be compared, and committed without noise."""
    normbench("plot", results, "-o", "first.svg")
    normbench("plot", results, "-o", "second.svg")

    assert Path("first.svg").read_bytes() == Path("second.svg").read_bytes()


def test_one_rate_is_no_curve(normbench, small):
    """Results at one rate are refused in one line, and no file is made."""
    small("--norm", "none")

    ran = normbench("plot", "results/quick", "-o", "plot.png")

    assert (2, "") == (ran.status, ran.out)
    assert "results/quick: nothing to draw; a curve needs two rates" in ran.err
    assert not Path("plot.png").exists()


def test_a_picture_that_cannot_be_written_is_refused(normbench, results):
    """A target that is a folder is the user's mistake, not a trace."""
    Path("plot.png").mkdir()

    ran = normbench("plot", results, "-o", "plot.png")

    assert (2, "") == (ran.status, ran.out)
    assert "-o plot.png: can't be written" in ran.err
    assert 1 == ran.err.count("\n")

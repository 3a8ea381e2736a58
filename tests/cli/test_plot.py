"""`normbench plot`: the picture it writes, and when there is nothing to draw."""

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from normbench.store import Store
from normbench.store.records import Series, TraceRecord, TrialRecord

OF_TRIAL = set(TrialRecord.__struct_fields__) & set(TraceRecord.__struct_fields__) - {"series", "reason"}
SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize(
    ("name", "magic"), [("plot.PNG", b"\x89PNG\r\n\x1a\n"), ("plot.svg", b"<?xml "), ("plot.pdf", b"%PDF-")]
)
def test_the_suffix_says_which_form(normbench, results, name, magic):
    """-o FILE.png writes a PNG, FILE.svg an SVG, FILE.pdf a PDF; stdout stays empty."""
    ran = normbench("plot", results, "-o", name)

    assert (0, "", f"{name} written\n") == (ran.status, ran.out, ran.err)
    assert Path(name).read_bytes().startswith(magic)


def test_a_line_for_each_norm(normbench, results):
    """The picture has a curve for each norm, in a colour of its own, and the norms' names as text."""
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
    assert all(f">{words}</text>" in text for words in ("none", "batchnorm", "learning rate", "validation accuracy, %"))


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_the_same_results_give_the_same_picture(normbench, results, suffix):
    """One that is drawn again can be compared, and committed without noise."""
    normbench("plot", results, "-o", f"first.{suffix}")
    normbench("plot", results, "-o", f"second.{suffix}")

    assert Path(f"first.{suffix}").read_bytes() == Path(f"second.{suffix}").read_bytes()


def test_without_a_name_it_goes_beside_the_results(normbench, results):
    """And replaces the one that was drawn before."""
    Path("results/quick-rates.png").write_text("old")

    ran = normbench("plot", results)

    assert (0, "results/quick-rates.png written\n") == (ran.status, ran.err)
    assert Path("results/quick-rates.png").read_bytes().startswith(b"\x89PNG")


@pytest.fixture
def watched(results):
    """Return results/quick with a curve of each trial, and what a probe saw of each."""
    store = Store(results)
    with store.writer() as writer:
        for trial in list(store.trials()):
            own = {name: getattr(trial, name) for name in OF_TRIAL}
            series = {"loss": Series([0, 1, 2], [3.0, 2.0, 1.0])}
            writer.append(TraceRecord(**own, probe="curve", series=series))
            series = {"mean": Series([0, 1, 2], [[1.0, 2.0], [1.0, 2.0], [1.0, 2.0]])}
            writer.append(TraceRecord(**own, probe="moments", series=series))
    return results


@pytest.mark.parametrize(
    ("options", "name", "words"),
    [
        (["--rates"], "rates", ["learning rate"]),
        (["--curves"], "curves", ["training loss", "step"]),
        (["--curves", "--rate", "0.1", "--rate", "1"], "curves-rate-0.1-1", ["rate 0.1", "rate 1"]),
        (["--series", "moments.mean"], "moments.mean", ["place 0", "place 1"]),
        (
            ["--series", "moments.mean", "--site", "1", "--rate", "1"],
            "moments.mean-rate-1-site-1",
            ["place 1, rate 1"],
        ),
        (["--series", "moments.mean", "--step", "2"], "moments.mean-step-2", ["step 2", "place"]),
    ],
    ids=str,
)
def test_each_kind_is_drawn(normbench, watched, options, name, words):
    """What is asked for, under a name of its own."""
    assert 0 == normbench("plot", watched, *options, "-o", "it.svg").status

    ran = normbench("plot", watched, *options)

    assert f"results/quick-{name}.png written\n" == ran.err
    assert all(f">{text}</text>" in Path("it.svg").read_text(encoding="utf-8") for text in words)


def test_a_suite_has_pictures(normbench, tmp_path):
    """A run ends with their paths; one that can't be drawn is named, and fails nothing."""
    suite = 'name = "mine"\nsummary = "M"\ntasks = ["digits-cnn"]\nnorms = ["none"]\nrates = [0.1, 1]\nseeds = 1\n'
    Path("mine.toml").write_text(suite + 'pictures = ["curves(rate=[1])", "curve.loss(step=0)"]\n[fix]\nsteps = 3\n')

    ran = normbench(
        "run", "mine.toml", "--device", "cpu", "--executor", "serial", "--no-throughput", "--json", "--quiet"
    )

    assert 0 == ran.status
    assert ran.json
    drawn, refused = ran.err.splitlines()[-2:]
    assert "results/mine-curves-rate-1.png written" == drawn
    assert refused.startswith("normbench: picture 'curve.loss(step=0)': step 0: curve.loss is one number")
    assert Path("results/mine-curves-rate-1.png").is_file()


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

"""Mistakes of users with results, gates and what is written: each is one line, and exit status 2."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(*args: str) -> list[str]:
    return ["run", "quick", *args]


def compared(*args: str) -> list[str]:
    return ["compare", "stored.json", "stored.json", *args]


TABLE = {
    # gates
    "until": (run("--until", "sure", "--max-seeds", "5"), "--until 'sure': say decided"),
    "until when": (run("--until", "decided"), "--until decided needs --max-seeds N"),
    "max seeds alone": (run("--max-seeds", "5"), "--max-seeds goes with --until decided"),
    "max seeds": (run("--until", "decided", "--max-seeds", "1"), "--max-seeds"),
    "until without a gate": (run("--until", "decided", "--max-seeds", "3"), "--until decided needs a gate"),
    "until with seeds": (
        run("--until", "decided", "--max-seeds", "3", "--seeds", "2"),
        "--seeds 2: with --until decided",
    ),
    # the choice of BASE
    "base absent": (run("--base", "absent"), "--base absent: no results there"),
    "base a folder": (["plan", "quick", "--base", "folder"], "--base folder: no results there"),
    "base no results": (run("--base", "a-file"), "a-file"),
    "base of another suite": (
        run("--base", "stored.json"),
        "--base stored.json: it has no results of this suite's norms",
    ),
    "base without fresh seeds to place": (
        run("--base", "stored.json", "--no-fresh"),
        "this run has none; leave it out",
    ),
    **{
        f"gate {text!r} of {command[0]}": ([*command, "--fail", text], words)
        for command in (["run", "quick"], ["compare", "stored.json", "stored.json"], ["calibrate", "stored.json"])
        for text, words in {
            "accuracy": "--fail 'accuracy': write METRIC:MARGIN",
            "acuracy:-1pt": "no metric 'acuracy'; did you mean 'accuracy'",
            "accuracy:1pt": "'1pt'; a margin is a sign, a number above 0 and a unit",
            "accuracy:-1": "gate accuracy:-1: the margin on mnist-cnn is in percentage points",
            "accuracy:-1%": "'-1%'; its margin is like",
            "accuracy:+1pt": "'+1pt'; it gets worse as it falls: write -1pt",
            "accuracy:-0pt": "'-0pt'",
            "max_trainable_lr:-0.5step": "'-0.5step'; steps of the grid are whole",
            "throughput:-100%": "'-100%'; it can't fall by 100% or more",
        }.items()
        if (command[0], text) not in {("run", "accuracy:-1")}
    },
    "gate twice": (compared("--fail", "accuracy:-1pt", "--fail", "accuracy:-2pt"), "--fail names accuracy twice"),
    "gate too wide": (compared("--fail", "max_trainable_lr:-99step"), "max_trainable_lr:-99step"),
    "gate in decades": (compared("--fail", "max_trainable_lr:-2dec"), "max_trainable_lr:-2dec"),
    "gate on speed": (compared("--fail", "throughput:-0%"), "'-0%'"),
    "no gate": (["calibrate", "stored.json"], "no gate: --fail 'accuracy:-0.5pt'"),
    "repetitions": (["calibrate", "stored.json", "--fail", "accuracy:-1pt", "--repetitions", "5"], "--repetitions"),
    "repetitions a word": (["calibrate", "stored.json", "--repetitions", "many"], "--repetitions"),
    "seed of draws": (["calibrate", "stored.json", "--seed", "-1"], "--seed"),
    # results
    **{
        f"{command} of {name}": ([*command.split(), name, *more], words)
        for command, more in {
            "leaderboard": [],
            "calibrate": ["--fail", "accuracy:-1pt"],
            "plot": ["-o", "it.png"],
            "export": ["-o", "it.json"],
            "merge": ["-o", "merged"],
            "show 0 --in": [],
        }.items()
        for name, words in {
            "absent": "absent: no results there",
            "folder": "folder: no results there",
            "a-file": "a-file: not a file that normbench export wrote",
            "cut.json": "cut.json: not a file that normbench export wrote",
            "other.json": "other.json: not a file that normbench export wrote (it has no schema",
            "list.json": "list.json: not a file that normbench export wrote",
            "picture.json": "picture.json: not a file that normbench export wrote",
            "empty.json": "empty.json: not a file that normbench export wrote",
            "newer.json": "newer.json: written by a newer normbench",
            "parts.json": "parts.json: not a file that normbench export wrote (it lacks",
            "wrong.parquet": "wrong.parquet: not a file that normbench export wrote",
            "benchmarks.json": "benchmarks.json: not a file that normbench export wrote",
        }.items()
    },
    "results elsewhere": (["leaderboard", "quick"], "quick: no results there; did you mean results/quick?"),
    "board": (["leaderboard", "stored.json", "--board", "acuracy"], "no board 'acuracy'; did you mean 'accuracy'?"),
    "board without": (
        ["leaderboard", "stored.json", "--board", "aggregate"],
        "nothing is stored there for the board aggregate",
    ),
    "baseline of a board": (
        ["leaderboard", "stored.json", "--baseline", "batchnrm"],
        "no norm 'batchnrm'; did you mean",
    ),
    "sort": (["leaderboard", "stored.json", "--sort", "acuracy"], "no column 'acuracy'; did you mean 'accuracy'"),
    "sort by a column of another board": (
        ["leaderboard", "stored.json", "--board", "accuracy", "--sort", "ratio"],
        "no column 'ratio'",
    ),
    "where": (["leaderboard", "stored.json", "--where", "batch_size"], "--where 'batch_size': write key=value"),
    "where what": (
        ["leaderboard", "stored.json", "--where", "batchsize=8"],
        "no recipe value 'batchsize'; did you mean",
    ),
    "where no TOML": (["leaderboard", "stored.json", "--where", "batch_size=so"], "'so' is no TOML value"),
    "where none is": (
        ["leaderboard", "stored.json", "--where", "batch_size=8"],
        "--where batch_size=8: no table has it; there",
    ),
    "compare to nothing": (["compare", "stored.json", "absent"], "absent: no results there"),
    "compare to a file": (["compare", "stored.json", "a-file"], "a-file: not a file that normbench export wrote"),
    "compare a file": (["compare", "a-file", "stored.json"], "a-file: not a file that normbench export wrote"),
    "compare benchmarks to results": (
        ["compare", "benchmarks.json", "stored.json"],
        "stored.json: not a file that pytest",
    ),
    "compare results to benchmarks": (
        ["compare", "stored.json", "benchmarks.json"],
        "benchmarks.json: not a file that",
    ),
    "compare benchmarks cut": (
        ["compare", "benchmarks.json", "cut-benchmarks.json"],
        "cut-benchmarks.json: not a file that",
    ),
    "compare benchmarks by a gate": (
        ["compare", "benchmarks.json", "benchmarks.json", "--fail", "acuracy:+10%"],
        "acuracy",
    ),
    "compare benchmarks until": (
        ["compare", "benchmarks.json", "benchmarks.json", "--fingerprint"],
        "benchmarks.json: files of benchmarks are only read",
    ),
    "compare until in a file": (
        compared("--until", "decided", "--max-seeds", "5", "--fail", "accuracy:-1pt"),
        "stored.json: a file, which is not written to",
    ),
    "output's ending": (compared("-o", "it.txt"), "-o it.txt: it ends in .md, .xml"),
    "output's folder": (compared("-o", "absent/it.md"), "-o absent/it.md: there is no folder absent"),
    "picture's ending": (["plot", "stored.json", "-o", "it.jpg"], "-o it.jpg: a picture ends in .png, .svg or .pdf"),
    "pictures of two kinds": (
        ["plot", "stored.json", "--curves", "--series", "moments.mean"],
        "--curves and --series: a picture is of one kind",
    ),
    "picture at a rate": (["plot", "stored.json", "--rate", "0.1"], "a picture of kind 'rates' takes no rates"),
    "picture of a site": (["plot", "stored.json", "--curves", "--site", "0"], "of kind 'curves' takes no site"),
    "picture at a step": (["plot", "stored.json", "--curves", "--step", "0"], "of kind 'curves' takes no step"),
    "picture of curves": (
        ["plot", "stored.json", "--curves"],
        "stored.json: no trace of probe 'curve' there; this makes them: normbench run",
    ),
    "picture of a series": (["plot", "stored.json", "--series", "moments.mean"], "--probe moments"),
    "picture's folder": (["plot", "stored.json", "-o", "absent/it.png"], "there is no folder absent"),
    "export's ending": (["export", "stored.json", "-o", "it.jsn"], "-o it.jsn: an export ends in .json"),
    "export's folder": (["export", "stored.json", "-o", "absent/it.json"], "there is no folder absent"),
    "export without": (["export", "stored.json"], "Missing option '-o'"),
    "merge into something": (["merge", "stored.json", "-o", "strewn"], "-o strewn: there is something already"),
    "merge into a file": (["merge", "stored.json", "-o", "a-file"], "-o a-file: there is something already"),
    "trial": (["show", "0123", "--in", "stored.json"], "no trial '0123' in stored.json"),
    "trial anywhere": (["show", "0123"], "no trial '0123' in ."),
    "trial empty": (["show", "", "--in", "stored.json"], "'' begins the keys of"),
    "trial's folder": (["show", "0123", "--in", "folder"], "folder: no results there"),
    "kind": (["list", "norm"], "list: no kind 'norm'; did you mean 'norms'?"),
    "kind empty": (["list", ""], "list: no kind ''"),
    "name of a kind": (["list", "norms", "bachnorm"], "list: no norm 'bachnorm'; did you mean 'batchnorm'"),
    "package's name": (["new-plugin", "My_Norm"], "new-plugin 'My_Norm': a name is lower-case letters"),
    "package's dot": (["new-plugin", "my.norm"], "new-plugin 'my.norm'"),
    "package empty": (["new-plugin", ""], "new-plugin ''"),
    "package taken": (["new-plugin", "batchnorm"], "new-plugin 'batchnorm': plugin 'builtin' has a norm of that name"),
    "package below a file": (["new-plugin", "my-norm", "--in", "a-file"], "a-file/normbench-my-norm: can't be written"),
    "package there": (["new-plugin", "there", "--in", "strewn"], "strewn/normbench-there exists already"),
    "command as an option": (["--run", "quick"], "No such option: --run"),
    "baseline open": (
        ["leaderboard", "stored.json", "--baseline", "batchnorm("],
        "--baseline: 'batchnorm(' is not a name",
    ),
    "where the rate": (["leaderboard", "stored.json", "--where", "rate=0.1"], "--where: no recipe value 'rate'"),
    "where true is 1": (
        ["leaderboard", "stored.json", "--where", "compile=0"],
        "--where compile=0: no table has it; there is false",
    ),
    "where both": (
        ["leaderboard", "stored.json", "--where", "threads=1", "--where", "threads=2"],
        "--where threads=2: no table has it; there is 1",
    ),
    **{
        f"package {name!r}": (
            ["new-plugin", "--", name],
            f"new-plugin {name!r}: a name is lower-case letters, digits and hyphens",
        )
        for name in ("my_norm", "2nd", "-x", "x-", "my--norm", "a/b", "../x", "größe")
    },
    "package installed": (["new-plugin", "plugins"], "a package normbench_plugins is installed already"),
}


@pytest.fixture(autouse=True, scope="module")
def alone(laid_out):
    """Lay out files that are no results, and some that are."""
    stored = (ROOT / "results" / "mnist-lr.json").read_text(encoding="utf-8")
    benchmarks = (ROOT / "tests" / "data" / "pytest-benchmark-4.json").read_text(encoding="utf-8")
    laid_out(
        {
            "cut.json": stored[: len(stored) // 2],
            "newer.json": '{"schema": 99}',
            "other.json": '{"a": []}',
            "parts.json": '{"schema": 1, "runs": []}',
            "list.json": "[]",
            "picture.json": b"\x89PNG\xff",
            "empty.json": "",
            "wrong.parquet": "PAR1 and nothing else PAR1",
            "benchmarks.json": benchmarks,
            "cut-benchmarks.json": benchmarks[:-100],
            "strewn/normbench-there/a-file": "",
        }
    )


@pytest.mark.parametrize(("args", "words"), TABLE.values(), ids=TABLE)
def test_a_mistake_is_one_line_and_exit_status_2(refusal, args, words):
    """What is no result, no gate, or can not be written is named, and nothing is printed."""
    assert words in refusal(args)

"""Every mistake of a user's is one line on stderr and exit status 2; help, version, and pipes that close."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import normbench as package
from normbench.cli import listing
from normbench.execute.training import Training

COMMANDS = ["run", "plan", "throughput", "leaderboard", "plot", "export", "show", "list", "plugins", "new-plugin"]

MISTAKES = {
    "no such option": (["--verson"], "No such option: --verson"),
    "no such command": (["rum"], "No such command 'rum'"),
    "no suite": (["run"], "Missing argument 'SUITE|FILE.toml'"),
    "option of a command": (["run", "quick", "--sed", "1"], "No such option: --sed"),
    "option without value": (["run", "quick", "--norm"], "'--norm' requires an argument"),
    "too many arguments": (["run", "quick", "slow"], "unexpected extra argument"),
    "suite": (["run", "qick"], "no suite 'qick'; did you mean 'quick'?"),
    "suite to plan": (["plan", "qick"], "no suite 'qick'; did you mean 'quick'?"),
    "suite's file": (["run", "absent.toml"], "absent.toml: there is no such file"),
    "suite is a folder": (["run", "folder/"], "folder: can't be read (Is a directory)"),
    "norm": (["run", "quick", "--norm", "batchnrm"], "--norm: no norm 'batchnrm'; did you mean 'batchnorm'"),
    "norm's form": (["run", "quick", "--norm", "batchnorm(eps"], "is not a name, nor name(param=value)"),
    "norm empty": (["run", "quick", "--norm", ""], "'' is not a name"),
    "norm twice": (["run", "quick", "--norm", "none", "--norm", "none"], "norms names 'none' twice"),
    "parameter": (["run", "quick", "--norm", "batchnorm(ep=1.0)"], "batchnorm: no parameter 'ep'; did you mean 'eps'"),
    "parameter's type": (["run", "quick", "--norm", 'batchnorm(eps="a")'], "eps is 'a'; it takes a float"),
    "parameter's value": (["run", "quick", "--norm", "batchnorm(eps=tiny)"], "values as in TOML"),
    "setting": (["run", "quick", "--set", "epoch=2"], "--set: no recipe value 'epoch'; did you mean 'epochs'?"),
    "setting's form": (["run", "quick", "--set", "epochs"], "write key=value"),
    "setting not TOML": (["run", "quick", "--set", "epochs=two"], "'two' is no TOML value"),
    "setting's type": (["run", "quick", "--set", 'epochs="2"'], "epochs: expected int, got str"),
    "setting's range": (["run", "quick", "--set", "threads=0"], "threads is 0; it is 1 or more"),
    "setting's word": (["run", "quick", "--set", 'optimizer="lion"'], "it is one of 'sgd', 'adam', 'adamw'"),
    "no length": (["run", "quick", "--set", "epochs=0"], "epochs is 0 and steps is 0; one of the two says how long"),
    "setting without effect": (["run", "quick", "--set", "milestones=[0.5]"], "no effect where schedule is constant"),
    "rate": (["run", "quick", "--set", "rates=[0.1, -1]"], "rates[1] is -1.0; a rate is above 0"),
    "rate not a number": (["run", "quick", "--set", "rates=[nan]"], "rates[0] is nan; a rate is above 0"),
    "rate twice": (["run", "quick", "--set", "rates=[1, 1]"], "rates names a rate twice"),
    "no rates": (["run", "quick", "--set", "rates=[]"], "list the learning rates to try"),
    "rate for rates": (["run", "quick", "--set", "rate=1"], "use --set 'rates=[0.1, 1]'"),
    "seeds": (["run", "quick", "--seeds", "many"], "--seeds 'many': give a number of seeds"),
    "no seeds": (["run", "quick", "--seeds", "0"], "seeds is 0; give a number from 1"),
    "seed twice": (["run", "quick", "--seeds", "1,1"], "each seed is a whole number from 0, and stands once"),
    "seed for seeds": (["run", "quick", "--seeds", "20240131"], "or --seeds 20240131,"),
    "jobs": (["run", "quick", "--jobs", "0"], "--jobs 0: it is auto, or a number of 1 or more"),
    "jobs no number": (["run", "quick", "--jobs", "two"], "--jobs two: it is auto, or a number of 1 or more"),
    "jobs in serial": (
        ["run", "quick", "--executor", "serial", "--jobs", "2"],
        "--jobs: the executor serial has no such option",
    ),
    "executor": (["run", "quick", "--executor", "process"], "no executor 'process'; did you mean 'processes'"),
    "timeout": (["run", "quick", "--timeout", "5 days"], "--timeout 5 days: a time is a number of seconds, or like"),
    "several machines": (
        ["run", "quick", "--set", "num_nodes=2", "--set", "batch_size=64"],
        "num_nodes is 2: --executor processes trains on one machine; ray on several",
    ),
    "device": (["run", "quick", "--device", "gpu"], "--device 'gpu': a device is auto, cpu, cuda or cuda:N"),
    "device to plan": (["plan", "quick", "--device", "mps"], "--device 'mps': a device is auto, cpu, cuda or cuda:N"),
    "device numbered": (["run", "quick", "--device", "cpu:1"], "--device 'cpu:1': a device is auto, cpu"),
    "device not there": (["run", "quick", "--device", "cuda:99"], "--device 'cuda:99': torch sees"),
    "data folder": (["run", "quick", "--data-dir", "absent"], "--data-dir absent: there is no such folder"),
    "batch too large": (
        ["run", "quick", "--device", "cpu", "--set", "batch_size=1078", "--quiet"],
        "batch_size is 1078; there are 1077 training samples",
    ),
    "format": (["run", "quick", "--format", "xml"], "--format: no format 'xml'; known: csv, github, json"),
    "probe": (["run", "quick", "--probe", "weight-norms"], "no probe 'weight-norms'; did you mean 'weight-norm'?"),
    "plugin's file": (["run", "quick", "--plugin", "absent.py"], "--plugin absent.py: there is no such file"),
    "out is a file": (
        ["run", "quick", "--device", "cpu", "--out", "a-file"],
        "--out a-file: a file, which is not written to",
    ),
    "out below a file": (["run", "quick", "--device", "cpu", "--out", "a-file/out"], "can't write results there"),
    "results": (["leaderboard", "folder"], "folder: no results there; normbench run SUITE makes some"),
    "results not there": (["leaderboard", "absent"], "absent: no results there"),
    "results are a file": (
        ["leaderboard", "a-file"],
        "a-file: not a file that normbench export wrote (JSON is malformed",
    ),
    "no folder": (["leaderboard"], "Missing argument 'DIR|FILE'"),
    "board": (["leaderboard", "folder", "--board", "acuracy"], "no board 'acuracy'; did you mean 'accuracy'?"),
    "format of a board": (["leaderboard", "folder", "--format", "jsn"], "no format 'jsn'; did you mean 'json'?"),
    "exported file": (["export", "folder"], "Missing option '-o'"),
    "exported file's suffix": (["export", "folder", "-o", "folder.jsn"], "-o folder.jsn: an export ends in .json"),
    "exported file's folder": (["export", "folder", "-o", "absent/it.json"], "there is no folder absent"),
    "export of nothing": (["export", "folder", "-o", "it.json"], "folder: no results there"),
    "export of another file": (["export", "a-file", "-o", "it.json"], "a-file: not a file that normbench export wrote"),
    "nothing to measure": (["throughput"], "Missing argument 'SUITE|FILE.toml|DIR'"),
    "suite to measure": (["throughput", "qick"], "no suite 'qick'; did you mean 'quick'?"),
    "norm to measure": (["throughput", "quick", "--norm", "batchnrm"], "--norm: no norm 'batchnrm'; did you mean"),
    "folder to measure": (["throughput", "folder/"], "folder: can't be read (Is a directory)"),
    "seconds": (["throughput", "quick", "--seconds", "-1"], "Invalid value for '--seconds'"),
    "seconds of a run": (["run", "quick", "--seconds", "long"], "Invalid value for '--seconds'"),
    "trial": (["show", "0123"], "no trial '0123' in"),
    "trial's folder": (["show", "0123", "--in", "folder"], "folder: no results there"),
    "picture's suffix": (["plot", "folder", "-o", "plot.pdf"], "-o plot.pdf: a picture ends in .png or .svg"),
    "picture's folder": (["plot", "folder", "-o", "absent/plot.png"], "there is no folder absent"),
    "picture of nothing": (["plot", "folder", "-o", "plot.png"], "folder: no results there"),
    "no picture": (["plot", "folder"], "Missing option '-o'"),
    "kind": (["list", "norm"], "list: no kind 'norm'; did you mean 'norms'?"),
    "no kind": (["list"], "Missing argument 'norms|tasks|suites|probes|executors'"),
    "plugin to list": (["list", "norms", "--plugin", "absent.py"], "--plugin absent.py: there is no such file"),
    "plugin to name": (["plugins", "--plugin", "absent.py"], "--plugin absent.py: there is no such file"),
    "package's name": (["new-plugin", "My_Norm"], "a name is lower-case letters, digits and hyphens, like my-norm"),
    "package below a file": (["new-plugin", "my-norm", "--in", "a-file"], "can't be written"),
}

SUITE = """
name = "mine"
summary = "A suite of the tests"
tasks = ["digits-cnn"]
norms = ["batchnorm"]
rates = [0.1]
"""

PUBLISHED = """
[published.digits-cnn]
source = "Table 2"
setting = "six epochs"
scores = { batchnorm = 98.1 }
"""

SUITE_MISTAKES = {
    "key": (SUITE + "seed = 3", "suite mine.toml: no key 'seed'; did you mean 'seeds'"),
    "missing": (SUITE.replace('name = "mine"', ""), "suite mine.toml: object missing required field name"),
    "task": (SUITE.replace("digits-cnn", "digits-cn"), "tasks: no task 'digits-cn'; did you mean 'digits-cnn'"),
    "norm": (SUITE.replace('["batchnorm"]', '["layernorm"]'), "norms: no norm 'layernorm'; did you mean 'layer-norm'"),
    "norm's table": (SUITE.replace('["batchnorm"]', "[{ eps = 1.0 }]"), 'a table of a norm has norm = "name"'),
    "no norms": (SUITE.replace('["batchnorm"]', "[]"), "norms is empty; name at least one"),
    "type": (SUITE + 'seeds = "3"', "suite mine.toml: seeds: expected"),
    "rate": (SUITE.replace("0.1", "0"), "rates[0] is 0.0; a rate is above 0"),
    "baseline": (SUITE + 'baseline = "batch-norm"', "baseline: no norm 'batch-norm'; did you mean 'batchnorm'"),
    "recipe value": (SUITE + "[fix]\nepoch = 2", "[fix]: no recipe value 'epoch'; did you mean 'epochs'?"),
    "twice": (SUITE + "[fix]\nepochs = 2\n[vary]\nepochs = [2]", "epochs stands under [fix] and under [vary]"),
    "published task": (SUITE + PUBLISHED.replace("digits", "digit"), "[published]: no task 'digit-cnn'; did you mean"),
    "published norm": (
        SUITE + PUBLISHED.replace("{ batchnorm", "{ batch-norm"),
        "[published.digits-cnn]: no norm 'batch-norm'; did you mean 'batchnorm'?",
    ),
    "published spread": (SUITE + PUBLISHED + "spread = { none = 1 }", "[published.digits-cnn]: no norm 'none'"),
    "published key": (
        SUITE + PUBLISHED + "sources = 1",
        "[published.digits-cnn]: no key 'sources'; did you mean 'source'",
    ),
    "published without a source": (SUITE + "[published.digits-cnn]\nscores = {}", "missing required field source"),
    "published score": (SUITE + PUBLISHED.replace("98.1", '"98%"'), "expected float, got str"),
    "not TOML": ('name = "', "suite mine.toml: not TOML: "),
}


@pytest.fixture(autouse=True)
def strewn():
    """Lay out a file, and a folder without results."""
    Path("a-file").write_text("no results")
    Path("folder").mkdir()


def one_line(ran):
    """Return the one line that a refusal is, which stands on stderr alone."""
    assert (2, "") == (ran.status, ran.out)
    assert 1 == ran.err.count("\n")
    assert ran.err.startswith("normbench: ")
    return ran.err


@pytest.mark.parametrize(("args", "words"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line_and_exit_status_2(normbench, args, words):
    """A mistake in the arguments is named in one line on stderr, with what would be right; nothing is printed."""
    ran = normbench(*args)

    assert words in one_line(ran)


@pytest.mark.parametrize(("text", "words"), SUITE_MISTAKES.values(), ids=SUITE_MISTAKES)
def test_a_mistake_in_a_suite_names_file_and_key(normbench, text, words):
    """A mistake in a suite's file is refused before anything is made, with the file and the key."""
    Path("mine.toml").write_text(text)

    ran = normbench("run", "mine.toml")

    assert words in one_line(ran)
    assert not Path("results").exists()


def test_a_suite_that_is_no_text_is_refused(normbench):
    """A file that is not UTF-8 is named, not guessed at."""
    Path("mine.toml").write_bytes(b'name = "\xe9"')

    ran = normbench("run", "mine.toml")

    assert "mine.toml: can't be read as text" in one_line(ran)


def test_a_value_that_the_suite_varies_cannot_be_set(normbench):
    """--set is refused for a value that has a table of its own in the suite."""
    Path("mine.toml").write_text(SUITE + "[vary]\nbatch_size = [32, 64]")

    ran = normbench("run", "mine.toml", "--set", "batch_size=8")

    assert "--set batch_size: the suite 'mine' has it under [vary]" in one_line(ran)


def test_what_is_no_mistake_shows_its_trace(normbench, monkeypatch):
    """A bug is not dressed up as a user's mistake."""
    monkeypatch.setitem(listing._KINDS, "norms", lambda thing, plugin: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        normbench("list", "norms")


def test_a_full_disk_says_so_and_keeps_what_is_stored(small, lines, monkeypatch):
    """A disk without room ends a run with exit status 4; once there is room, the same command does the rest."""
    names = ("--norm", "none", "--norm", "batchnorm", "--set", "rates=[0.1, 1]", "--out", "out")
    small("--norm", "none", "--out", "out")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", _no_room)
        full = small(*names)
    again = small(*names)

    assert (4, "") == (full.status, full.out)
    assert full.err.endswith("normbench: out: the disk is full; what was stored before is kept\n")
    assert 0 == again.status
    assert 4 == len({record["key"] for record in lines("out")}) == len(lines("out"))


@pytest.mark.parametrize(
    ("happens", "says"),
    [
        (lambda: shutil.rmtree("out"), "out was deleted or moved"),
        (lambda: shutil.copy(shutil.move("out/trials.jsonl", "kept"), "out/trials.jsonl"), "was replaced by another"),
    ],
    ids=["the folder is deleted", "a file is replaced"],
)
def test_a_folder_that_is_lost_during_a_run_ends_it(small, normbench, lines, monkeypatch, happens, says):
    """Exit status 4 and one line, which names a folder with all that was stored; with it the run goes on."""
    storing = Training._take
    asked = ("--norm", "none", "--set", "rates=[0.1, 1]", "--executor", "serial", "--quiet", "--out")

    with monkeypatch.context() as patch:
        patch.setattr(Training, "_take", lambda self, outcome: (storing(self, outcome), happens()))
        lost = small(*asked, "out")
    [saved] = Path().glob("out.saved-*")
    again = small(*asked, saved)

    assert (4, "") == (lost.status, lost.out)
    assert says in lost.err
    assert str(saved) in lost.err
    assert 1 == lost.err.count("\n")
    assert 0 == again.status
    assert 2 == len({record["key"] for record in lines(saved)}) == len(lines(saved))


def test_a_name_that_is_no_text_is_stored(small, lines):
    """A folder may have a name that no encoding has; the command that is stored with a run spells it out."""
    ran = small("--norm", "none", "--executor", "serial", "--quiet", "--out", os.fsdecode(b"out-\xff"))

    assert 0 == ran.status
    assert "out-\\udcff" in lines(os.fsdecode(b"out-\xff"), "runs.jsonl")[0]["command"]


def _no_room(descriptor):
    raise OSError(28, "No space left on device")


def test_without_a_command_the_help_stands_on_stderr(normbench):
    """`normbench` alone is a mistake that the help answers."""
    ran = normbench()

    assert (2, "") == (ran.status, ran.out)
    assert all(f"\n  {command} " in ran.err for command in COMMANDS)


def test_help_names_every_command(normbench):
    """`normbench --help` lists the commands on stdout."""
    ran = normbench("--help")

    assert (0, "") == (ran.status, ran.err)
    assert all(f"\n  {command} " in ran.out for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_a_help(normbench, command):
    """`--help` and `-h` show how a command is called."""
    long, short = normbench(command, "--help"), normbench(command, "-h")

    assert (0, "") == (long.status, long.err)
    assert f"normbench {command} " in long.out
    assert long == short


def test_version(normbench):
    """`--version` prints the version that is installed."""
    ran = normbench("--version")

    assert (0, f"normbench {package.__version__}\n", "") == (ran.status, ran.out, ran.err)


@pytest.mark.parametrize(
    ("args", "environment"),
    [
        (["--help"], {}),
        (["list", "norms"], {}),
        (["leaderboard", "results/quick"], {}),
        (["leaderboard", "results/quick"], {"FORCE_COLOR": "1"}),
        (["leaderboard", "results/quick", "--json"], {}),
    ],
    ids=["help", "list", "leaderboard", "colours", "json"],
)
def test_a_closed_pipe_ends_quietly(spawn, results, args, environment):
    """Where nobody reads on, as before `| head -1`, a command ends with exit status 0 and without a trace."""
    reader, writer = os.pipe()
    process = spawn(*args, stdout=writer, env={**os.environ, **environment})
    os.close(reader)
    os.close(writer)

    _, err = process.communicate()

    assert (0, "") == (process.returncode, err)


def test_a_reader_that_wants_one_line_gets_it(results):
    """`normbench leaderboard | head -1` prints a line, and complains of nothing."""
    words = ["leaderboard", "results/quick", "--json"]
    shell = 'set -o pipefail; "$@" | head -1'
    python = [sys.executable, "-m", "normbench.cli.main", *words]

    ran = subprocess.run(["bash", "-c", shell, "bash", *python], capture_output=True, text=True, check=False)

    assert (0, "{\n", "") == (ran.returncode, ran.stdout, ran.stderr)


def test_a_closed_pipe_hides_no_failure(plugin, small, monkeypatch):
    """A run with a failed trial ends with exit status 4, whether or not its table is read."""
    broken = plugin("broken", "return late(x, self.calls)")
    reader, writer = os.pipe()
    os.close(reader)

    with os.fdopen(writer, "w", encoding="utf-8") as stdout, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stdout)
        ran = small("--plugin", broken, "--norm", "broken")

    assert 4 == ran.status

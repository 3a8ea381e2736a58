"""Every mistake of a user's is one line on stderr and exit status 2; help, version, and pipes that close."""

import os
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest

import normbench as package
from normbench.cli import main
from normbench.cli.commands import COMMANDS, listing
from normbench.execute.run import Run

#: Mistakes that only torch, the data or the disk knows of; tests of mistakes alone have the others.
MISTAKES = {
    "device not there": (["--device", "cuda:99"], "device 'cuda:99': torch sees"),
    "batch too large": (["--set", "batch_size=1078"], "batch_size is 1078; there are 1077 training samples"),
    "out below a file": (["--out", "a-file/out"], ".jsonl: can't be read (Not a directory)"),
}


@pytest.fixture(autouse=True)
def strewn():
    """Lay out a file."""
    Path("a-file").write_text("no results")


@pytest.mark.parametrize(("args", "words"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line_and_exit_status_2(normbench, args, words):
    """A mistake that shows late is one line as well, and nothing is printed."""
    ran = normbench("run", "quick", "--device", "cpu", "--executor", "serial", *args, "--quiet")

    assert (2, "") == (ran.status, ran.out)
    assert ran.err.startswith("normbench: ")
    assert words in ran.err
    assert 1 == ran.err.count("\n")


def test_a_misused_option_names_the_help_of_its_command(normbench):
    """Whether the option is unknown, or lacks its value."""
    for option in ("--no-such", "--norm"):
        assert normbench("run", "quick", option).err.endswith("(see normbench run --help)\n")


@pytest.mark.parametrize(("command", "goes_on"), [("run", True), ("plan", False)])
def test_only_a_command_that_stores_says_that_it_goes_on(monkeypatch, capsys, command, goes_on):
    """What a plan or a report was at when Ctrl-C came is lost, and the message does not say otherwise."""

    def stopped(**_):
        raise main.Stopped(main.Status.INTERRUPTED)

    monkeypatch.setattr(main, "parser", lambda: SimpleNamespace(main=stopped))

    assert main.Status.INTERRUPTED == main.status([command, "quick"])
    assert goes_on == ("the same command goes on" in capsys.readouterr().err)


def test_what_is_no_mistake_shows_its_trace(normbench, monkeypatch):
    """A bug has a status of its own, and its trace, below which a line asks to report it."""
    monkeypatch.setattr(listing, "_entry", lambda thing: 1 / 0)

    ran = normbench("list", "norms")

    assert (70, "") == (ran.status, ran.out)
    assert ran.err.startswith("Traceback ")
    *_, error, asks = ran.err.splitlines()
    assert "ZeroDivisionError: division by zero" == error
    assert "normbench: this is a bug in normbench; please report it, with the command and the lines above" == asks


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_command_is_stopped_once(monkeypatch, sent, status):
    """Ctrl-C pressed again does not disturb what is ending; long after, it stops what goes on all the same."""
    clock = [100.0]
    monkeypatch.setattr(main.time, "monotonic", lambda: clock[0])
    stop = main._stopper()

    with pytest.raises(main.Stopped) as stopped:
        stop(sent, None)
    for _ in range(3):
        stop(sent, None)
    clock[0] += main.PATIENCE

    assert status == stopped.value.status
    with pytest.raises(main.Stopped):
        stop(sent, None)


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
    assert 6 == len({record["key"] for record in lines("out")}) == len(lines("out"))


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
    storing = Run._take
    asked = ("--norm", "none", "--set", "rates=[0.1, 1]", "--quiet", "--out")

    with monkeypatch.context() as patch:
        patch.setattr(Run, "_take", lambda self, outcome: (storing(self, outcome), happens()))
        lost = small(*asked, "out")
    [saved] = Path().glob("out.saved-*")
    again = small(*asked, saved)

    assert (4, "") == (lost.status, lost.out)
    assert says in lost.err
    assert str(saved) in lost.err
    assert 1 == lost.err.count("\n")
    assert 0 == again.status
    assert 3 == len({record["key"] for record in lines(saved)}) == len(lines(saved))


def test_a_name_that_is_no_text_is_stored(small, lines):
    """A folder may have a name that no encoding has; the command that is stored with a run spells it out."""
    ran = small("--norm", "none", "--quiet", "--out", os.fsdecode(b"out-\xff"))

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

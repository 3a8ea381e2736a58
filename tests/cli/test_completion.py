"""Completion: a shell's script hands over the line up to the cursor, and gets what could stand there."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import zygote

from normbench.cli import completion
from normbench.cli.commands import COMMANDS
from normbench.hookspecs import KINDS


@pytest.fixture
def protocol(spawn):
    """Return a function that asks as a shell's script does, in the environment, and gives what that prints."""

    def ask(shell, line, **environment):
        asked = {completion.ASKED: f"complete_{shell}", completion.LINE: line}
        out, err = spawn(env={**os.environ, **asked, **environment}).communicate()
        assert "" == err
        return out.splitlines()

    return ask


def values(line):
    """Return what could stand at the end of a line."""
    words, typed = completion._words(line)
    return [value for value, _ in completion.candidates(words[1:], typed)]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("normbench lea", ["leaderboard"]),
        ("normbench run quic", ["quick"]),
        ("normbench run 'quic", ["quick"]),
        ("normbench run --seeds 3 --quiet quic", ["quick"]),
        ("normbench run quick --norm group", ["group-norm"]),
        ("normbench run quick --norm +group", ["+group-norm"]),
        ("normbench run quick --norm=group", ["--norm=group-norm"]),
        ("normbench run quick --probe grad", ["gradients"]),
        ("normbench run quick --executor se", ["serial"]),
        ("normbench run quick --set opt", ["optimizer="]),
        ("normbench run quick --for", ["--format"]),
        ("normbench run quick --epo", ["--epochs"]),
        ("normbench run quick --optimizer ", ["sgd", "adam", "adamw"]),
        ("normbench run quick --format la", ["latex_booktabs"]),
        ("normbench compare a b --format ju", ["junit"]),
        ("normbench leaderboard --board st", ["stability"]),
        ("normbench check digits-c", ["digits-cnn"]),
        ("normbench list ", [*KINDS]),
        ("normbench list tasks digits-c", ["digits-cnn"]),
        ("normbench list norms none group", ["group-norm"]),
        ("normbench run quick ", []),
        ("normbench nonsense ", []),
        ("normbench plugins ", []),
    ],
)
def test_what_could_stand_there(line, expected):
    """Commands, options, their values and arguments complete, each by what was typed of it."""
    assert expected == values(line)


def test_every_command_is_completed():
    """Before a command stands none, so any could."""
    assert [*COMMANDS] == values("normbench ")


def test_files_and_results_of_this_folder():
    """Suites complete by their files as well; results, the latest folder first, then exports."""
    for name in ("mine.toml", "results/old/runs.jsonl", "results/new/runs.jsonl", "results/zoo.json", "results/it.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    os.utime("results/old/runs.jsonl", (0, 0))

    assert ["mine.toml"] == values("normbench run min")
    assert ["results/new", "results/old", "results/zoo.json"] == values("normbench plot res")
    assert {"quick", "results/old"} < {*values("normbench throughput ")}


def test_a_shell_gets_what_it_can_show(protocol):
    """Bash gets candidates alone, and of --norm=NAME the part that it would replace; zsh gets texts, too."""
    assert ["group-norm"] == protocol("bash", "normbench run quick --norm=group")
    [line] = protocol("zsh", "normbench run quick --norm=group")
    assert line.startswith("--norm=group-norm\tGroup norm: ")


def test_whatever_fails_is_silent(protocol, tmp_path):
    """A plugin that fails, or a name that is no text of one line, gives no candidate, no trace, and costs no other."""
    info = tmp_path / "site" / "bad-1.0.dist-info"
    info.mkdir(parents=True)
    (tmp_path / "site" / "bad.py").write_text("print('out'); raise SystemExit(3)")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bad\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[normbench]\nbad = bad\n")
    Path("a\nb.toml").touch()
    path = os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")])

    assert ["group-norm"] == protocol("bash", "normbench run quick --norm group", PYTHONPATH=path)
    assert [] == protocol("bash", "normbench run a")
    assert [] == protocol("bash", "normbench list nonsense ")


@pytest.mark.parametrize("shell", completion.SCRIPTS)
def test_the_script_of_each_shell_is_printed(normbench, shell):
    """It asks in the environment, as `answer` reads it, and is valid for the shell, where that is installed."""
    ran = normbench("completion", shell)

    assert (0, "") == (ran.status, ran.err)
    assert f"{completion.ASKED}=complete_{shell} {completion.LINE}=" in ran.out
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=ran.out, text=True, check=True)


@pytest.mark.skipif(not shutil.which("bash"), reason="no bash here")
def test_bash_completes(tmp_path):
    """In bash the function that `complete` names fills COMPREPLY, quoted, and a name that is a command runs nothing."""
    zygote.command(tmp_path / "normbench", "-m", "normbench.cli.main")
    Path("$(touch ran).toml").touch()
    script = f"""
        {completion.SCRIPTS["bash"]}
        complete -p normbench
        COMP_WORDS=(normbench run '$') COMP_CWORD=2 COMP_LINE='normbench run \\$' COMP_POINT=16
        _normbench {tmp_path / "normbench"}
        echo "${{COMPREPLY[@]}}"
        """

    ran = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)

    assert ["complete -o default -F _normbench normbench", r"\$\(touch\ ran\).toml"] == ran.stdout.splitlines()
    assert not Path("ran").exists()


def test_completion_imports_nothing_slow():
    """Candidates come at once: not even what checks the values of options is imported."""
    script = (
        "import sys; from normbench.cli import completion;"
        "print([*completion.candidates(['run', 'quick', '--norm'], 'group')][0][0]);"
        "print([name for name in ('torch', 'numpy', 'matplotlib', 'altair', 'pydantic') if name in sys.modules])"
    )
    environment = {**os.environ, "NORMBENCH_PLUGINS": "builtin,suites"}

    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)

    assert "group-norm\n[]\n" == ran.stdout

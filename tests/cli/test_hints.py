"""What newcomers type is answered with what they meant."""

from pathlib import Path

import pytest

from normbench import plugins


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("quick", "it is a suite; normbench run quick runs it"),
        ("my own.toml", "it is a suite; normbench run 'my own.toml' runs it"),
        ("batchnorm", "it is a norm; normbench run quick --norm batchnorm runs it"),
        ("digits-cnn", "it is one of the tasks; normbench list tasks digits-cnn says more"),
        ("gradients", "it is one of the probes; normbench list probes gradients says more"),
        ("results/mine", "it is where results are; normbench leaderboard results/mine shows them"),
        ("zoo.json", "it is where results are; normbench leaderboard zoo.json shows them"),
    ],
)
def test_what_stands_for_a_command(normbench, word, meant):
    """What is no command, and something else that is known, is refused with the command that it belongs to."""
    Path("results/mine").mkdir(parents=True)
    for name in ("results/mine/runs.jsonl", "zoo.json"):
        Path(name).touch()

    ran = normbench(word)

    assert (2, "", f"normbench: no command {word!r}: {meant}\n") == (ran.status, ran.out, ran.err)


@pytest.mark.parametrize(("word", "near"), [("lederboard", "'leaderboard'"), ("quik", "'run quick'")])
def test_what_is_near_a_command_or_a_suite(normbench, word, near):
    """A misspelt command, or suite in place of one, is refused with the nearest."""
    assert f"normbench: no command {word!r}; did you mean {near}? (see normbench --help)\n" == normbench(word).err


@pytest.mark.parametrize("command", ["run", "plan", "fingerprint"])
def test_without_a_suite_all_are_listed(normbench, monkeypatch, command):
    """A line says what is missing; one for each suite has its name, and the question that it answers."""
    monkeypatch.setenv("COLUMNS", "80")

    ran = normbench(command)

    missing, *lines = ran.err.splitlines()
    assert (2, "") == (ran.status, ran.out)
    assert "normbench: which suite? name one of these, or a file (FILE.toml)" == missing
    assert [*plugins.current().suites] == [line.split()[0] for line in lines]
    assert "  quick             Which norms train at which rates?" in lines
    assert 80 >= max(map(len, lines))


@pytest.mark.parametrize(
    ("name", "note"),
    [("qick", "did you mean 'quick'? (normbench list suites lists all)"), ("none", "(it is a norm: --norm none)")],
)
def test_an_unknown_suite(normbench, name, note):
    """The message names the command that lists suites; a norm in place of one is told its option."""
    assert normbench("plan", name).err.endswith(f"{note}\n")

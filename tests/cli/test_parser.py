"""The help: commands, and the options of commands that have many, in groups, as plain text."""

import re

import pytest

from normbench.cli import options
from normbench.cli.commands import COMMANDS, GROUPS
from normbench.cli.parser import MANY, REST, command


def sections(text):
    """Return the names in each section of a help."""
    found = {}
    for line in text.splitlines():
        if heading := re.fullmatch(r"(\w[\w ]*):", line):
            names = found[heading[1]] = []
        elif found and (name := re.match(r"  (\S+)", line)):
            names.append(name[1].rstrip(","))
    return found


def test_commands_stand_in_groups(normbench):
    """Each command stands in its group, with its summary on the same line."""
    found = sections(normbench("--help").out)

    assert {group: [*commands] for group, commands in GROUPS.items()} == {group: found[group] for group in GROUPS}


def test_the_options_of_run_stand_in_groups(normbench):
    """A group is where an option is defined; those without one, and the help, come last."""
    found = sections(normbench("run", "--help").out)

    assert ["Arguments", options.WHAT, options.HOW, options.WHERE, options.STATISTICS, REST] == [*found]
    assert {"--norm", "--seeds", "--set", "--plugin"} <= {*found[options.WHAT]}
    assert ["--out", "--data-dir", "--device"] == found[options.WHERE]
    assert "-h" == found[REST][-1]


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_readable_at_80_columns(normbench, monkeypatch, name):
    """No line is longer, and few options stand in one list."""
    monkeypatch.setenv("COLUMNS", "80")

    text = normbench(name, "--help").out

    assert 80 >= max(map(len, text.splitlines()))
    assert text.isascii()
    shown = sum(param.param_type_name == "option" and not param.hidden for param in command(name).params)
    assert (shown + 1 <= MANY) == ("\nOptions:\n" in text)

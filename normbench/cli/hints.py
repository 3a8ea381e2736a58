"""What newcomers type, answered with what they meant: a suite, a norm or a folder for a command, or no suite at all."""

from __future__ import annotations

import difflib
import re
import shlex
import shutil
import textwrap
from pathlib import Path
from typing import Any

from normbench.cli.commands import COMMANDS
from normbench.contract import SuiteFile
from normbench.errors import UsageError, unknown
from normbench.hookspecs import KINDS
from normbench.suites import read


def no_command(word: str) -> UsageError:
    """Refuse a word that is no command, and say which command it belongs to."""
    from normbench import plugins
    from normbench.cli.folders import is_results

    registry = plugins.load()
    if word in registry.suites or word.endswith(".toml"):
        meant = f"a suite; normbench run {shlex.quote(word)} runs it"
    elif word in registry.norms:
        meant = f"a norm; normbench run quick --norm {word} runs it"
    elif is_results(Path(word)):
        meant = f"where results are; normbench leaderboard {shlex.quote(word)} shows them"
    else:
        kind = next((kind for kind in KINDS if word in getattr(registry, kind)), None)
        if kind is None:
            runs = [f"run {name}" for name in difflib.get_close_matches(word, registry.suites, cutoff=0.75)]
            return unknown("command", word, [*COMMANDS, *runs], note="see normbench --help")
        meant = f"one of the {kind}; normbench list {kind} {word} says more"
    return UsageError(f"no command {word!r}: it is {meant}")


def suites() -> list[str]:
    """Return a line for each suite at hand: its name, and the question that it answers."""
    from normbench import plugins

    width = shutil.get_terminal_size((100, 24)).columns
    offered = plugins.load().suites
    column = max(map(len, offered), default=0) + 2
    questions = {name: re.split(r"(?<=[.?:]) ", summary(one.thing))[0] for name, one in offered.items()}
    return [
        f"  {name.ljust(column)}{textwrap.shorten(question, max(20, width - column - 2), placeholder=' ...')}"
        for name, question in questions.items()
    ]


def summary(thing: Any) -> str:
    """Return what is said in a line of what a plugin offers; a suite's stands in its file."""
    return read(Path(thing.path)).summary if isinstance(thing, SuiteFile) else str(thing.summary)

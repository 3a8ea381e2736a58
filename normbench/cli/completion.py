"""What completes a command that is being typed: three shells' scripts, and the answer to what they ask.

A script hands over the line up to the cursor in the environment, as typer's own do, and gets one candidate per line,
for zsh and fish with a text behind a tab. It evaluates nothing of it. The shell completes the names of files itself,
where there is no candidate.
"""

from __future__ import annotations

import glob
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import typer

from normbench.cli.commands import COMMANDS
from normbench.cli.hints import summary

#: Set by a script: to `complete_SHELL`, and to the line up to the cursor.
ASKED, LINE = "_NORMBENCH_COMPLETE", "_TYPER_COMPLETE_ARGS"

_BASH = r"""
_normbench() {
    local candidate
    COMPREPLY=()
    while IFS= read -r candidate; do
        printf -v candidate %q "$candidate"
        COMPREPLY+=("$candidate")
    done < <(_NORMBENCH_COMPLETE=complete_bash _TYPER_COMPLETE_ARGS="${COMP_LINE:0:COMP_POINT}" "$1" 2>/dev/null)
    [[ ${COMPREPLY[*]} == *= ]] && compopt -o nospace 2>/dev/null
    return 0
}
complete -o default -F _normbench normbench
"""
_ZSH = r"""
_normbench() {
    local line
    local -a described close
    for line in "${(@f)$(_NORMBENCH_COMPLETE=complete_zsh _TYPER_COMPLETE_ARGS="${words[1,CURRENT]}" \
        "$words[1]" 2>/dev/null)}"; do
        [[ -n $line ]] && described+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}")
    done
    [[ $#described == 1 && $line == *= ]] && close=(-S '')
    if (( $#described )); then _describe normbench described "${close[@]}"; else _files; fi
}
compdef _normbench normbench
"""
_FISH = r"""
function __normbench
    set -l candidates (_NORMBENCH_COMPLETE=complete_fish _TYPER_COMPLETE_ARGS=(commandline -cp | string collect) \
        normbench 2>/dev/null)
    if set -q candidates[1]
        printf '%s\n' $candidates
    else
        __fish_complete_path (commandline -ct)
    end
end
complete --command normbench --no-files --arguments '(__normbench)'
"""
SCRIPTS = {"bash": _BASH.strip(), "zsh": _ZSH.strip(), "fish": _FISH.strip()}

#: A candidate: what would be typed, and what it is.
Candidate = tuple[str, str]


def answer() -> None:
    """Print the candidates that a script asks for. Whatever goes wrong, a plugin that fails say, gives none."""
    with open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), 2)
    with suppress(Exception, SystemExit):
        bash = os.environ[ASKED] == "complete_bash"
        words, typed = _words(os.environ.get(LINE, ""))
        # bash counts what stands before these as words of their own, and only replaces what stands behind.
        cut = max(typed.rfind("="), typed.rfind(":")) + 1 if bash else 0
        for value, text in candidates(words[1:], typed):
            if value.isprintable():
                print(value[cut:] if bash or not text else f"{value}\t{' '.join(text.split())}")
    sys.stdout.flush()


def candidates(words: list[str], typed: str) -> Iterator[Candidate]:
    """Yield what could stand after these words, and begins with what is typed."""
    if not words:
        yield from ((name, text) for name, text in COMMANDS.items() if name.startswith(typed))
    elif words[0] in COMMANDS:
        from normbench.cli.parser import command

        yield from _of_command(command(words[0]), words[1:], typed)


def _of_command(command: Any, words: list[str], typed: str) -> Iterator[Candidate]:
    """Yield the values of the option before, or options, or the values of the next argument."""
    context = typer.Context(command, **command.context_settings)
    params = command.get_params(context)
    options = {name: param for param in params for name in (*param.opts, *param.secondary_opts) if name[0] == "-"}
    arguments = [param for param in params if param.param_type_name == "argument"]
    waiting = None
    for word in words:
        if waiting is None and word[:1] != "-":
            context.args.append(word)
        option = options.get(word) if waiting is None else None
        waiting = None if option is None or option.is_flag else option
    name, equals, value = typed.partition("=")
    if waiting is not None:
        yield from _values(waiting, context, typed)
    elif equals and name in options:
        yield from ((f"{name}={one}", text) for one, text in _values(options[name], context, value))
    elif typed[:1] == "-":
        found = {name: option for name, option in options.items() if name.startswith(typed)}
        shown = {name: option for name, option in found.items() if not option.hidden}
        yield from ((name, option.help or "") for name, option in (shown or found).items())
    elif arguments and (len(context.args) < len(arguments) or arguments[-1].nargs == -1):
        yield from _values(arguments[min(len(context.args), len(arguments) - 1)], context, typed)


def _values(param: Any, context: typer.Context, typed: str) -> Iterator[Candidate]:
    return ((item.value, item.help or "") for item in param.shell_complete(context, typed))


def _words(line: str) -> tuple[list[str], str]:
    """Return the whole words of a line, as a shell splits it, and the one that is being typed."""
    lexer = shlex.shlex(line, posix=True)
    lexer.whitespace_split, lexer.commenters = True, ""
    words: list[str] = []
    try:
        words.extend(lexer)
    except ValueError:  # a quote is not closed yet
        return words, lexer.token
    return (words[:-1], words[-1]) if words and not line[-1].isspace() else (words, "")


def of_kind(*kinds: str) -> Callable[[], list[Candidate]]:
    """Return what completes the names of what plugins offer."""

    def complete() -> list[Candidate]:
        from normbench import plugins

        registry = plugins.load()
        return [(name, summary(one.thing)) for kind in kinds for name, one in getattr(registry, kind).items()]

    return complete


def norms(incomplete: str) -> list[Candidate]:
    """Complete a norm, or one that is added to those of the suite."""
    added = incomplete[:1] == "+"
    return [(f"{'+' * added}{name}", text) for name, text in of_kind("norms")()]


def of_list(ctx: typer.Context) -> list[Candidate]:
    """Complete the names of the kind that `list` is asked for."""
    return of_kind(ctx.args[0])()


def suites(incomplete: str) -> list[Candidate]:
    """Complete a suite: its name, or its file."""
    return [*of_kind("suites")(), *((file, "") for file in glob.glob(f"{glob.escape(incomplete)}*.toml"))]


def suites_and_results(incomplete: str) -> list[Candidate]:
    """Complete a suite, or a results folder."""
    return [*suites(incomplete), *results()]


def results() -> list[Candidate]:
    """Complete results folders and exports below `results`."""
    from normbench.cli.folders import at_hand
    from normbench.store import RESULTS
    from normbench.store.export import FORMS

    exports = [path for path in sorted(RESULTS.glob("*")) if path.suffix in FORMS]
    return [*((str(folder), "results folder") for folder in at_hand()), *((str(file), "export") for file in exports)]


def settings() -> list[Candidate]:
    """Complete the name of a recipe value, or rates."""
    from normbench.cli.recipe_options import KINDS

    return [(f"{name}=", "") for name in KINDS]

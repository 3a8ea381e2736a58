"""`normbench completion`: the script with which a shell completes commands, options and names."""

from __future__ import annotations

from typing import Annotated

import typer

from normbench.cli import completion, output
from normbench.errors import unknown


def command(
    shell: Annotated[
        str,
        typer.Argument(
            metavar="|".join(completion.SCRIPTS),
            help="The shell to print it for.",
            autocompletion=lambda: [*completion.SCRIPTS],
        ),
    ],
) -> None:
    """Print the script that completes commands, options and names as you type.

    For bash, put eval "$(normbench completion bash)" into ~/.bashrc; for zsh the same with zsh, into ~/.zshrc below
    compinit; for fish, write it to ~/.config/fish/completions/normbench.fish.
    """
    if shell not in completion.SCRIPTS:
        raise unknown("shell", shell, completion.SCRIPTS, "completion")
    output.put(completion.SCRIPTS[shell])

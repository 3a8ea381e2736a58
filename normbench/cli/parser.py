"""The parser of the command line: commands that are imported when asked for, and a plain help with both in groups."""

from __future__ import annotations

import functools
import importlib
from typing import Annotated, Any

import typer
import typer.core

from normbench.cli import hints
from normbench.cli.commands import COMMANDS, GROUPS, module
from normbench.cli.status import stoppable

#: A command with more options lists them in groups.
MANY = 10
#: What is an option's group, where it stands in none of its own.
REST = "Output"
#: How wide a name may be before its text starts on the next line: where click's formatter breaks it.
_WIDEST = 30
_PLAIN: dict[str, Any] = {
    "add_completion": False,
    "rich_markup_mode": None,
    "pretty_exceptions_enable": False,
    "context_settings": {"help_option_names": ["-h", "--help"]},
}


class _Command(typer.core.TyperCommand):
    """A command whose help has its options in groups, the `rich_help_panel` of each, where it has many."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        arguments: list[tuple[str, str]] = []
        groups: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None and param.param_type_name == "argument":
                arguments.append(record)
            elif record is not None:
                groups.setdefault(getattr(param, "rich_help_panel", None) or REST, []).append(record)
        options = [record for group in groups.values() for record in group]
        _write(formatter, {"Arguments": arguments, **(groups if len(options) > MANY else {"Options": options})})


class _Commands(typer.core.TyperGroup):
    """All commands, none of them imported yet."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - click's signature
        return [*COMMANDS]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - click's signature
        return command(cmd_name) if cmd_name in COMMANDS else None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            raise hints.no_command(args[0])
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - click's signature
        _write(formatter, {group: [*commands.items()] for group, commands in GROUPS.items()})


@functools.cache
def command(name: str) -> Any:
    """Return the parser of one command, whose module is imported for it."""
    alone = typer.Typer(**_PLAIN)
    function = importlib.import_module(module(name)).command
    alone.command(name, cls=_Command)(stoppable(function))
    return typer.main.get_command(alone)


def _version(asked: bool) -> None:
    if asked:
        import normbench

        typer.echo(f"normbench {normbench.__version__}")
        raise typer.Exit


@functools.cache
def parser() -> Any:
    """Return the parser of `normbench` and its commands."""
    app = typer.Typer(name="normbench", cls=_Commands, no_args_is_help=True, **_PLAIN)

    @app.callback()
    def options(
        version: Annotated[
            bool, typer.Option("--version", help="Print the version and exit.", callback=_version, is_eager=True)
        ] = False,
    ) -> None:
        """Benchmark normalization layers: accuracy, stability against the learning rate, and throughput."""

    return typer.main.get_command(app)


def _write(formatter: Any, sections: dict[str, list[tuple[str, str]]]) -> None:
    """Write sections of names with their texts, all texts below one another."""
    width = max(len(name) for rows in sections.values() for name, _ in rows)
    for title, rows in sections.items():
        if rows:
            with formatter.section(title):
                formatter.write_dl([(name.ljust(min(width, _WIDEST)), text) for name, text in rows])

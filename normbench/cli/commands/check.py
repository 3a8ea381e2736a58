"""`normbench check`: whether norms, tasks and probes hold what they are held to, and what they claim."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from normbench import plugins
from normbench.calls import Workplace
from normbench.cli import completion, options, output
from normbench.cli.status import Status
from normbench.execute import Request
from normbench.execute.request import seconds
from normbench.spelling import Choice
from normbench.texts import as_json, visible

if TYPE_CHECKING:
    from normbench.testing.results import Result

#: The seconds after which a check that gives no result is given up.
PATIENCE = "60s"


def command(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME[(param=value)]...",
            help="Norms, tasks or probes.",
            show_default=False,
            autocompletion=completion.of_kind("norms", "tasks", "probes"),
        ),
    ],
    plugin: options.Plugins = None,
    layout: Annotated[
        list[str] | None, typer.Option("--layout", metavar="LAYOUT", help="Check this layout alone; may be repeated.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option("-k", "--check", metavar="ID", help="Run this check alone; may be repeated.")
    ] = None,
    fast: Annotated[bool, typer.Option("--fast", help="Leave out the slow checks.")] = False,
    suggest: Annotated[
        bool, typer.Option("--suggest", help="Print the Traits(...) that were measured, and check nothing.")
    ] = False,
    timeout: Annotated[
        str, typer.Option("--timeout", metavar="TIME", help="Give up a check that takes longer: 90s, 10m.")
    ] = PATIENCE,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", metavar="DIR", help="Where a task's data lies, as in run.")
    ] = None,
    json: output.JsonOption = False,
) -> Status:
    """Check that norms, tasks and probes do what they claim, and leave all around them unchanged.

    A norm is checked at every layout that it claims: docs/check.md says what each check is, why, and how to mend what
    it finds. Each runs in a worker process: a layer that crashes or hangs costs that check alone.
    """
    from normbench.testing import report, run

    files = tuple(plugin or ())
    registry = plugins.current(files)
    output.warn_of_plugins(registry)
    every = run.asked(names, registry, layouts=layout or (), only=only or (), fast=fast)
    request = Request(suite="", data_dir=data_dir)
    executor = Choice("processes", {"timeout": seconds(timeout, "--timeout")})
    at = Workplace(registry, "cpu", request.data_folder(), executor, files)
    if suggest:
        lines = list(run.suggestions(every, at))
        output.put(as_json({"schema": 1, "suggestions": lines}) if json else "\n".join(map(visible, lines)))
        return Status.DONE
    results = []
    for _, group in groupby(_shown(run.results(every, at)), key=lambda result: (result.kind, result.name)):
        own = list(group)
        results += own
        if not json:
            if len(results) > len(own):
                output.put("")
            output.put_lines(visible(line) for line in report.lines(own, shutil.get_terminal_size((100, 24)).columns))
    if json:
        output.put(as_json({"schema": 1, "results": results}))
    failed = [result for result in results if result.status == "failed"]
    return Status.REGRESSED if failed else Status.DONE


def _shown(results: Iterator[Result]) -> Iterator[Result]:
    """Pass results on, and say on a terminal which check has ended."""
    from rich.console import Console

    with Console(stderr=True).status("the first worker starts") as status:
        for count, result in enumerate(results, start=1):
            status.update(f"{count} done, the last {result.check} of {result.name}")
            yield result

"""`normbench list`: what the plugins at hand offer; of one that is named also parameters, defaults and all else."""

from __future__ import annotations

import math
import shutil
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from normbench import plugins, spelling, suites
from normbench.cli import completion, options, output
from normbench.contract import Claim, Executor, Norm, Probe, SuiteFile, Task
from normbench.errors import UsageError, unknown
from normbench.hookspecs import KINDS
from normbench.texts import as_json, visible

#: A heading that is longer stands on a line of its own.
LONGEST_HEAD = 26
GAP = 2


def command(
    kind: Annotated[
        str, typer.Argument(metavar="|".join(KINDS), help="What to list.", autocompletion=lambda: [*KINDS])
    ],
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME", help="Show all there is to know about these.", autocompletion=completion.of_list
        ),
    ] = None,
    plugin: options.Plugins = None,
    json: output.JsonOption = False,
) -> None:
    """List norms, tasks, suites, probes, executors or claims; with NAMEs, all about each of these."""
    if kind not in KINDS:
        raise unknown("kind", kind, KINDS, "list")
    registry = plugins.current(tuple(plugin or ()))
    offered = getattr(registry, kind)
    for name in names or ():
        if name not in offered:
            raise unknown(kind.removesuffix("s"), name, offered, "list")
    chosen = [offered[name] for name in dict.fromkeys(names or offered)]
    entries = [{**_entry(one.thing), "plugin": one.plugin.name} for one in chosen]
    if json:
        output.put(as_json({"schema": 1, kind: _described(entries)}))
    elif names:
        output.put_lines(line for entry in entries for line in _whole(entry))
    else:
        output.put_lines(_lines([(entry["name"], entry["summary"]) for entry in entries]) or [f"no {kind}"])
    output.warn_of_plugins(registry)


def _entry(thing: Any) -> dict[str, Any]:
    """Return what is listed of one thing: its name, its summary, and more where its kind has more to say."""
    if isinstance(thing, SuiteFile):
        thing = suites.read(Path(thing.path))
    entry: dict[str, Any] = {"name": thing.name, "summary": thing.summary}
    if isinstance(thing, Norm | Task | Probe | Executor):
        entry["parameters"] = dict(thing.params)
        entry["allowed"] = {name: spelling.allowed(kind) for name, kind in thing.types.items()}
    match thing:
        case Norm():
            layouts = sorted(thing.layouts)
            entry |= {"placement": thing.placement, "layouts": layouts, "paper": thing.paper}
            entry |= {"source": thing.source, "licence": thing.licence, "expected": _expected(thing)}
        case Task():
            entry |= {"version": thing.version, "recipe": msgspec.to_builtins(thing.recipe), **_scores(thing)}
            entry |= {"better": thing.direction}
        case suites.Suite():
            norms = [spelling.choice(norm, thing.name).shown for norm in thing.norms]
            entry |= {"tasks": thing.tasks, "norms": norms, "rates": thing.rates, "seeds": thing.seeds}
            entry |= {"plugins": thing.plugins}
        case Claim():
            entry |= {"sources": list(thing.sources), "suites": list(thing.suites), "rule": thing.rule}
            entry |= {"margin": thing.margin, "unit": thing.unit}
    return entry


def _expected(norm: Norm) -> dict[str, str]:
    """Return what a norm declares to fail, at the defaults of its parameters."""
    try:
        return dict(norm.expected_with({}))
    except UsageError as error:
        output.say(f"normbench: {error}")
        return {}


def _scores(task: Task) -> dict[str, Any]:
    """Return a task's chance and reference, at the defaults of its parameters, and which of them depend on those."""
    chance = reference = None
    try:
        chance, reference = task.chance_and_reference({})
    except UsageError as error:
        output.say(f"normbench: {error}")
    scores = {"chance": chance, "reference": reference}
    varying = [name for name in scores if not isinstance(getattr(task, name), int | float)]
    return {**scores, "depend_on_parameters": varying}


def _whole(entry: dict[str, Any]) -> list[str]:
    """Return an entry's name and summary, and below, indented, all else that is not empty."""
    return [*_lines([(entry["name"], entry["summary"])]), *_lines(list(_details(entry)), indent=2)]


def _lines(rows: list[tuple[str, str]], indent: int = 0) -> list[str]:
    """Return rows of a heading and a text as two columns, the second folded at the end of the terminal."""
    width = shutil.get_terminal_size((100, 24)).columns
    # A long default stands on a line of its own rather than move all texts to the right.
    column = max((len(head) for head, _ in rows if len(head) <= LONGEST_HEAD), default=0) + GAP + indent
    lines = []
    for head, text in rows:
        first = f"{' ' * indent}{head}".ljust(column)
        if len(head) > LONGEST_HEAD:
            lines += textwrap.wrap(first.rstrip(), width, subsequent_indent=" " * column)
            first = " " * column
        lines += textwrap.wrap(visible(text), width, initial_indent=first, subsequent_indent=" " * column) or [
            first.rstrip()
        ]
    return [line for line in lines if line]


def _details(entry: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what is said of an entry beside its name and summary: each parameter with what it takes, then the rest."""
    for key, value in entry.items():
        if key == "parameters":
            yield from ((_assignment(name, default), entry["allowed"].get(name, "")) for name, default in value.items())
        elif key == "depend_on_parameters" and value:
            yield "by parameters", " and ".join(value)
        elif key not in ("name", "summary", "allowed") and value not in (None, {}, [], ""):
            yield key, _plain(value)


def _assignment(name: str, value: Any) -> str:
    try:
        return spelling.assignments({name: value})
    except (TypeError, UsageError):  # no TOML
        return f"{name}={_name(value)}"


def _described(value: Any) -> Any:
    """Return a value as JSON has it, in words where it has none: a default may be infinite, a function or a class."""
    if isinstance(value, dict):
        return {str(key): _described(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_described(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, bool | int | float | str) else _name(value)


def _name(thing: Any) -> str:
    """Return the name of a function or a class, or of the class of anything else."""
    name: str = getattr(thing, "__qualname__", type(thing).__qualname__)
    return name


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(_assignment(name, item) for name, item in value.items())
    if isinstance(value, list):
        return ", ".join(f"{item:g}" if isinstance(item, float) else str(item) for item in value)
    return str(value)

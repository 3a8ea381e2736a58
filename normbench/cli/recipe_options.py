"""Each recipe value, and rates, as an option that no help lists: `--epochs 12` is `--set epochs=12`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from typing import Annotated, Any, get_origin

import msgspec
import typer

from normbench.errors import UsageError
from normbench.recipe import CHOICES, Recipe
from normbench.spelling import allowed, assignments, toml
from normbench.suites import RECIPE_VALUES

#: The type of each.
KINDS: dict[str, Any] = {"rates": list[float] | dict[str, Any]} | {
    field.name: field.type for field in msgspec.structs.fields(Recipe) if field.name in RECIPE_VALUES
}
_LISTS = {"rates"} | {name for name, kind in KINDS.items() if get_origin(kind) is tuple}
#: What keeps a recipe value's parameter apart from those of a command.
PREFIX = "set_"


def option(name: str) -> str:
    """Return how a recipe value is spelled as an option."""
    return f"--{name.replace('_', '-')}"


def _of(name: str, kind: Any) -> Any:
    if kind is bool:
        return Annotated[bool | None, typer.Option(f"{option(name)}/--no-{option(name)[2:]}", hidden=True)]
    choices = [str(choice) for choice in CHOICES.get(name, ())]
    return Annotated[str | None, typer.Option(option(name), hidden=True, autocompletion=lambda: choices)]


#: The option of each, by the name of its parameter.
OPTIONS = {f"{PREFIX}{name}": _of(name, kind) for name, kind in KINDS.items()}


def together(settings: Mapping[str, Any], given: Mapping[str, str | bool | None]) -> dict[str, Any]:
    """Return what --set says, and what these options do. Raises UsageError for a value that both have."""
    values = dict(settings)
    for parameter, text in given.items():
        name = parameter.removeprefix(PREFIX)
        if text is None:
            continue
        if name in values:
            said = f"--set {assignments({name: values[name]})}"
            raise UsageError(f"{option(name)}: {said} says it as well; give one of the two")
        values[name] = _value(name, text) if isinstance(text, str) else text
    return values


def _value(name: str, text: str) -> Any:
    """Return the value that a text is: as in TOML, but a list needs no brackets, and a word no quotes."""
    bare = name in _LISTS and text.lstrip()[:1] not in ("[", "{")
    try:
        value = toml(f"x = [{text}]" if bare else f"x = {text}")["x"]
    except tomllib.TOMLDecodeError:
        value = text
    try:
        msgspec.convert(value, KINDS[name])
    except msgspec.ValidationError:
        takes = "numbers, with commas between" if name in _LISTS else allowed(KINDS[name])
        raise UsageError(f"{option(name)} {text}: it takes {takes}") from None
    return value

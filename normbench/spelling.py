"""How norms, tasks and values are spelled: `name(param=value)`, values as in TOML; and read back."""

from __future__ import annotations

import itertools
import math
import re
import tomllib
import unicodedata
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import msgspec
from msgspec import inspect

from normbench.errors import UsageError, unknown

#: The parameter of every norm that names a second one, which wraps the linear before it: a norm made of two.
WITH = "with"
_PATH = re.compile(r" - at `\$(?P<path>[^`]*)`")
_SPEC = re.compile(r"(?P<name>[^()\s]+)\s*(?:\((?P<params>.*)\))?", re.DOTALL)
#: What types are called that list no values, and limits of them.
_KINDS: dict[type[inspect.Type], str] = {
    inspect.AnyType: "any value",
    inspect.IntType: "a whole number",
    inspect.FloatType: "a number",
    inspect.StrType: "text",
    inspect.DictType: "a table",
    inspect.ListType: "an array",
    inspect.VarTupleType: "an array",
    inspect.TupleType: "an array",
}
_LIMITS = {
    "gt": "above {}",
    "ge": "from {}",
    "lt": "below {}",
    "le": "up to {}",
    "multiple_of": "a multiple of {}",
    "pattern": "that matches {}",
    "min_length": "of {} or more",
    "max_length": "of {} at most",
}


class Choice(msgspec.Struct, frozen=True):
    """A norm or task by name, with the parameters set for it. `where` says who asked for it."""

    name: str
    params: dict[str, Any] = {}
    label: str = ""
    where: str = ""

    @property
    def shown(self) -> str:
        """The label, or the name with its parameters as a user would write them."""
        return self.label or spelled(self.name, self.params)


def argument(name: str, item: object = None) -> str:
    """Return how an argument, or one item of it, is spelled in Python: `settings['rate']`, `norms[0]`."""
    return name if item is None else f"{name}[{item!r}]"


def toml(text: str) -> dict[str, Any]:
    """Return what TOML says. Raises TOMLDecodeError, also for what is nested too deep."""
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise tomllib.TOMLDecodeError("nested too deep") from None


def choice(entry: str | dict[str, Any], where: str) -> Choice:
    """Return what `name`, `name(param=value, ...)` or `{ norm = name, param = value, label = ... }` asks for."""
    if isinstance(entry, dict):
        rest = dict(entry)
        name, label = rest.pop("norm", None), rest.pop("label", "")
        if not isinstance(name, str) or not isinstance(label, str):
            raise UsageError(f'{where}: a table of a norm has norm = "name", its parameters, and perhaps a label')
        if any(unicodedata.category(character) in ("Cc", "Zl", "Zp") for character in label):
            raise UsageError(f"{where}: label is {label!r}; it is a line of text, without control characters")
        return Choice(name, _ordered(rest, where), label, where)
    match = _SPEC.fullmatch(entry.strip())
    if match is None:
        raise UsageError(f"{where}: {entry!r} is not a name, nor name(param=value)")
    try:
        params = toml(f"x = {{{match['params'] or ''}}}")["x"]
    except tomllib.TOMLDecodeError:
        raise UsageError(
            f'{where}: {entry!r}: parameters are name=value, with values as in TOML (true, 0.5, "text")'
        ) from None
    return Choice(match["name"], _ordered(params, where), "", where)


def _ordered(params: dict[str, Any], where: str) -> dict[str, Any]:
    """Return parameters in the order of their names; a second norm among them is spelled as boards spell norms."""
    if isinstance(params.get(WITH), str):
        params = {**params, WITH: choice(params[WITH], f"{where}: {WITH}").shown}
    return dict(sorted(params.items()))


def spelled(name: str, params: dict[str, Any]) -> str:
    """Return `name(param=value, ...)` with values as in TOML."""
    return f"{name}({assignments(params)})" if params else name


def assignments(values: dict[str, Any]) -> str:
    """Return `key=value, ...` with values as in TOML."""
    return ", ".join(f"{key}={_toml(value)}" for key, value in values.items())


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return f"{{ {assignments(value)} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_toml(item) for item in value)}]"
    if hasattr(value, "tolist"):  # numpy's numbers and arrays are not Python's
        return _toml(value.tolist())
    try:
        return repr(value) if isinstance(value, float) else msgspec.json.encode(value).decode()
    except TypeError:
        raise UsageError(f"{value!r} is no value of TOML: a number, text, true or false, a list or a table") from None


def readable(error: msgspec.ValidationError) -> str:
    """Return msgspec's message with its `$.path` put first, as a key of a TOML file."""
    message = str(error)
    match = _PATH.search(message)
    text = _PATH.sub("", message).replace("`", "")
    text = text[:1].lower() + text[1:]
    key = match["path"].lstrip(".").replace("[...]", "") if match else ""
    return f"{key}: {text}" if key else text


def checked(
    declared: Mapping[str, Any], given: Mapping[str, Any], where: str, types: Mapping[str, Any] = MappingProxyType({})
) -> dict[str, Any]:
    """Return parameters as given, in the order of their names, each in the type that `types` has, or its default.

    A whole number becomes a float where that is the type, and a list, as TOML has arrays, a tuple. Raises UsageError
    for a parameter that is not `declared`, whose value is not of its type, or in which a number is not finite; `where`
    begins the message.
    """
    result: dict[str, Any] = {}
    for name, value in sorted(given.items()):
        if name not in declared:
            raise unknown("parameter", name, declared, where)
        if name in types:
            try:
                value = msgspec.convert(value, types[name])
            except msgspec.ValidationError:
                raise UsageError(f"{where}: {name} is {value!r}; it takes {allowed(types[name])}") from None
        else:
            default = declared[name]
            value = _like(default, value)
            if default is not None and type(value) is not type(default):
                kind = type(default).__name__
                kind = f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"
                raise UsageError(f"{where}: {name} is {value!r}; it takes {kind}, like its default {default!r}")
        if not _finite(value):
            # JSON has no such number, so that a key could not tell inf from nan.
            raise UsageError(f"{where}: {name} is {value}; a number is finite")
        result[name] = value
    return result


def _like(default: Any, value: Any) -> Any:
    """Return a value in the type of a default where TOML has no such type, or another spelling of the same."""
    if isinstance(default, float) and type(value) is int:
        return float(value)
    if isinstance(default, tuple) and isinstance(value, list):
        kind = default[0] if len({type(item) for item in default}) == 1 else None
        return tuple(_like(kind, item) for item in value)
    return value


def _finite(value: Any) -> bool:
    """Whether no number in a value is infinite or nan."""
    if isinstance(value, Mapping):
        return all(map(_finite, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def allowed(kind: Any) -> str:
    """Return in words what values a declared type has. Raises TypeError for a type of which TOML has no value."""
    return _allowed(inspect.type_info(kind))


def _allowed(info: inspect.Type) -> str:
    kinds: list[str] = []
    values: list[str] = []
    for one in _members(info):
        match one:
            case inspect.LiteralType():
                values += [_toml(value) for value in one.values if value is not None]
            case inspect.BoolType():
                values += ["true", "false"]
            case inspect.NoneType():
                pass  # a user says it by leaving the parameter out
            case _:
                kinds.append(_kind(one))
    if not kinds:
        return f"one of {', '.join(values)}"
    *others, last = [*kinds, *values]
    return f"{', '.join(others)} or {last}" if others else last


def _kind(info: inspect.Type) -> str:
    """Return what a type is called that lists no values, with its limits."""
    if type(info) not in _KINDS:
        raise TypeError("it is none that TOML has values of: numbers, text, true and false, arrays, tables")
    words = _KINDS[type(info)]
    limits = [said.format(limit) for name, said in _LIMITS.items() if (limit := getattr(info, name, None)) is not None]
    if limits:
        words += f" {' and '.join(limits)}"
    if isinstance(info, inspect.TupleType):
        words += f" [{', '.join(map(_allowed, info.item_types))}]"
    elif isinstance(info, inspect.ListType | inspect.VarTupleType) and not isinstance(info.item_type, inspect.AnyType):
        words += f" (each {_allowed(info.item_type)})"
    return words


def _members(info: inspect.Type) -> Iterator[inspect.Type]:
    """Yield the types that a type is a choice of, without what its author noted on them for others."""
    if isinstance(info, inspect.Metadata):
        yield from _members(info.type)
    elif isinstance(info, inspect.UnionType):
        yield from itertools.chain.from_iterable(map(_members, info.types))
    else:
        yield info

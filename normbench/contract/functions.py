"""How descriptions name functions and their parameters, and what every kind of description is checked for."""

from __future__ import annotations

import copyreg
import importlib
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from normbench import signatures, spelling

_NAME = re.compile(r"[a-z0-9]+([.-][a-z0-9]+)*")
_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def _limits(given: dict[str, Any]) -> msgspec.Meta:
    return msgspec.Meta(**given)


# msgspec's own can't be pickled, and a description that is registered in a session travels to workers whole.
copyreg.pickle(msgspec.Meta, lambda limits: (_limits, (dict(limits.__rich_repr__()),)))


def function(value: Callable[..., Any] | str) -> Callable[..., Any]:
    """Return the function that a description names: itself, or what "package.module:name" imports.

    Raises ImportError or AttributeError where the string names nothing.
    """
    if not isinstance(value, str):
        return value
    module, _, name = value.partition(":")
    imported: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return imported


def named_by(fn: Callable[..., Any], params: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the parameters that a function names among its own."""
    return {name: params[name] for name in inspect.signature(fn).parameters if name in params}


def check_head(kind: str, name: str, summary: str) -> None:
    """Raise ValueError where a name is none, or a summary is not one line."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f"{kind} name {name!r}: a name is lower-case letters, digits and hyphens, like 'group-norm'")
    check_line(f"{kind} {name!r}: summary", summary, "it is one line that says what this is")


def check_line(what: str, text: Any, rule: str = "it is one line of text") -> None:
    """Raise ValueError where something is no line of text."""
    if not isinstance(text, str) or not text.strip() or "\n" in text:
        raise ValueError(f"{what} is {text!r}; {rule}")


def check_members(what: str, given: Any, allowed: frozenset[str] | set[str]) -> None:
    """Raise ValueError where something is not among what is allowed, or there is nothing."""
    strangers = sorted(set(given) - allowed, key=str)
    if strangers or not given:
        has = repr(strangers[0]) if strangers else "nothing"
        raise ValueError(f"{what} has {has}; allowed: {', '.join(sorted(allowed))}")


def check_function(what: str, value: Any) -> None:
    """Raise ValueError or TypeError where a value names no function."""
    if isinstance(value, str):
        if not _FUNCTION.fullmatch(value):
            raise ValueError(f"{what} is {value!r}; as a string it is 'package.module:name'")
    elif not callable(value):
        raise TypeError(f"{what} is {value!r}; it is a function, or the string 'package.module:name'")


def parameters(what: str, fn: Any, declared: Mapping[str, Any], first: tuple[str, ...]) -> dict[str, Any]:
    """Return a function's parameters and defaults, as declared, else as its signature has them past the `first`."""
    check_function(what, fn)
    if isinstance(fn, str):
        return dict(declared) or signatures.parameters(fn)
    if declared:
        raise ValueError(f"params is for a {what} given as a string; a callable's own parameters declare themselves")
    signature = list(inspect.signature(fn).parameters.values())
    for parameter in signature:
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            text = str(parameter).partition(":")[0]
            raise ValueError(f"{what} takes {text}, which would swallow a misspelt parameter: name each one")
    leading, own = signature[: len(first)], signature[len(first) :]
    if len(leading) < len(first) or any(parameter.kind is parameter.KEYWORD_ONLY for parameter in leading):
        raise ValueError(f"{what} takes ({', '.join(first)}) first, then its parameters")
    for parameter in own:
        if parameter.default is parameter.empty:
            raise ValueError(f"{what}'s parameter {parameter.name!r} has no default")
    return {parameter.name: parameter.default for parameter in own}


def check_types(types: Mapping[str, Any], params: Mapping[str, Any]) -> None:
    """Raise ValueError for a type of no parameter, of which TOML has no values, or of which the default is none."""
    for name, kind in types.items():
        if name not in params:
            raise ValueError(f"types names {name!r}; the parameters are {', '.join(params) or 'none'}")
        try:
            takes = spelling.allowed(kind)
            msgspec.convert(params[name], kind)
        except TypeError as error:
            raise ValueError(f"types: the type of parameter {name!r} is {kind!r}: {error}") from None
        except msgspec.ValidationError:
            raise ValueError(f"types: parameter {name!r} is {params[name]!r} by default; it takes {takes}") from None

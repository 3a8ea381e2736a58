"""How norms, tasks and values are spelled: `name(param=value)`, values as in TOML; and read back."""

from __future__ import annotations

import re
import tomllib
import unicodedata
from typing import Any

import msgspec

from normbench.errors import UsageError

_PATH = re.compile(r" - at `\$(?P<path>[^`]*)`")
_SPEC = re.compile(r"(?P<name>[^()\s]+)\s*(?:\((?P<params>.*)\))?", re.DOTALL)


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
        return Choice(name, dict(sorted(rest.items())), label, where)
    match = _SPEC.fullmatch(entry.strip())
    if match is None:
        raise UsageError(f"{where}: {entry!r} is not a name, nor name(param=value)")
    try:
        params = toml(f"x = {{{match['params'] or ''}}}")["x"]
    except tomllib.TOMLDecodeError:
        raise UsageError(
            f'{where}: {entry!r}: parameters are name=value, with values as in TOML (true, 0.5, "text")'
        ) from None
    return Choice(match["name"], dict(sorted(params.items())), "", where)


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

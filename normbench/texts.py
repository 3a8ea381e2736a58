"""Text from outside (a norm's label, a plugin's error, a path) on its way to whoever reads it."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

#: What a terminal, a log or an XML parser would obey or refuse: control characters, ends of lines, what turns the
#: direction of writing, lone surrogates, and no characters.
_OBEYED = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)
_SURROGATE = re.compile("[\ud800-\udfff]")
#: Characters of a reason that are kept at its beginning, and at its end.
_REASON = 980
_SHORT = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}


def visible(text: str, keep: str = "") -> str:
    """Return a text whose control characters are shown escaped, as JSON escapes them, but for those in `keep`."""
    return _OBEYED.sub(lambda match: match[0] if match[0] in keep else _escaped(match[0]), text)


def as_json(document: Any) -> str:
    """Return a document as JSON, indented. A lone surrogate, which JSON can't hold, is the text of its escape."""
    try:
        encoded = msgspec.json.encode(document)
    except UnicodeEncodeError:
        whole = json.dumps(msgspec.to_builtins(document), ensure_ascii=False)
        encoded = _SURROGATE.sub(lambda match: "\\" + _escaped(match[0]), whole).encode()
    return visible(msgspec.json.format(encoded, indent=2).decode(), keep="\n")


def in_a_line(text: object) -> str:
    """Return what an error, or another text, says in one line."""
    try:
        return " ".join(str(text).split())
    except Exception:  # of an error whose own words fail
        return f"a {type(text).__name__} that can't be shown"


def _escaped(character: str) -> str:
    return _SHORT.get(character) or rf"\u{ord(character):04x}"


def counted(number: int, noun: str) -> str:
    """Return a number of things in words: "1 seed", "2,000 seeds"."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def storable(text: str) -> str:
    """Return text as JSON can hold it: a lone surrogate, half of a character, is spelled out."""
    return text.encode("utf-8", errors="backslashreplace").decode("utf-8")


def reason_to_keep(text: str) -> str:
    """Return a reason that can be stored, without its middle where it is long: errors may quote megabytes."""
    text = storable(text)
    if (left := len(text) - 2 * _REASON) > 40:
        text = f"{text[:_REASON]} … ({left} characters) … {text[-_REASON:]}"
    return text

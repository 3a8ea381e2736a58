"""One line of a file: decoding it, and naming one that can't be read."""

from __future__ import annotations

import hashlib
import re
from typing import TypeVar

import msgspec

from normbench.store.records import SCHEMA

#: Decoding or comparing what is nested deeper could exhaust the stack, and end the process; records are 6 deep.
DEEPEST = 64
_TEXT, _BRACKETS = re.compile(rb'"(?:[^"\\]++|\\.)*+"'), re.compile(rb"[\[\]{}]")
Line = TypeVar("Line")


class Unreadable(msgspec.Struct, frozen=True, kw_only=True):
    """A line that could not be read: where it is, why, and a hash of its bytes."""

    schema: int = msgspec.field(default=SCHEMA)
    file: str
    line: int
    reason: str
    sha256: str
    text: str


class Head(msgspec.Struct):
    """What every line has."""

    schema: int


def decoded(decoder: msgspec.json.Decoder[Line], line: bytes) -> Line:
    """Return the record of a line. Raises msgspec's errors, also for what is nested too deep."""
    if line.count(b"[") + line.count(b"{") > DEEPEST:
        depth = 0
        for bracket in _BRACKETS.findall(_TEXT.sub(b"", line)):
            depth += 1 if bracket in b"[{" else -1
            if depth > DEEPEST:
                raise msgspec.ValidationError(f"nested more than {DEEPEST} deep")
    return decoder.decode(line)


def unreadable(name: str, number: int, line: bytes, error: Exception) -> Unreadable:
    """Return what names a line that can't be read: where it is, and why."""
    reason = str(error)
    try:
        if decoded(msgspec.json.Decoder(Head), line).schema > SCHEMA:
            reason = "written by a newer normbench"
    except (msgspec.MsgspecError, UnicodeDecodeError):
        if not line.endswith(b"\n"):
            reason = "its end is missing"
    text = line.decode("utf-8", errors="backslashreplace").rstrip("\n")
    return Unreadable(
        file=name, line=number, reason=reason, sha256=hashlib.sha256(line.rstrip(b"\n")).hexdigest(), text=text
    )

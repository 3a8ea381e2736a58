"""The exceptions for a user's mistake and for a lost worker, and the words that refuse a misspelt name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Literal


class UsageError(Exception):
    """A mistake of the user's: what is wrong, where, and what would be right, in one line.

    The command line prints it without a trace and ends with exit status 2.
    """


class Lost(Exception):  # noqa: N818 - what happened, not what is wrong
    """A worker ended before what it was asked for: it died ("error"), or was killed when its time was up."""

    def __init__(self, outcome: Literal["error", "timeout"], reason: str) -> None:
        super().__init__(outcome, reason)
        self.outcome = outcome
        self.reason = reason


def unknown(kind: str, name: str, known: Iterable[str], where: str = "", note: str = "") -> UsageError:
    """Refuse a name that is not known, with the nearest names or, where none is near, all of them.

    `kind` says what the name should have been ("norm", "key"), `where` the file or option that holds it,
    `note` what else the user should know.
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    near += [other for other in names if name and name in other and other not in near]
    if near:
        hint = f"did you mean {' or '.join(repr(other) for other in near[:3])}?"
    elif names:
        hint = f"known: {', '.join(names)}"
    else:
        hint = f"no {kind} is known"
    prefix = f"{where}: " if where else ""
    suffix = f" ({note})" if note else ""
    return UsageError(f"{prefix}no {kind} {name!r}; {hint}{suffix}")

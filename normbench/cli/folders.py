"""The results folders at hand, and the one that is meant where a command is given none."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from normbench.cli import completion
from normbench.cli.output import say
from normbench.errors import UsageError
from normbench.store import RESULTS, Store
from normbench.store.export import FORMS
from normbench.store.kinds import RUNS, SESSIONS

#: How help calls it.
THE_ONE = f"the one below {RESULTS}"


def at_hand() -> list[Path]:
    """Return the results folders below `results`, the one that was written to last first."""
    found = [path for path in RESULTS.glob("*") if is_folder(path)]
    return sorted(found, key=lambda path: max(file.stat().st_mtime for file in path.glob("*.jsonl")), reverse=True)


def is_folder(path: Path) -> bool:
    """Whether a path is that of a results folder; not of an export."""
    return os.path.isdir(path) and any(os.path.exists(path / name) for name in (RUNS, SESSIONS))


def is_results(path: Path) -> bool:
    """Whether a path is that of a results folder, or has the name of an export."""
    return is_folder(path) or (os.path.isfile(path) and path.suffix in FORMS)


def require_runs(store: Store) -> None:
    """Raise UsageError where a folder holds no results."""
    if not store.exists():
        inside = RESULTS / store.folder
        hint = f"did you mean {inside}?" if is_folder(inside) else "normbench run SUITE makes some"
        raise UsageError(f"{store.folder}: no results there; {hint}")


def chosen(given: Path | None) -> Path:
    """Return what is given, else the only results folder at hand, and say which.

    Raises UsageError where there are several, or none.
    """
    if given is not None:
        return given
    found = at_hand()
    if not found:
        raise UsageError(f"no results folder lies below {RESULTS}; normbench run SUITE makes one, or name another")
    if len(found) > 1:
        raise UsageError(f"which results folder? below {RESULTS} lie, newest first: {', '.join(map(str, found))}")
    say(f"using {found[0]}, the only results folder below {RESULTS}")
    return found[0]


#: The results that a command reads; `chosen` says which where it is given none.
Folder = Annotated[
    Path | None,
    typer.Argument(
        metavar="DIR|FILE",
        help=f"A results folder, or an export of one.  [default: {THE_ONE}]",
        autocompletion=completion.results,
    ),
]

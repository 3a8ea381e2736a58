"""What is installed: which distribution a module or a file belongs to, and its version. Nothing is imported for it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import sys
import sysconfig
from collections.abc import Mapping
from functools import cache
from pathlib import Path

#: normbench's packages: they are in no code print and in no list, since task versions and recipes pin what they do.
OURS = frozenset({"normbench", "normbench_plugins", "normbench_suites"})


@cache
def version_of(module: str) -> str:
    """Return "distribution==version" of a module from outside a plugin; empty for Python's own and normbench."""
    top = module.partition(".")[0]
    if top in sys.stdlib_module_names or top == "normbench":
        return ""
    own = sorted(set(owners().get(top, ())))
    return " ".join(f"{owner}=={importlib.metadata.version(owner)}" for owner in own) or top


@cache
def owners() -> Mapping[str, list[str]]:
    """Return the distributions that each top-level module belongs to."""
    return importlib.metadata.packages_distributions()


def top_folder(top: str) -> Path | None:
    """Return the folder of a top-level package, without importing it; None for a single file."""
    spec = importlib.util.find_spec(top)
    locations = list(spec.submodule_search_locations or ()) if spec else []
    return Path(locations[0]).resolve() if locations else None


def is_owned(path: str) -> bool:
    """Whether a file belongs to Python, to normbench, or to a distribution that lists it as installed."""
    path = os.path.realpath(path)
    if path.startswith(_ours()):
        return True
    for root in _roots():
        if path.startswith(root):
            return path[len(root) :] in _recorded(root)
    return path.startswith(_pythons())


@cache
def _ours() -> tuple[str, ...]:
    return tuple(f"{folder}{os.sep}" for folder in map(top_folder, sorted(OURS)) if folder)


@cache
def _pythons() -> tuple[str, ...]:
    """Return the folders of Python's own library."""
    return tuple({os.path.realpath(sysconfig.get_path(name)) + os.sep for name in ("stdlib", "platstdlib")})


@cache
def _roots() -> tuple[str, ...]:
    """Return the folders on the path in which distributions are installed, the deepest first."""
    roots = set()
    for entry in sys.path:
        root = os.path.realpath(entry or ".") + os.sep
        if os.path.isdir(root) and any(name.endswith((".dist-info", ".egg-info")) for name in os.listdir(root)):
            roots.add(root)
    return tuple(sorted(roots, key=len, reverse=True))


@cache
def _recorded(root: str) -> frozenset[str]:
    """Return the files that distributions in a folder have installed there, relative to it."""
    files: set[str] = set()
    for name in os.listdir(root):
        record = os.path.join(root, name, "RECORD")
        if name.endswith(".dist-info") and os.path.isfile(record):
            with open(record, encoding="utf-8", errors="replace") as file:
                files |= {line.rsplit(",", 2)[0].strip('"') for line in file}
    return frozenset(files)

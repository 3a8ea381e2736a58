"""Code prints: hashes by which an edited layer, or an edited task, is trained again.

A print covers the source file of each function that a description names, and the files of the same package (or, for a
single file, beside it) that it imports, found by reading, without importing anything. What lies outside is represented
by its distribution's version. normbench itself is left out: its behaviour is pinned by task versions and recipes.

A file is read once in a process, as Python imports it once: a print is of the code that runs, not of a later edit.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.metadata
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from normbench.contract import Norm, Task
from normbench.plugins import Offered, Plugin

#: What `repr` shows of an object that has no better: it reads differently in every process.
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def norm_print(offered: Offered[Norm], params: dict[str, Any]) -> str | None:
    """Return the print of a norm, or None where its source can't be read: such a norm is always trained anew."""
    norm = offered.thing
    described = (norm.placement, sorted(norm.params.items()), sorted(norm.layouts), norm.traits_with(params))
    return _print(offered.plugin, [norm.layer], repr(described))


def task_print(offered: Offered[Task]) -> str | None:
    """Return the print of a task, or None where its source can't be read."""
    task = offered.thing
    functions = [fn for fn in (task.data, task.network, task.loss, task.score, task.augment) if fn is not None]
    return _print(offered.plugin, functions, repr((sorted(task.params.items()), task.augment_draws)))


def _print(plugin: Plugin, functions: list[Callable[..., Any] | str], described: str) -> str | None:
    if _ADDRESS.search(described):
        return None
    home = _Home(plugin)
    parts = {described}
    for fn in functions:
        found = _parts(fn, home)
        if found is None:
            return None
        parts |= found
    return hashlib.sha256("\n".join(sorted(parts)).encode()).hexdigest()[:16]


class _Home:
    """Where a plugin's own modules lie: below its package, or beside its single file (or, in a session, a script)."""

    def __init__(self, plugin: Plugin | None, file: Path | None = None) -> None:
        module = plugin.module if plugin else None
        self.file = Path(module.__file__).resolve() if module and module.__file__ else file
        self._top = module.__name__.partition(".")[0] if plugin and plugin.distribution and module else None
        package = _top_folder(self._top) if self._top else None
        self.base = package.parent if package else (self.file.parent if self.file else None)

    def find(self, module: str) -> Path | None:
        """Return the file of one of the plugin's own modules, or None where the module is not its own."""
        if self.base is None or (self._top is not None and module.partition(".")[0] != self._top):
            return None
        path = self.base.joinpath(*module.split("."))
        for candidate in (path.with_suffix(".py"), path / "__init__.py"):
            if candidate.is_file():
                return candidate
        return None

    def module(self, file: Path) -> str | None:
        """Return the name of the module in one of the plugin's own files, or None where the file is not its own."""
        if self.base is None or not file.is_relative_to(self.base):
            return None
        parts = file.relative_to(self.base).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        return name if self._top is None or parts[0] == self._top else None


def _top_folder(top: str) -> Path | None:
    """Return the folder of a top-level package, without importing it; None for a single file."""
    spec = importlib.util.find_spec(top)
    locations = list(spec.submodule_search_locations or ()) if spec else []
    return Path(locations[0]).resolve() if locations else None


def _parts(fn: Callable[..., Any] | str, home: _Home) -> set[str] | None:
    """Return what one function's print is made of, or None where there is no source to read."""
    if isinstance(fn, str):
        module = fn.partition(":")[0]
        file = home.find(module)
        return {fn, _version(module)} if file is None else {fn, *_closure(file, module, home)}
    bare = fn
    while isinstance(bare, functools.partial):
        bare = bare.func
    described = repr((fn.args, sorted(fn.keywords.items()))) if isinstance(fn, functools.partial) else ""
    if _ADDRESS.search(described):
        return None
    bare = bare if inspect.isroutine(bare) or inspect.isclass(bare) else type(bare)
    try:
        source = Path(inspect.getsourcefile(bare) or "")
        if source.is_file():
            home = home if home.base else _Home(None, source.resolve())
            own = home.module(source.resolve())
            if own is not None:
                return {described, bare.__qualname__, *_closure(source.resolve(), own, home)}
            if home.file is not None:
                # A layer of another library: its version, and the file that chose it.
                return {described, bare.__qualname__, _version(bare.__module__), _hashed(home.file)}
        return {described, *_sources(bare, set())} - {""}
    except (OSError, TypeError, _UnprintableError):
        return None


class _UnprintableError(Exception):
    """An object that reads differently in every process."""


def _sources(thing: Any, seen: set[int]) -> Iterator[str]:
    """Yield the source of a function or class of a notebook, and of all that it refers to there.

    A class is read method by method: Python knows no source of a class whose module is no file.
    """
    if id(thing) in seen:
        return
    seen.add(id(thing))
    if inspect.isclass(thing):
        yield f"{thing.__qualname__} {[base.__qualname__ for base in thing.__bases__]}"
        named = {name: value for name, value in vars(thing).items() if not name.startswith("__") or callable(value)}
    else:
        yield inspect.getsource(thing)
        around = inspect.getclosurevars(thing)
        named = {**around.globals, **around.nonlocals}
    for name, value in sorted(named.items()):
        yield from _named_source(name, getattr(value, "__func__", value), thing.__module__, seen)


def _named_source(name: str, value: Any, module: str, seen: set[int]) -> Iterator[str]:
    code = inspect.isclass(value) or inspect.isfunction(value)
    if inspect.ismodule(value):
        yield _version(value.__name__)
    elif code and value.__module__ == module:
        yield from _sources(value, seen)
    elif code or inspect.isroutine(value):
        yield f"{name} {value.__qualname__} {_version(value.__module__ or '')}"
    elif _ADDRESS.search(repr(value)):
        raise _UnprintableError(name)
    else:
        yield f"{name} {value!r}"


def _closure(file: Path, module: str, home: _Home) -> set[str]:
    """Return the hashes of a file and of the plugin's own files that it imports, and the versions of all else."""
    parts: set[str] = set()
    todo, seen = [(file, module)], {file}
    while todo:
        path, name = todo.pop()
        parts.add(f"{name} {_hashed(path)}")
        for imported in _imports(path, name):
            own = next((found for found in (home.find(candidate) for candidate in imported) if found), None)
            if own is None:
                parts.add(_version(imported[-1]))
            elif own not in seen:
                seen.add(own)
                todo.append((own, home.module(own) or name))
    return parts - {""}


@functools.cache
def _imports(path: Path, module: str) -> tuple[tuple[str, ...], ...]:
    """Return what a file imports, each as candidate module names, the likeliest first; of a broken file nothing."""
    return tuple(_imported(path, module))


def _imported(path: Path, module: str) -> Iterator[tuple[str, ...]]:
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield (alias.name,)
        elif isinstance(node, ast.ImportFrom):
            origin = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                origin = ".".join(part for part in (*above, origin) if part)
            for alias in node.names:
                yield (f"{origin}.{alias.name}" if origin else alias.name, origin or alias.name)


@functools.cache
def _hashed(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@functools.cache
def _owners() -> dict[str, list[str]]:
    return {top: list(owners) for top, owners in importlib.metadata.packages_distributions().items()}


@functools.cache
def _version(module: str) -> str:
    """Return "distribution==version" of a module from outside the plugin; empty for Python's own and normbench."""
    top = module.partition(".")[0]
    if top in sys.stdlib_module_names or top in ("normbench", "__future__"):
        return ""
    owners = sorted(set(_owners().get(top, ())))
    return " ".join(f"{owner}=={importlib.metadata.version(owner)}" for owner in owners) or top

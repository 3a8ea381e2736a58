"""Code prints: hashes by which an edited layer, or an edited task, is trained again.

A print covers the source file of each function that a description names, and the files of the same package (or, for a
single file, beside it) that it imports, found by reading, without importing anything. What lies outside is represented
by its distribution's version. normbench itself is left out: its behaviour is pinned by task versions and recipes.

A file is read once in a process, until `read_anew`: a worker's print is of the code that it loaded, not of a later
edit. What was registered in a session has no file that says what it is: its print is the hash of the object.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from normbench import digests
from normbench.contract import Norm, Task, computing
from normbench.distributions import version_of
from normbench.errors import UsageError
from normbench.loading import without_namespace
from normbench.registry import SESSION, Offered, Plugin, Registry
from normbench.trials import Cell

#: What `repr` shows of an object that has no better: it reads differently in every process.
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def norm_print(offered: Offered[Norm], params: dict[str, Any]) -> str | None:
    """Return the print of a norm, or None where its source can't be read: such a norm is always trained anew."""
    norm = offered.thing
    if offered.plugin.name == SESSION:
        return offered.code
    described = (norm.placement, sorted(norm.params.items()), sorted(norm.layouts), norm.traits_with(params))
    return _print(offered.plugin, [norm.layer], repr(described))


def whole_print(name: str, params: Mapping[str, Any], registry: Registry, where: str = "") -> str | None:
    """Return the print of a norm by name, of one made of two both prints. None where one has none.

    Raises UsageError where one is not at hand.
    """
    prints = [norm_print(offered, own) for offered, own in registry.parts(name, params, where)]
    return None if None in prints else "+".join(filter(None, prints))


def task_print(offered: Offered[Task]) -> str | None:
    """Return the print of a task, or None where its source can't be read."""
    task = offered.thing
    if offered.plugin.name == SESSION:
        return offered.code
    return _print(offered.plugin, computing(task), repr((sorted(task.params.items()), task.augment_draws)))


def read_anew() -> None:
    """Forget the files that were read: prints from now on are of files as they are now."""
    _hashed.cache_clear()
    _imports.cache_clear()


def _print(plugin: Plugin, functions: list[Callable[..., Any] | str], described: str) -> str | None:
    described = without_namespace(described)
    if _ADDRESS.search(described):
        return None
    home = _Home(plugin)
    parts = {described}
    for fn in functions:
        of_function = _parts(fn, home)
        if of_function is None:
            return None
        parts |= of_function
    return hashlib.sha256("\n".join(sorted(parts)).encode()).hexdigest()[:16]


class _Home:
    """Where a plugin's own modules lie: below its package, or beside its single file."""

    def __init__(self, plugin: Plugin) -> None:
        module = plugin.module
        self.file = Path(module.__file__).resolve() if module and module.__file__ else None
        self._top = module.__name__.partition(".")[0] if plugin.distribution and module else None
        self.base = plugin.base

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


def _parts(fn: Callable[..., Any] | str, home: _Home) -> set[str] | None:
    """Return what one function's print is made of, or None where there is no source to read."""
    if isinstance(fn, str):
        fn = without_namespace(fn)
        module = fn.partition(":")[0]
        file = home.find(module)
        return {fn, version_of(module)} if file is None else {fn, *_closure(file, module, home)}
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
            own = home.module(source.resolve())
            if own is not None:
                return {described, bare.__qualname__, *_closure(source.resolve(), own, home)}
            if home.file is not None:
                # A layer of another library: its version, and the file that chose it.
                return {described, bare.__qualname__, version_of(bare.__module__), _hashed(home.file)}
    except (OSError, TypeError):
        pass
    code = digests.digest(fn, version_of)
    return {code} if code else None


def _closure(file: Path, module: str, home: _Home) -> set[str]:
    """Return the hashes of a file and of the plugin's own files that it imports, and the versions of all else."""
    parts: set[str] = set()
    todo, seen = [(file, module)], {file}
    while todo:
        path, name = todo.pop()
        parts.add(f"{name} {_hashed(path)}")
        for imported in _imports(path, name):
            own = next(filter(None, map(home.find, imported)), None)
            if own is None:
                parts.add(version_of(imported[-1]))
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


def with_prints(cell: Cell, registry: Registry, where: str = "") -> Cell:
    """Return a cell with the prints of the code at hand. Raises UsageError where that is of another task version."""
    norm_print = whole_print(cell.norm, cell.params, registry, where)
    version = registry.task(cell.task, where).version
    if version != cell.task_version:
        raise UsageError(f"{where}: has version {cell.task_version} of task {cell.task}; at hand is version {version}")
    return msgspec.structs.replace(cell, norm_print=norm_print, task_print=task_print(registry.tasks[cell.task]))

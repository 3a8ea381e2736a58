"""What a trial was made from: the files that its norm and its task really read, and whether they are as they were.

`loading` records what modules read; here that becomes a list whose paths mean the same on another machine, and a stored
list is compared with the files at hand. That imports nothing.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.machinery import PathFinder
from pathlib import Path
from types import MappingProxyType
from typing import Any

from normbench import reads
from normbench.contract import Norm, Task, computing
from normbench.errors import UsageError
from normbench.registry import Offered, Registry
from normbench.trials import Source

#: A list, as it is compared with others: the hash of each file.
Files = Mapping[tuple[str, str], str]


def made_from(*offered: Offered[Norm] | Offered[Task]) -> tuple[Source, ...]:
    """Return the list of what a norm or a task, or both, have read in this process; empty for what is built in."""
    sources: dict[tuple[str, str], Source] = {}
    plugins = {one.plugin.name: one.plugin for one in offered if not one.plugin.built_in}
    bases = {f"plugin {name}": base for name, plugin in plugins.items() if (base := plugin.base) is not None}
    for path, (module, digest) in reads.read(_roots(offered)).items():
        at, relative = _placed(Path(path), module, bases)
        source = Source(at=at, path=relative, sha256=digest)
        sources[source.file] = source
    return tuple(source for _, source in sorted(sources.items()))


def require_unedited(offered: Iterable[Offered[Norm] | Offered[Task]]) -> None:
    """Raise UsageError where a file was edited since this process loaded it: it can't be loaded a second time."""
    path = reads.edited(_roots(offered))
    if path is not None:
        raise UsageError(
            f"{path}: edited since this process loaded it; start Python anew, or train in workers, which load it fresh "
            "(the executor processes)"
        )


def agree(one: Files | None, other: Files | None) -> bool:
    """Whether two lists have the same content of each file that both have. None stands for a record without a list."""
    if not one or not other:
        return True
    return all(other.get(file, digest) == digest for file, digest in one.items())


class AtHand:
    """The files at hand, each read once: whether those of stored lists are as they were. `lists` are those, by key."""

    def __init__(self, registry: Registry, lists: Mapping[str, Files] = MappingProxyType({})) -> None:
        self._lists = lists
        self._edited: dict[str, str | None] = {}
        bases = [(f"plugin {plugin.name}", plugin.base) for plugin in registry.plugins if not plugin.built_in]
        self._bases = {at: base for at, base in bases if base is not None}
        self._hash_of = functools.cache(reads.hash_of)
        self._module = functools.cache(_module_file)

    def edited(self, key: str) -> str | None:
        """Return for a stored list what `changed` does; None for a record without one."""
        if key not in self._edited:
            self._edited[key] = self.changed(self._lists.get(key, {}))
        return self._edited[key]

    def changed(self, files: Files) -> str | None:
        """Return the path of the first file that is not what it was, or is not found; None where all are."""
        for (at, path), digest in files.items():
            if digest not in map(self._hash_of, self._places(at, path)):
                return path
        return None

    def _places(self, at: str, path: str) -> Iterator[Path]:
        """Yield where a file may lie: one place, but for a file of which only the name is known."""
        if at == "module":
            file = self._module(path)
            yield from [file] if file else []
        elif at == "folder":
            yield Path.cwd() / path
        elif at == "home":
            yield Path.home() / path
        elif at in self._bases:
            yield self._bases[at] / path
        elif not at:
            yield from (folder / path for folder in [*self._bases.values(), Path.cwd(), *map(Path, sys.path)])


def _roots(offered: Iterable[Offered[Norm] | Offered[Task]]) -> set[str]:
    """Return the modules that descriptions begin with: a plugin's own, and those of the functions that it names."""
    roots: set[str] = set()
    for one in offered:
        if one.plugin.built_in:
            continue
        roots.add(one.plugin.node)
        if one.plugin.module is not None:
            roots.add(one.plugin.module.__name__)
        traits = getattr(one.thing, "traits", None)
        for function in [*computing(one.thing), *([traits] if callable(traits) else [])]:
            roots.update(_modules(function))
    return roots - {"__main__"}


def _modules(function: Callable[..., Any] | str) -> Iterator[str]:
    """Yield the modules of a function, of what it wraps, and of the object whose method it is."""
    if isinstance(function, str):
        yield function.partition(":")[0]
        return
    while isinstance(function, functools.partial):
        function = function.func
    yield type(function).__module__
    for named in (function, type(getattr(function, "__self__", None))):
        module = getattr(named, "__module__", None)
        if isinstance(module, str):
            yield module


def _placed(path: Path, module: str, bases: Mapping[str, Path]) -> tuple[str, str]:
    """Return where a file lies, so that neither a machine nor a person is named."""
    for at, base in bases.items():
        if path.is_relative_to(base):
            return at, path.relative_to(base).as_posix()
    if module and _module_file(module) == path.resolve():
        return "module", module
    for at, base in (("folder", Path.cwd()), ("home", Path.home())):
        # From the root, or the folder of all homes, a path would have a person's name.
        if path.is_relative_to(base) and base not in Path.home().parents:
            return at, path.relative_to(base).as_posix()
    return "", path.name


def _module_file(name: str) -> Path | None:
    """Return the file of a module that can be imported, without importing it or a package above it."""
    top, *inner = name.split(".")
    spec = next((spec for finder in sys.meta_path if (spec := finder.find_spec(top, None)) is not None), None)
    for i in range(len(inner)):
        if spec is None or spec.submodule_search_locations is None:
            return None
        spec = PathFinder.find_spec(".".join([top, *inner[: i + 1]]), list(spec.submodule_search_locations))
    return Path(os.path.realpath(spec.origin)) if spec and spec.origin and spec.has_location else None

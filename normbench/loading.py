"""Loading the code of plugins: each file apart from the others, from source; `reads` notes what was loaded."""

from __future__ import annotations

import builtins
import functools
import hashlib
import importlib.util
import os
import re
import sys
from collections.abc import Iterable, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from normbench.distributions import OURS, is_owned
from normbench.reads import audit, edited, graph, hash_of, is_ours, note_import, readers, unnoticed

#: How the name begins that a plugin file's folder has as a package; what follows is a hash of the folder's path.
NAMESPACE = "normbench_file_"
_NAMESPACED = re.compile(NAMESPACE + r"[0-9a-f]+\.")


def watch() -> None:
    """Record from now on what plugins read; again, it does nothing."""
    if not graph.watching:
        graph.watching = True
        sys.meta_path.insert(0, _Finder())
        sys.addaudithook(audit)
        importlib.import_module = _import_module(importlib.import_module)


def load_file(file: Path) -> ModuleType:
    """Import a plugin's file, and with it what it imports from its folder, under names that no other plugin has.

    The folder is a package of a name of its own, so that two plugins may each have a `layer.py` beside them. A file is
    loaded once, until `forget_edited`. Raises whatever the file raises.
    """
    path = file.resolve()
    if path.suffix != ".py":
        raise ImportError(f"{file.name} is no Python file, whose name ends in .py")
    watch()
    name = _module_name(path)
    if name in sys.modules:
        return sys.modules[name]
    space = _space_of(name)
    if space not in sys.modules:
        sys.modules[space] = package = ModuleType(space)
        package.__spec__ = ModuleSpec(space, None, is_package=True)
        package.__spec__.submodule_search_locations = package.__path__ = [str(path.parent)]
    spec = importlib.util.spec_from_file_location(name, path, loader=_Loader(name, str(path)))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before = set(sys.modules)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        # What lies beside it may be what is wrong, and be mended.
        _forget({other for other in sys.modules if _space_of(other) == space} - before)
        raise
    return module


def forget_edited(files: Iterable[Path]) -> bool:
    """Let plugins' files be loaded anew, with all of their folders, where one or what it read was edited since.

    Returns whether there was any.
    """
    names = [name for name in (_module_name(file.resolve()) for file in files) if name in sys.modules]
    spaces = {_space_of(name) for name in names if edited([name]) is not None}
    _forget(known for known in [*sys.modules, *graph.nodes] if _space_of(known) in spaces)
    return bool(spaces)


def _forget(modules: Iterable[str]) -> None:
    for name in modules:
        sys.modules.pop(name, None)
        graph.nodes.pop(name, None)


def in_namespace(module: str, name: str) -> str:
    """Return the name under which a plugin's module finds another: in its folder's package, where one is there."""
    space = _space_of(module)
    return f"{space}.{name}" if space and _is_beside(space, name) else name


def without_namespace(text: str) -> str:
    """Return a text with the names of modules as their files have them."""
    return _NAMESPACED.sub("", text)


def _module_name(file: Path) -> str:
    """Return the name that a plugin's file has as a module, whatever its own name is."""
    stem = re.sub(r"\W", "_", file.stem)
    own = stem if stem == file.stem else f"{stem}_{_short(file.name)}"
    return f"{NAMESPACE}{_short(str(file.parent))}.{own}"


def _short(text: str) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:8]


def _space_of(module: str) -> str:
    return module.partition(".")[0] if module.startswith(NAMESPACE) else ""


def _is_beside(space: str, name: str) -> bool:
    """Whether a module lies in a plugin file's folder, and is not Python's own."""
    top = name.partition(".")[0]
    package = sys.modules.get(space)
    if package is None or top in sys.stdlib_module_names or top in OURS:
        return False
    if f"{space}.{top}" in sys.modules:
        return True
    spec = PathFinder.find_spec(f"{space}.{top}", list(package.__path__))
    if spec is None:
        return False
    # A folder without __init__.py is a package only where nothing else has its name.
    return spec.origin is not None or PathFinder.find_spec(top) is None


class _Loader(SourceFileLoader):
    """Loads a module from its source, never from what was compiled before, and notes what was loaded."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        with unnoticed():
            source = self.get_data(path)
        graph.nodes[fullname].files[os.path.abspath(path)] = hashlib.sha256(source).hexdigest()
        for importer in readers():
            graph.nodes[importer].imports.add(fullname)
        code: CodeType = self.source_to_code(source, path)
        return code

    def exec_module(self, module: ModuleType) -> None:
        # Its own import statement: so the host's and other libraries' stay as they are.
        module.__dict__["__builtins__"] = {**vars(builtins), "__import__": _import}
        super().exec_module(module)


class _Finder:
    """Finds what the other finders find, and has plugins' modules loaded by `_Loader`."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if is_ours(name):
            return None
        for finder in sys.meta_path:
            if finder is self or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                return self._with_loader(spec)
        return None

    def _with_loader(self, spec: ModuleSpec) -> ModuleSpec:
        if spec.origin is None or not spec.has_location:
            return spec
        if not spec.name.startswith(NAMESPACE) and is_owned(spec.origin):
            return spec
        if type(spec.loader) is SourceFileLoader:
            spec.loader = _Loader(spec.name, spec.origin)
        else:  # compiled code, say
            graph.nodes[spec.name].files[os.path.abspath(spec.origin)] = hash_of(spec.origin)
        return spec


def _import(
    name: str,
    globals: dict[str, Any] | None = None,  # noqa: A002 - the names that Python calls it with
    locals: dict[str, Any] | None = None,  # noqa: A002
    fromlist: Sequence[str] | None = (),
    level: int = 0,
) -> Any:
    """Import for a plugin's module: what lies in its folder before all else; and note what it imported."""
    importer = (globals or {}).get("__name__") or ""
    own = in_namespace(importer, name) if level == 0 and importer else name
    imported = builtins.__import__(own, globals, locals, fromlist, level)
    if own != name and fromlist == []:
        # Compiled code, like that of pickle: it looks for the module by its name when this returns.
        known = sys.modules.get(name)
        if known is None or known.__name__.startswith(NAMESPACE):
            sys.modules[name] = sys.modules[own]
    if importer in graph.nodes:
        package = (globals or {}).get("__package__") or ""
        whole = importlib.util.resolve_name("." * level + own, package) if level else own
        note_import(importer, whole, fromlist or ())
    if own != name and not fromlist:
        return sys.modules[own[: len(own) - len(name)] + name.partition(".")[0]]
    return imported


def _import_module(original: Any) -> Any:
    """Return `importlib.import_module` as plugins' modules see it."""

    @functools.wraps(original)
    def import_module(name: str, package: str | None = None) -> ModuleType:
        importer = sys._getframe(1).f_globals.get("__name__") or ""
        own = name if name.startswith(".") else in_namespace(importer, name)
        module: ModuleType = original(own, package)
        for reader in readers():
            note_import(reader, module.__name__, ())
        return module

    return import_module

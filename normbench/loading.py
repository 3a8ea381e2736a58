"""Loading the code of plugins: each file apart from the others, from source, and remembering what was really read.

What a plugin is made of can't be found by reading it: a module may be imported by a computed name, a file opened beside
it. So it is recorded as it happens, in a graph. Its nodes are modules that no distribution owns; a module has the files
that were read for it, with a hash of what was loaded, and the modules that it imported. `read` collects what can be
reached from some modules.

Nothing is recorded before `watch` is called, which is when the first plugin that is not built in is loaded.
"""

from __future__ import annotations

import builtins
import functools
import hashlib
import importlib
import importlib.util
import os
import re
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, FrameType, ModuleType
from typing import Any

from normbench.distributions import OURS, is_owned

#: How the name begins that a plugin file's folder has as a package; what follows is a hash of the folder's path.
NAMESPACE = "normbench_file_"

#: Events of Python's that name a file.
_EVENTS = frozenset({"open", "os.rename", "ctypes.dlopen", "sqlite3.connect"})
_NAMESPACED = re.compile(NAMESPACE + r"[0-9a-f]+\.")
#: What is not a plugin's own, wherever a plugin lies: the machine's, and caches.
_NEVER = ("/proc", "/dev", "/sys", "/run")


@dataclass
class _Node:
    """What was read for a module: files, each with the hash of its content as it was loaded, and other modules."""

    files: dict[str, str] = field(default_factory=dict)
    imports: set[str] = field(default_factory=set)


class _Graph:
    """What modules have read, in this process."""

    def __init__(self) -> None:
        self.nodes: defaultdict[str, _Node] = defaultdict(_Node)
        #: Files that plugins wrote: what is read back from them is no source.
        self.written: set[str] = set()
        #: Folders of data and results, which are in no list.
        self.left_out: set[str] = set()
        #: Where what is read is noted if no module can be named that read it.
        self.asking: list[str] = []
        self.homes: dict[str, str] = {}
        self.watching = False
        self.busy = False


_graph = _Graph()


def watch() -> None:
    """Record from now on what plugins read; again, it does nothing."""
    if not _graph.watching:
        _graph.watching = True
        sys.meta_path.insert(0, _Finder())
        sys.addaudithook(_audit)
        importlib.import_module = _import_module(importlib.import_module)


def leave_out(*folders: Path | str) -> None:
    """Let files below these folders be in no list: the user's data, and results."""
    _graph.left_out |= {os.path.realpath(folder) + os.sep for folder in folders if folder}


class asking:  # noqa: N801 - used like a function
    """While this is entered a plugin is loaded or used: what no known module reads counts for the node `name`.

    `home` is the plugin's folder.
    """

    def __init__(self, name: str, home: Path | None = None) -> None:
        self._name = name
        if home is not None:
            _graph.homes[name] = str(home) + os.sep

    def __enter__(self) -> None:
        _graph.asking.append(self._name)

    def __exit__(self, *raised: object) -> None:
        _graph.asking.pop()


def read(roots: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Return what modules and all that they imported are made of: by path, the module's name or "", and the hash."""
    found: dict[str, tuple[str, str]] = {}
    todo, seen = list(roots), set()
    while todo:
        name = todo.pop()
        if name in seen or _is_ours(name):
            continue
        seen.add(name)
        if name not in _graph.nodes:
            _adopt(name)
        node = _graph.nodes.get(name)
        if node is None:
            continue
        origin = _origin(sys.modules.get(name))
        for path, digest in list(node.files.items()):
            if path not in _graph.written:
                found[path] = (name if path == origin else found.get(path, ("",))[0], digest)
        todo += node.imports
    return found


def edited(roots: Iterable[str]) -> str | None:
    """Return the path of a file that is not any more what this process read of it, for modules; None if all are."""
    return next((path for path, (_, digest) in read(roots).items() if digest != hash_of(path)), None)


def hash_of(path: str | Path) -> str:
    """Return the hash of a file's content, "" where it can't be read."""
    try:
        with _unnoticed(), open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


@contextmanager
def _unnoticed() -> Iterator[None]:
    """Open files for ourselves: what is opened meanwhile is nobody's source."""
    before, _graph.busy = _graph.busy, True
    try:
        yield
    finally:
        _graph.busy = before


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
    _make_package(_space_of(name), path.parent)
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
        _forget({other for other in sys.modules if _space_of(other) == _space_of(name)} - before)
        raise
    return module


def forget_edited(files: Iterable[Path]) -> bool:
    """Let plugins' files be loaded anew, with all of their folders, where one or what it read was edited since.

    Returns whether there was any.
    """
    names = [name for name in (_module_name(file.resolve()) for file in files) if name in sys.modules]
    spaces = {_space_of(name) for name in names if edited([name]) is not None}
    _forget(known for known in [*sys.modules, *_graph.nodes] if _space_of(known) in spaces)
    return bool(spaces)


def _forget(modules: Iterable[str]) -> None:
    for name in modules:
        sys.modules.pop(name, None)
        _graph.nodes.pop(name, None)


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


def _make_package(space: str, folder: Path) -> None:
    if space in sys.modules:
        return
    package = ModuleType(space)
    package.__path__ = [str(folder)]
    package.__spec__ = ModuleSpec(space, None, is_package=True)
    sys.modules[space] = package


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
        with _unnoticed():
            source = self.get_data(path)
        _graph.nodes[fullname].files[os.path.abspath(path)] = hashlib.sha256(source).hexdigest()
        for importer in _readers():
            _graph.nodes[importer].imports.add(fullname)
        code: CodeType = self.source_to_code(source, path)
        return code

    def exec_module(self, module: ModuleType) -> None:
        # Its own import statement: so the host's and other libraries' stay as they are.
        module.__dict__["__builtins__"] = _hooked_builtins()
        super().exec_module(module)


class _Finder:
    """Finds what the other finders find, and has plugins' modules loaded by `_Loader`."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if _is_ours(name):
            return None
        for finder in sys.meta_path:
            if finder is self or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                return self._with_loader(spec)
        return None

    def _with_loader(self, spec: ModuleSpec) -> ModuleSpec:
        if spec.origin is None or not spec.has_location or _is_owned_module(spec.name, spec.origin):
            return spec
        if type(spec.loader) is SourceFileLoader:
            spec.loader = _Loader(spec.name, spec.origin)
        else:  # compiled code, say
            _graph.nodes[spec.name].files[os.path.abspath(spec.origin)] = hash_of(spec.origin)
        return spec


def _is_owned_module(name: str, origin: str) -> bool:
    return not name.startswith(NAMESPACE) and is_owned(origin)


def _is_ours(name: str) -> bool:
    return name.partition(".")[0] in OURS


def _hooked_builtins() -> dict[str, Any]:
    return {**vars(builtins), "__import__": _import}


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
    found = builtins.__import__(own, globals, locals, fromlist, level)
    if own != name and fromlist == []:
        # Compiled code, like that of pickle: it looks for the module by its name when this returns.
        known = sys.modules.get(name)
        if known is None or known.__name__.startswith(NAMESPACE):
            sys.modules[name] = sys.modules[own]
    if importer in _graph.nodes:
        package = (globals or {}).get("__package__") or ""
        whole = importlib.util.resolve_name("." * level + own, package) if level else own
        _note_import(importer, whole, fromlist or ())
    if own != name and not fromlist:
        return sys.modules[own[: len(own) - len(name)] + name.partition(".")[0]]
    return found


def _import_module(original: Any) -> Any:
    """Return `importlib.import_module` as plugins' modules see it."""

    @functools.wraps(original)
    def import_module(name: str, package: str | None = None) -> ModuleType:
        importer = sys._getframe(1).f_globals.get("__name__") or ""
        own = name if name.startswith(".") else in_namespace(importer, name)
        found: ModuleType = original(own, package)
        for reader in _readers():
            _note_import(reader, found.__name__, ())
        return found

    return import_module


def _note_import(importer: str, name: str, fromlist: Sequence[str]) -> None:
    parts = name.split(".")
    items = [*fromlist, *(getattr(sys.modules.get(name), "__all__", ()) if "*" in fromlist else ())]
    names = {".".join(parts[: i + 1]) for i in range(len(parts))} | {f"{name}.{item}" for item in items}
    _graph.nodes[importer].imports |= {one for one in names if one in sys.modules}


def _readers() -> list[str]:
    """Return the nodes for which something is read now.

    That is the module that is being loaded, or else the modules whose functions are being called, of one plugin: what
    one plugin's layer reads inside another's network is its own. What a library reads while it is being loaded is the
    library's. Where no module is known, it is `asking`.
    """
    found: list[str] = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name = frame.f_globals.get("__name__") or ""
        loading = frame.f_code.co_name == "<module>" and name in sys.modules and frame.f_globals is frame.f_locals
        if name in _graph.nodes:
            if found and name.partition(".")[0] != found[0].partition(".")[0]:
                break
            found.append(name)
            if loading:
                break
        elif name != __name__ and _is_ours(name):
            break  # what called the plugin
        elif loading and is_owned(_origin(sys.modules[name]) or ""):
            return found
        frame = frame.f_back
    return found or _graph.asking[-1:]


def _audit(event: str, args: tuple[Any, ...]) -> None:
    """Note files that are opened, libraries that are loaded, and files that get another name: an audit hook."""
    if event not in _EVENTS or _graph.busy or not args or not isinstance(args[0], str | bytes | os.PathLike):
        return
    with _unnoticed(), suppress(OSError, ValueError):
        path = os.path.abspath(os.fsdecode(args[0]))
        if event == "os.rename":
            if path in _graph.written:
                _graph.written.add(os.path.abspath(os.fsdecode(args[1])))
        else:
            mode, flags = args[1:3] if event == "open" else ("r", 0)
            _opened(path, mode, flags)


def _opened(path: str, mode: str | None, flags: int | None) -> None:
    if (mode and set(mode) & set("wax")) or (flags or 0) & (os.O_WRONLY | os.O_CREAT | os.O_TRUNC):
        if _graph.asking and _readers():
            _graph.written.add(path)
        return
    if path.endswith(".pyc"):  # what was compiled stands for its source
        with suppress(ValueError, NotImplementedError):
            path = importlib.util.source_from_cache(path)
    readers = _readers()
    if readers and path not in _graph.written and _may_be_source(path, readers) and os.path.isfile(path):
        digest = hash_of(path)
        for reader in readers:
            # What was loaded first is what the process goes on with.
            _graph.nodes[reader].files.setdefault(path, digest)


def _may_be_source(path: str, readers: list[str]) -> bool:
    """Whether a file that was opened is no distribution's, no data, no result, no temporary file and in no cache."""
    real = os.path.realpath(path)
    if real.startswith(_never()) or is_owned(real):
        return False
    origins = filter(None, map(_origin, map(sys.modules.get, readers)))
    homes = {os.path.dirname(origin) + os.sep for origin in origins}
    homes |= {_graph.homes[name] for name in readers if name in _graph.homes}
    # Data that lies around a plugin does not make the plugin data.
    if any(real.startswith(data) and not any(home.startswith(data) for home in homes) for data in _graph.left_out):
        return False
    if not real.startswith(_passing()):
        return True
    beside = (homes | {os.getcwd() + os.sep}).difference(_passing())
    return any(path.startswith(folder) for folder in beside)


def _adopt(name: str) -> None:
    """Note a module that was loaded before anything was recorded: its file as it is, and the modules it refers to."""
    module = sys.modules.get(name)
    origin = _origin(module)
    if module is None or origin is None or is_owned(origin):
        return
    node = _graph.nodes[name]
    node.files[origin] = hash_of(origin)
    for value in list(vars(module).values()):
        other = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
        if isinstance(other, str) and other != "__main__":
            node.imports.add(other)


def _origin(module: ModuleType | None) -> str | None:
    spec = getattr(module, "__spec__", None)
    origin = getattr(spec, "origin", None) if spec is not None else getattr(module, "__file__", None)
    return os.path.abspath(origin) if isinstance(origin, str) and getattr(spec, "has_location", True) else None


@cache
def _never() -> tuple[str, ...]:
    caches = [os.path.expanduser("~/.cache"), os.path.expanduser("~/.config"), os.environ.get("XDG_CACHE_HOME", "")]
    compiled = os.path.join(tempfile.gettempdir(), "torchinductor_")
    return (*(folder + os.sep for folder in (*_NEVER, *map(os.path.realpath, filter(None, caches)))), compiled)


@cache
def _passing() -> tuple[str, ...]:
    """Return folders whose files are the machine's or temporary, unless a plugin lies beside them."""
    folders = [sys.prefix, sys.base_prefix, tempfile.gettempdir(), "/etc", "/usr", "/lib", "/var"]
    return tuple(os.path.realpath(folder) + os.sep for folder in folders)

"""What the code of plugins reads, remembered as it happens.

What a plugin is made of can't be found by reading it: a module may be imported by a computed name, a file opened beside
it. So it is recorded, in a graph. Its nodes are modules that no distribution owns; a module has the files that were
read for it, with a hash of what was loaded, and the modules that it imported. `read` collects what can be reached from
some modules.

`loading` notes the modules that it loads, and has `audit` called for other files. Nothing is recorded before its
`watch` is called, which is when the first plugin that is not built in is loaded.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from normbench.distributions import OURS, is_owned

#: Events of Python's that name a file.
_EVENTS = frozenset({"open", "os.rename", "ctypes.dlopen", "sqlite3.connect"})
#: What is not a plugin's own, wherever a plugin lies: the machine's, and caches.
_NEVER = ("/proc", "/dev", "/sys", "/run")
#: Modules that are on the stack because something is being recorded.
_RECORDING = frozenset({__name__, "normbench.loading"})


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


graph = _Graph()


def leave_out(*folders: Path | str) -> None:
    """Let files below these folders be in no list: the user's data, and results."""
    graph.left_out |= {os.path.realpath(folder) + os.sep for folder in folders if folder}


class asking:  # noqa: N801 - used like a function
    """Entered while a plugin is loaded or used: what is read by no known module counts for the node `name`.

    `home` is the plugin's folder.
    """

    def __init__(self, name: str, home: Path | None = None) -> None:
        self._name = name
        if home is not None:
            graph.homes[name] = str(home) + os.sep

    def __enter__(self) -> None:
        graph.asking.append(self._name)

    def __exit__(self, *raised: object) -> None:
        graph.asking.pop()


def read(roots: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Return what modules and all that they imported are made of: by path, the module's name or "", and the hash."""
    files: dict[str, tuple[str, str]] = {}
    todo, seen = list(roots), set()
    while todo:
        name = todo.pop()
        if name in seen or is_ours(name):
            continue
        seen.add(name)
        if name not in graph.nodes:
            _adopt(name)
        if name not in graph.nodes:
            continue
        node = graph.nodes[name]
        origin = origin_of(sys.modules.get(name))
        for path, digest in list(node.files.items()):
            if path not in graph.written:
                files[path] = (name if path == origin else files.get(path, ("",))[0], digest)
        todo += node.imports
    return files


def edited(roots: Iterable[str]) -> str | None:
    """Return the path of a file that was edited since this process read it for these modules; None if none was."""
    return next((path for path, (_, digest) in read(roots).items() if digest != hash_of(path)), None)


def hash_of(path: str | Path) -> str:
    """Return the hash of a file's content, "" where it can't be read."""
    try:
        with unnoticed(), open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


@contextmanager
def unnoticed() -> Iterator[None]:
    """Open files for ourselves: what is opened meanwhile is nobody's source."""
    before, graph.busy = graph.busy, True
    try:
        yield
    finally:
        graph.busy = before


def is_ours(name: str) -> bool:
    """Whether a module is normbench's own."""
    return name.partition(".")[0] in OURS


def note_import(importer: str, name: str, fromlist: Sequence[str]) -> None:
    """Note that a module imported another, and what it took from it."""
    parts = name.split(".")
    items = [*fromlist, *(getattr(sys.modules.get(name), "__all__", ()) if "*" in fromlist else ())]
    names = {".".join(parts[: i + 1]) for i in range(len(parts))} | {f"{name}.{item}" for item in items}
    graph.nodes[importer].imports |= {one for one in names if one in sys.modules}


def readers() -> list[str]:
    """Return the nodes for which something is read now.

    That is the module that is being loaded, or else the modules whose functions are being called, of one plugin: what
    one plugin's layer reads inside another's network is its own. What a library reads while it is being loaded is the
    library's. Where no module is known, it is `asking`.
    """
    reading: list[str] = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name = frame.f_globals.get("__name__") or ""
        loading = frame.f_code.co_name == "<module>" and name in sys.modules and frame.f_globals is frame.f_locals
        if name in graph.nodes:
            if reading and name.partition(".")[0] != reading[0].partition(".")[0]:
                break
            reading.append(name)
            if loading:
                break
        elif name not in _RECORDING and is_ours(name):
            break  # what called the plugin
        elif loading and is_owned(origin_of(sys.modules[name]) or ""):
            return reading
        frame = frame.f_back
    return reading or graph.asking[-1:]


def audit(event: str, args: tuple[Any, ...]) -> None:
    """Note files that are opened, libraries that are loaded, and files that get another name: an audit hook."""
    if event not in _EVENTS or graph.busy or not args or not isinstance(args[0], str | bytes | os.PathLike):
        return
    with unnoticed(), suppress(OSError, ValueError):
        path = os.path.abspath(os.fsdecode(args[0]))
        if event == "os.rename":
            if path in graph.written:
                graph.written.add(os.path.abspath(os.fsdecode(args[1])))
        else:
            mode, flags = args[1:3] if event == "open" else ("r", 0)
            _opened(path, mode, flags)


def _opened(path: str, mode: str | None, flags: int | None) -> None:
    if (mode and set(mode) & set("wax")) or (flags or 0) & (os.O_WRONLY | os.O_CREAT | os.O_TRUNC):
        if graph.asking and readers():
            graph.written.add(path)
        return
    if path.endswith(".pyc"):  # what was compiled stands for its source
        with suppress(ValueError, NotImplementedError):
            path = importlib.util.source_from_cache(path)
    reading = readers()
    if reading and path not in graph.written and _may_be_source(path, reading) and os.path.isfile(path):
        digest = hash_of(path)
        for reader in reading:
            # What was loaded first is what the process goes on with.
            graph.nodes[reader].files.setdefault(path, digest)


def _may_be_source(path: str, reading: list[str]) -> bool:
    """Whether a file that was opened is no distribution's, no data, no result, no temporary file and in no cache."""
    real = os.path.realpath(path)
    if real.startswith(_never()) or is_owned(real):
        return False
    origins = filter(None, map(origin_of, map(sys.modules.get, reading)))
    homes = {os.path.dirname(origin) + os.sep for origin in origins}
    homes |= {graph.homes[name] for name in reading if name in graph.homes}
    # Data that lies around a plugin does not make the plugin data.
    if any(real.startswith(data) and not any(home.startswith(data) for home in homes) for data in graph.left_out):
        return False
    if not real.startswith(_passing()):
        return True
    beside = (homes | {os.getcwd() + os.sep}).difference(_passing())
    return any(path.startswith(folder) for folder in beside)


def _adopt(name: str) -> None:
    """Note a module that was loaded before anything was recorded: its file as it is, and the modules it refers to."""
    module = sys.modules.get(name)
    origin = origin_of(module)
    if module is None or origin is None or is_owned(origin):
        return
    node = graph.nodes[name]
    node.files[origin] = hash_of(origin)
    for value in list(vars(module).values()):
        other = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
        if isinstance(other, str) and other != "__main__":
            node.imports.add(other)


def origin_of(module: ModuleType | None) -> str | None:
    """Return the path of a module's file; None where it has none."""
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

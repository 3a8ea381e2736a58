"""The plugin host: finds plugins, checks what each offers, and puts into quarantine what fails.

Each plugin is loaded alone, and registers everything or nothing, so that a bad one costs only itself.
"""

from __future__ import annotations

import configparser
import importlib.metadata
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar

import pluggy

from normbench import hookspecs, suites
from normbench.contract import Executor, Norm, Probe, SuiteFile, Task, hookimpl
from normbench.errors import UsageError, unknown
from normbench.refusals import RefusedError, at, reason

GROUP = "normbench"
ONLY, STRICT = "NORMBENCH_PLUGINS", "NORMBENCH_STRICT_PLUGINS"

Thing = TypeVar("Thing")


@dataclass(frozen=True)
class Plugin:
    """A plugin that was found: its name, where it comes from, and what it offers, by kind."""

    name: str
    origin: str
    distribution: str = ""
    version: str = ""
    module: ModuleType | None = None
    offers: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Quarantined:
    """A plugin that failed: why, how to be rid of it, and the names it would have registered, as far as known."""

    name: str
    origin: str
    distribution: str
    version: str
    error: str
    names: frozenset[str] = frozenset()

    @property
    def remedy(self) -> str:
        """The command that removes it."""
        return f"pip uninstall {self.distribution}"

    def __str__(self) -> str:
        title = " ".join(part for part in (self.name, self.version) if part)
        return f"plugin {title} failed: {self.error}; to be rid of it: {self.remedy}"


@dataclass(frozen=True)
class Offered(Generic[Thing]):
    """Something that a plugin offers, and the plugin."""

    thing: Thing
    plugin: Plugin


@dataclass(frozen=True)
class Registry:
    """Everything the plugins at hand offer, by name."""

    norms: dict[str, Offered[Norm]] = field(default_factory=dict)
    tasks: dict[str, Offered[Task]] = field(default_factory=dict)
    suites: dict[str, Offered[SuiteFile]] = field(default_factory=dict)
    probes: dict[str, Offered[Probe]] = field(default_factory=dict)
    executors: dict[str, Offered[Executor]] = field(default_factory=dict)
    plugins: list[Plugin] = field(default_factory=list)
    quarantined: list[Quarantined] = field(default_factory=list)

    def norm(self, name: str, where: str = "") -> Norm:
        """Return a norm. Raises UsageError with the nearest names; where its plugin failed, with the reason."""
        return self._find("norm", self.norms, name, where)

    def task(self, name: str, where: str = "") -> Task:
        """Return a task. Raises UsageError like `norm`."""
        return self._find("task", self.tasks, name, where)

    def suite(self, name: str, where: str = "") -> Path:
        """Return a suite's file. Raises UsageError like `norm`."""
        return self._find("suite", self.suites, name, where).path

    def probe(self, name: str, where: str = "") -> Probe:
        """Return a probe. Raises UsageError like `norm`."""
        return self._find("probe", self.probes, name, where)

    def executor(self, name: str, where: str = "") -> Executor:
        """Return an executor. Raises UsageError like `norm`."""
        return self._find("executor", self.executors, name, where)

    def _find(self, kind: str, table: dict[str, Offered[Thing]], name: str, where: str) -> Thing:
        if name in table:
            return table[name].thing
        prefix = f"{where}: " if where else ""
        for plugin in self.quarantined:
            if name in plugin.names:
                raise UsageError(f"{prefix}{kind} {name!r}: {plugin}")
        notes = [str(plugin) for plugin in self.quarantined]
        if ONLY in os.environ:
            notes.append(f"{ONLY}={os.environ[ONLY]} leaves out other plugins")
        raise unknown(kind, name, table, where, "; ".join(notes))

    def _tables(self) -> dict[str, dict[str, Offered[Any]]]:
        return {
            "norms": self.norms,
            "tasks": self.tasks,
            "suites": self.suites,
            "probes": self.probes,
            "executors": self.executors,
        }


_KINDS: dict[str, type] = {"norms": Norm, "tasks": Task, "suites": SuiteFile, "probes": Probe, "executors": Executor}
_session: list[Norm | Task | Probe] = []
#: What `_session` held when it was last packed for another process, or unpacked from one.
_packed = b""


@cache
def current(files: tuple[Path, ...] = ()) -> Registry:
    """Return the registry of installed plugins, of those in `files`, and of what was registered in this session.

    Raises UsageError in strict mode where a plugin failed.
    """
    registry = load(files)
    if registry.quarantined and strict():
        raise UsageError("; ".join(str(plugin) for plugin in registry.quarantined) + f" ({STRICT} is set)")
    return registry


def strict() -> bool:
    """Whether a plugin that fails is to end every command: for CI."""
    return os.environ.get(STRICT, "") not in ("", "0")


def register(thing: Norm | Task | Probe) -> None:
    """Register a norm, a task or a probe in this session; a second one of the same name replaces the first.

    Raises UsageError where a plugin has that name already, or for anything else than these three.
    """
    if not isinstance(thing, Norm | Task | Probe):
        raise UsageError(f"register takes a normbench.Norm, Task or Probe, not {thing!r}")
    before = list(_session)
    _session[:] = [other for other in _session if (type(other), other.name) != (type(thing), thing.name)] + [thing]
    failed = [plugin for plugin in load().quarantined if plugin.origin == "session"]
    if failed:
        _session[:] = before
        raise UsageError(failed[0].error)
    current.cache_clear()


def registered() -> bytes:
    """Return what was registered in this session, packed for another process.

    Raises UsageError for what can't travel.
    """
    global _packed
    if not _session:
        return b""
    import cloudpickle

    for thing in _session:
        try:
            cloudpickle.dumps(thing)
        except Exception as error:
            raise UsageError(
                f"{thing.name} was registered in this session, and can't be sent to another process "
                f"({type(error).__name__}: {' '.join(str(error).split())}); use --executor serial, or a plugin's file"
            ) from None
    packed: bytes = cloudpickle.dumps(_session)
    _packed = packed
    return packed


def receive(packed: bytes) -> None:
    """Register what another process packed with `registered`; nothing where it was this one.

    Raises UsageError where it needs a module that is not found here.
    """
    global _packed
    if packed and packed != _packed:
        import cloudpickle

        try:
            _session[:] = cloudpickle.loads(packed)
        except Exception as error:
            raise UsageError(
                "what was registered in the session that runs this can't be loaded in a worker "
                f"({type(error).__name__}: {' '.join(str(error).split())}); use --executor serial, or a plugin's file"
            ) from None
        _packed = packed
        current.cache_clear()


def load(files: Sequence[Path] = ()) -> Registry:
    """Find and load every plugin, each alone.

    What is installed and fails goes into quarantine. A file was asked for by name: raises UsageError, with the line.
    """
    registry = Registry()
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hookspecs)
    only = os.environ.get(ONLY)
    wanted = None if only is None else {name.strip() for name in only.split(",") if name.strip()}
    for point in sorted(_entry_points(registry), key=_turn):
        if wanted is None or point.name in wanted:
            distribution = point.dist.name if point.dist else ""
            version = point.dist.version if point.dist else ""
            found = Plugin(point.name, point.value, distribution, version)
            _add(registry, manager, found, point.load)
    for file in {file.resolve(): file for file in files}.values():
        if not file.is_file():
            raise UsageError(f"--plugin {file}: {'is a folder' if file.is_dir() else 'there is no such file'}")
        found = Plugin(file.stem, str(file))
        _add(registry, manager, found, lambda file=file: _import_file(file), file)  # type: ignore[misc]
        if not registry.plugins[-1].offers:
            raise UsageError(f"--plugin {file}: it offers nothing; a function under @normbench.hookimpl yields norms")
    if _session:
        _add(registry, manager, Plugin("session", "session"), lambda: _SessionPlugin(list(_session)))
    return registry


def _entry_points(registry: Registry) -> Iterable[importlib.metadata.EntryPoint]:
    """Yield the entry points of our group; a distribution whose list of them can't be read goes into quarantine."""
    seen = set()
    for distribution in importlib.metadata.distributions():
        try:
            text = distribution.read_text("entry_points.txt") or ""
            if GROUP not in text or distribution.name in seen:
                continue
            seen.add(distribution.name)  # of two on the path, the first is imported
            configparser.ConfigParser(delimiters="=", strict=False, interpolation=None).read_string(text)
            yield from distribution.entry_points.select(group=GROUP)
        except Exception as error:
            name, why = distribution.name, f"its entry_points.txt can't be read ({reason(error)})"
            registry.quarantined.append(Quarantined(name, "entry_points.txt", name, distribution.version, why))


def _turn(point: importlib.metadata.EntryPoint) -> tuple[bool, str, str]:
    """Order entry points: normbench's own first, so that no other's name for a norm puts them all into quarantine."""
    return point.dist is None or point.dist.name != GROUP, point.name, point.value


class _SessionPlugin:
    """What `normbench.register` was given, as a plugin."""

    def __init__(self, things: list[Norm | Task | Probe]) -> None:
        self._things = things

    @hookimpl
    def normbench_norms(self) -> Iterable[Norm]:
        return [thing for thing in self._things if isinstance(thing, Norm)]

    @hookimpl
    def normbench_tasks(self) -> Iterable[Task]:
        return [thing for thing in self._things if isinstance(thing, Task)]

    @hookimpl
    def normbench_probes(self) -> Iterable[Probe]:
        return [thing for thing in self._things if isinstance(thing, Probe)]


def _add(
    registry: Registry,
    manager: pluggy.PluginManager,
    found: Plugin,
    load_module: Callable[[], Any],
    file: Path | None = None,
) -> None:
    """Load one plugin and register all it offers, or put it into quarantine with the reason.

    Raises UsageError for one that `file` was asked for.
    """
    names: set[str] = set()
    tried, module = False, None
    try:
        module = load_module()
        if manager.has_plugin(found.name):
            raise ValueError(f"a plugin named {found.name!r} is loaded already; a name is for one plugin")
        tried = True
        if manager.register(module, found.name) is None:
            raise ValueError("its name is blocked")
        _check_hooks(manager, found.name)
        offers = {kind: _offered(manager, found.name, kind) for kind in _KINDS}
        names = {name for named in offers.values() for name in named}
        _check_free(registry, offers)
    except (Exception, SystemExit) as error:
        if tried and manager.has_plugin(found.name):
            manager.unregister(name=found.name)
        if file is not None:
            raise UsageError(f"--plugin {at(error, file, module)}: {reason(error)}") from error
        registry.quarantined.append(
            Quarantined(found.name, found.origin, found.distribution, found.version, reason(error), frozenset(names))
        )
        return
    if not isinstance(module, ModuleType):  # an object of a module, or the session
        module = sys.modules.get(found.origin.partition(":")[0]) if found.distribution else None
    plugin = Plugin(
        found.name,
        found.origin,
        found.distribution,
        found.version,
        module,
        {kind: tuple(named) for kind, named in offers.items() if named},
    )
    registry.plugins.append(plugin)
    for kind, named in offers.items():
        registry._tables()[kind].update({name: Offered(thing, plugin) for name, thing in named.items()})


def _check_hooks(manager: pluggy.PluginManager, plugin: str) -> None:
    """Refuse hooks that no specification knows, with the nearest names, and functions that only look like hooks."""
    known = [name for name, _ in inspect.getmembers(hookspecs, inspect.isfunction) if name.startswith("normbench_")]
    module = manager.get_plugin(plugin)
    marked = {caller.name for caller in manager.get_hookcallers(module) or []}
    for name in sorted(marked):
        if name not in known:
            raise RefusedError(name, str(unknown("hook", name, known)))
    for name in known:
        if name not in marked and callable(getattr(module, name, None)):
            raise RefusedError(name, f"{name} is no hook without @normbench.hookimpl above it")


def _offered(manager: pluggy.PluginManager, plugin: str, kind: str) -> dict[str, Any]:
    """Return what one plugin's hook yields, by name, each checked to be of its kind."""
    hook = f"normbench_{kind}"
    named: dict[str, Any] = {}
    for implementation in getattr(manager.hook, hook).get_hookimpls():
        if implementation.plugin_name != plugin:
            continue
        given, wanted = implementation.function(), _KINDS[kind].__name__
        if isinstance(given, _KINDS[kind]):
            raise RefusedError(hook, f"{hook} returned one {wanted}; it yields them, or returns a list")
        for thing in given if isinstance(given, Iterable) else [given] * (given is not None):
            if not isinstance(thing, _KINDS[kind]):
                raise RefusedError(hook, f"{hook} yielded {thing!r}; it yields normbench.{wanted} objects")
            name = _name(thing)
            if name in named:
                raise RefusedError(hook, f"{hook} yielded {name!r} twice")
            named[name] = thing
    return named


def _name(thing: Any) -> str:
    """Return the name of what a plugin offers; a suite's stands in its file."""
    return suites.read(Path(thing.path)).name if isinstance(thing, SuiteFile) else str(thing.name)


def _check_free(registry: Registry, offers: dict[str, dict[str, Any]]) -> None:
    for kind, table in registry._tables().items():
        for name in offers[kind]:
            if name in table:
                why = f"{kind[:-1]} {name!r} is registered by plugin {table[name].plugin.name!r} already"
                raise RefusedError(f"normbench_{kind}", why)


def _import_file(file: Path) -> ModuleType:
    """Import a plugin's file under its own name, with its folder on the path, as a script would be."""
    path = file.resolve()
    if "." in path.stem:
        raise ImportError(f"{file.name} can't be imported under its name; rename the file, without the dots")
    taken = sys.modules.get(path.stem)
    if taken is not None:
        if getattr(taken, "__file__", None) == str(path):
            return taken
        raise ImportError(f"the name {path.stem!r} is taken by another module; rename the file")
    installed = importlib.util.find_spec(path.stem)
    if installed is not None and installed.origin != str(path):
        raise ImportError(f"the name {path.stem!r} is taken by an installed module; rename the file")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[path.stem]
        raise
    return module

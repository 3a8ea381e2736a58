"""The plugin host: finds plugins, checks what each offers, and puts into quarantine what fails.

Each plugin is loaded alone, and registers everything or nothing, so that a bad one costs only itself.
"""

from __future__ import annotations

import configparser
import copy
import importlib.metadata
import os
import pickle
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pluggy

from normbench import digests, hookspecs, loading, reads, suites, surroundings
from normbench.contract import CONTRACT, Norm, Probe, SuiteFile, Task, computing, hookimpl
from normbench.distributions import version_of
from normbench.errors import UsageError, unknown
from normbench.hookspecs import KINDS
from normbench.refusals import RefusedError, at, reason
from normbench.registry import GROUP, ONLY, SESSION, SESSION_NODE, STRICT, Offered, Plugin, Quarantined, Registry
from normbench.texts import in_a_line


@dataclass(frozen=True)
class _Registered:
    """What `register` was given, as it was then: itself, packed for another process, and a hash of what it computes.

    Where it can't be packed, `error` says why.
    """

    thing: Norm | Task | Probe
    packed: bytes
    code: str | None
    error: str = ""

    @property
    def of(self) -> tuple[type, str]:
        """Its kind and name: a second of the same replaces it."""
        return type(self.thing), self.thing.name


_session: list[_Registered] = []
#: What `_session` held when it was last packed for another process, or unpacked from one.
_packed = b""


@cache
def current(files: tuple[Path, ...] = (), only: tuple[str, ...] = ()) -> Registry:
    """Return the registry of installed plugins, of those in `files`, and of what was registered in this session.

    `only` names those to load beside what is built in, () all. Raises UsageError in strict mode where a plugin failed.
    """
    registry = load(files, only)
    if registry.quarantined and strict():
        raise UsageError("; ".join(str(plugin) for plugin in registry.quarantined) + f" ({STRICT} is set)")
    return registry


def strict() -> bool:
    """Whether a plugin that fails is to end every command: for CI."""
    return os.environ.get(STRICT, "") not in ("", "0")


def refresh(files: Sequence[Path]) -> None:
    """Let `current` load plugins' files anew where one was edited since it was loaded."""
    if loading.forget_edited(files):
        current.cache_clear()


def register(thing: Norm | Task | Probe) -> None:
    """Register a norm, a task or a probe in this session; a second one of the same name replaces the first.

    It is taken as it is now: what its code refers to may change afterwards without an effect on it.

    Raises UsageError where a plugin has that name already, or for anything else than these three.
    """
    if not isinstance(thing, Norm | Task | Probe):
        raise UsageError(f"register takes a normbench.Norm, Task or Probe, not {thing!r}")
    before, new = list(_session), _registered(thing)
    _session[:] = [other for other in _session if other.of != new.of] + [new]
    failed = [plugin for plugin in load().quarantined if plugin.origin == SESSION]
    if failed:
        _session[:] = before
        raise UsageError(failed[0].error)
    current.cache_clear()


def _registered(thing: Norm | Task | Probe) -> _Registered:
    import cloudpickle

    code = digests.digest(_computing(thing), version_of)
    try:
        packed: bytes = cloudpickle.dumps(thing)
        return _Registered(cloudpickle.loads(packed), packed, code)
    except Exception as error:
        # What it computes with can't be kept as it is: the object itself is used, and nothing vouches for it.
        return _Registered(thing, b"", None, f"{type(error).__name__}: {in_a_line(error)}")


def _computing(thing: Norm | Task | Probe) -> list[Any]:
    """Return what of a description decides numbers; words do not, and what is in a trial's key need not."""
    names = ("placement", "layouts", "traits", "params", "augment_draws")
    return [*((name, getattr(thing, name)) for name in names if hasattr(thing, name)), *computing(thing)]


def registered() -> bytes:
    """Return what was registered in this session, packed for another process.

    Raises UsageError for what can't travel.
    """
    global _packed
    for one in _session:
        if one.error:
            raise UsageError(
                f"{one.thing.name} was registered in this session, and can't be sent to another process ({one.error}); "
                "use the executor serial, or a plugin's file"
            )
    _packed = pickle.dumps([(one.packed, one.code) for one in _session]) if _session else b""
    return _packed


def receive(packed: bytes) -> None:
    """Register what another process packed with `registered`; nothing where it was this one.

    Raises UsageError where it needs a module that is not found here.
    """
    global _packed
    if packed and packed != _packed:
        import cloudpickle

        loading.watch()
        try:
            with reads.asking(SESSION_NODE):
                _session[:] = [_Registered(cloudpickle.loads(one), one, code) for one, code in pickle.loads(packed)]
        except Exception as error:
            raise UsageError(
                "what was registered in the session that runs this can't be loaded in a worker "
                f"({type(error).__name__}: {in_a_line(error)}); use the executor serial, or a plugin's file"
            ) from None
        _packed = packed
        current.cache_clear()


def load(files: Sequence[Path] = (), only: Sequence[str] = ()) -> Registry:
    """Find and load plugins, each alone, as `current` says.

    What is installed and fails goes into quarantine. A file was asked for by name: raises UsageError, with the line.
    """
    registry = Registry()
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hookspecs)
    allowed = os.environ.get(ONLY)
    wanted = None if allowed is None else {name.strip() for name in allowed.split(",") if name.strip()}
    for point in sorted(_entry_points(registry), key=_turn):
        if (wanted is None or point.name in wanted) and (not only or _own(point) or point.name in only):
            distribution = point.dist.name if point.dist else ""
            version = point.dist.version if point.dist else ""
            plugin = Plugin(point.name, point.value, distribution, version)
            if not plugin.built_in:
                loading.watch()
            _add(registry, manager, plugin, point.load)
    for file in {file.resolve(): file for file in files}.values():
        if not file.is_file():
            raise UsageError(f"plugin {file}: {'is a folder' if file.is_dir() else 'there is no such file'}")
        if only and file.stem not in only:
            continue
        plugin = Plugin(file.stem, str(file))
        _add(registry, manager, plugin, lambda file=file: loading.load_file(file), file)  # type: ignore[misc]
        if not registry.plugins[-1].offers:
            raise UsageError(
                f"plugin {file}: it offers nothing; a function under @normbench.hookimpl yields norms, tasks, suites, "
                "probes or executors (normbench.register is for sessions)"
            )
    if _session:
        _add(registry, manager, Plugin(SESSION, SESSION), _session_plugin)
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
    return not _own(point), point.name, point.value


def _own(point: importlib.metadata.EntryPoint) -> bool:
    return point.dist is not None and point.dist.name == GROUP


def _session_plugin() -> SimpleNamespace:
    """Return what `normbench.register` was given, as a plugin: of each kind a hook."""

    def hook(kind: type) -> Callable[[], list[Any]]:
        return hookimpl(lambda: [one.thing for one in _session if isinstance(one.thing, kind)])

    return SimpleNamespace(**{f"normbench_{name}": hook(kind) for name, kind in KINDS.items()})


def _add(
    registry: Registry,
    manager: pluggy.PluginManager,
    plugin: Plugin,
    load_module: Callable[[], Any],
    file: Path | None = None,
) -> None:
    """Load one plugin, and leave the process as it was: what it prints goes to stderr, what it changes is put back."""
    if plugin.built_in:
        _register(registry, manager, plugin, load_module, file)
        return
    with surroundings.kept() as changed, surroundings.on_stderr(), surroundings.noted() as printed:
        _register(registry, manager, replace(plugin, changed=changed, printed=printed), load_module, file)
    if changed:
        what = surroundings.listed(changed)
        registry.notes.append(f"plugin {plugin.name!r} changed {what} as it was loaded, which was put back")


def _register(
    registry: Registry,
    manager: pluggy.PluginManager,
    plugin: Plugin,
    load_module: Callable[[], Any],
    file: Path | None,
) -> None:
    """Load one plugin and register all it offers, or put it into quarantine with the reason.

    Raises UsageError for one that `file` was asked for.
    """
    names: set[str] = set()
    tried, module = False, None
    try:
        with reads.asking(plugin.node):
            module = load_module()
        plugin = replace(plugin, contract=_contract(module))
        if manager.has_plugin(plugin.name):
            raise ValueError(f"a plugin named {plugin.name!r} is loaded already; a name is for one plugin")
        tried = True
        if manager.register(module, plugin.name) is None:
            raise ValueError("its name is blocked")
        _check_hooks(manager, plugin.name)
        offers = {kind: _offered(manager, plugin.name, kind) for kind in KINDS}
        names = {name for named in offers.values() for name in named}
        _check_free(registry, offers)
    except (Exception, SystemExit) as error:
        if tried and manager.has_plugin(plugin.name):
            manager.unregister(name=plugin.name)
        if file is not None:
            raise UsageError(f"plugin {at(error, file, module)}: {reason(error)}") from error
        described = (plugin.name, plugin.origin, plugin.distribution, plugin.version)
        registry.quarantined.append(Quarantined(*described, reason(error), frozenset(names)))
        return
    if not isinstance(module, ModuleType):  # an object of a module, or the session
        module = sys.modules.get(plugin.origin.partition(":")[0]) if plugin.distribution else None
    plugin = replace(plugin, module=module, offers={kind: tuple(named) for kind, named in offers.items() if named})
    registry.plugins.append(plugin)
    codes = {one.of: one.code for one in _session}
    for kind, named in offers.items():
        for name, thing in named.items():
            getattr(registry, kind)[name] = Offered(_in_place(thing, plugin), plugin, codes.get((type(thing), name)))


def _contract(module: Any) -> int | None:
    """Return the version of the contract that a plugin says it was written for. Raises RefusedError for a newer one."""
    name = "NORMBENCH_CONTRACT"
    declared = getattr(module, name, None)
    if declared is not None and (type(declared) is not int or declared < 1):
        raise RefusedError(name, f"{name} is {declared!r}; it is a whole number from 1, here at most {CONTRACT}")
    if declared is not None and declared > CONTRACT:
        why = f"it is written for contract {declared}; this normbench has {CONTRACT}, and is too old for it"
        raise RefusedError(name, why)
    return declared


def _in_place(thing: Any, plugin: Plugin) -> Any:
    """Return what a plugin's file offers, its strings "module:name" changed to where `load_file` puts that module."""
    if plugin.distribution or plugin.module is None or isinstance(thing, SuiteFile):
        return thing
    changed = {}
    for name in thing.FUNCTIONS:
        value = getattr(thing, name, None)
        if isinstance(value, str):
            module, _, function = value.partition(":")
            changed[name] = f"{loading.in_namespace(plugin.module.__name__, module)}:{function}"
    placed = copy.copy(thing)
    for name, value in changed.items():
        object.__setattr__(placed, name, value)  # it was checked as it was made, and is no other for that
    return placed


def _check_hooks(manager: pluggy.PluginManager, plugin: str) -> None:
    """Refuse hooks that no specification knows, with the nearest names, and functions that only look like hooks."""
    known = [f"normbench_{kind}" for kind in KINDS]
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
        given, wanted = implementation.function(), KINDS[kind].__name__
        if isinstance(given, KINDS[kind]):
            raise RefusedError(hook, f"{hook} returned one {wanted}; it yields them, or returns a list")
        for thing in given if isinstance(given, Iterable) else [given] * (given is not None):
            if not isinstance(thing, KINDS[kind]):
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
    for kind, named in offers.items():
        table = getattr(registry, kind)
        for name in named:
            if name in table:
                why = f"{kind[:-1]} {name!r} is registered by plugin {table[name].plugin.name!r} already"
                raise RefusedError(f"normbench_{kind}", why)

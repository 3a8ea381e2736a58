"""What plugins offer, by name; and the plugins that failed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar

from normbench.contract import Claim, Executor, Norm, Probe, SuiteFile, Task, Traits
from normbench.distributions import top_folder
from normbench.errors import UsageError, unknown
from normbench.spelling import WITH, checked, choice
from normbench.trials import Cell, Trial

GROUP = "normbench"
#: The plugin that has what `register` was given.
SESSION = "session"
SESSION_NODE = f"{SESSION} at {SESSION}"
ONLY, STRICT = "NORMBENCH_PLUGINS", "NORMBENCH_STRICT_PLUGINS"
Thing = TypeVar("Thing")


def package_folder(norm: str) -> str:
    """Return the name of the folder in which `normbench new-plugin` writes the package of a norm."""
    return f"{GROUP}-{norm}"


@dataclass(frozen=True)
class Plugin:
    """A plugin that was found: its name, where it comes from, and what it offers, by kind."""

    name: str
    origin: str
    distribution: str = ""
    version: str = ""
    module: ModuleType | None = None
    offers: dict[str, tuple[str, ...]] = field(default_factory=dict)
    #: The version of the contract that it says it was written for, where it says one.
    contract: int | None = None
    #: What its import changed that all of the process shares, in words, and what it printed.
    changed: Sequence[str] = ()
    printed: Sequence[str] = ()

    @property
    def built_in(self) -> bool:
        """Whether it is normbench's own."""
        return self.distribution == GROUP

    @property
    def node(self) -> str:
        """Its node in the graph of `reads`, for what is read by no known module."""
        return f"{self.name} at {self.origin}"

    @property
    def has_files(self) -> bool:
        """Whether what it reads is recorded: what is built in, or was registered in a session, may read nothing."""
        return not self.built_in and self.name != SESSION

    @property
    def base(self) -> Path | None:
        """The folder below which its own modules lie: that of its package, or of its single file."""
        if self.module is None or not self.module.__file__:
            return None
        file = Path(self.module.__file__).resolve()
        package = top_folder(self.module.__name__.partition(".")[0]) if self.distribution else None
        return package.parent if package else file.parent


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
    """Something that a plugin offers, and the plugin.

    `code` is a hash of what was registered in a session; None where it can't be hashed, and for all other plugins.
    """

    thing: Thing
    plugin: Plugin
    code: str | None = None


@dataclass(frozen=True)
class Registry:
    """Everything the plugins at hand offer: of each kind in `normbench.hookspecs.KINDS` a table, by name."""

    norms: dict[str, Offered[Norm]] = field(default_factory=dict)
    tasks: dict[str, Offered[Task]] = field(default_factory=dict)
    suites: dict[str, Offered[SuiteFile]] = field(default_factory=dict)
    probes: dict[str, Offered[Probe]] = field(default_factory=dict)
    executors: dict[str, Offered[Executor]] = field(default_factory=dict)
    claims: dict[str, Offered[Claim]] = field(default_factory=dict)
    plugins: list[Plugin] = field(default_factory=list)
    quarantined: list[Quarantined] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def warnings(self) -> list[str]:
        """Which plugins failed, and which changed what others share, each in a line."""
        return [*map(str, self.quarantined), *self.notes]

    @property
    def identity(self) -> str | None:
        """The name of the first norm that claims to normalize nothing: the share of a step is measured with it."""
        claims = ((name, offered.thing.traits) for name, offered in self.norms.items())
        return next((name for name, traits in claims if isinstance(traits, Traits) and traits.identity), None)

    def norm(self, name: str, where: str = "") -> Norm:
        """Return a norm. Raises UsageError with the nearest names; where its plugin failed, with the reason."""
        return self._find("norm", self.norms, name, where)

    def parts(
        self, name: str, params: Mapping[str, Any], where: str = ""
    ) -> Iterator[tuple[Offered[Norm], dict[str, Any]]]:
        """Yield a norm with its own parameters, then the one that it is made with, if any, with those of that.

        `params` are as `plan.asked_norm` returns them. Raises UsageError like `norm`.
        """
        self.norm(name, where)
        yield self.norms[name], {key: value for key, value in params.items() if key != WITH}
        if WITH in params:
            where = f"{where}: {WITH}" if where else f"{name}: {WITH}"
            second = choice(params[WITH], where)
            wraps = self.norm(second.name, where)
            yield self.norms[second.name], checked(wraps.params, second.params, f"{where}: {second.name}", wraps.types)

    def behind(self, of: Cell | Trial) -> list[Offered[Norm] | Offered[Task]]:
        """Return what trains: a norm, the one that it is made with, if any, and last the task."""
        return [*(offered for offered, _ in self.parts(of.norm, of.params)), self.tasks[of.task]]

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
        self.refuse_out_of_reach(kind, name, where)
        notes = [str(plugin) for plugin in self.quarantined]
        if ONLY in os.environ:
            notes.append(f"{ONLY}={os.environ[ONLY]} leaves out other plugins")
        if table is self.suites:
            notes.append(f"it is a norm: --norm {name}" if name in self.norms else "normbench list suites lists all")
        raise unknown(kind, name, table, where, "; ".join(notes))

    def refuse_out_of_reach(self, kind: str, name: str, where: str) -> None:
        """Raise UsageError for what is not here, but near: its plugin failed, or its package was not installed."""
        prefix = f"{where}: " if where else ""
        for plugin in self.quarantined:
            if name in plugin.names:
                raise UsageError(f"{prefix}{kind} {name!r}: {plugin}")
        package = package_folder(name)
        if "norm" in kind and ONLY not in os.environ and os.path.isfile(f"{package}/pyproject.toml"):
            raise UsageError(f"{prefix}no {kind} {name!r}; {package} is not installed yet: pip install -e {package}")

"""What a user asks to run, and the suite, the executor and the data folder that it names."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import platformdirs

from normbench import spelling, suites
from normbench.errors import UsageError
from normbench.registry import ONLY, Registry
from normbench.spelling import Choice
from normbench.suites import Suite
from normbench.throughput.wanted import AFTER_RUN


@dataclass(frozen=True)
class Request:
    """What a user asks to run, as values; `normbench.cli.options` has the option of each field.

    `suite` is a name or a file, `norms` are spelled as in a suite, `settings` are recipe values, or `rates`. `options`
    are parameters of the executor. `checkpoint_every` is in minutes, `seconds` is the time of a throughput session.
    `gates` replace those of the suite; `looks` are the numbers of seeds at which --until decided looks. `fresh`: with
    fresh seeds at the chosen rates, or at those that the folder `base` chose. `probes` are spelled like norms; once
    prepared they are those of the suite as well, as they are stored.

    `words` spells a field in messages, or one item of it, as whoever made the request does.
    """

    suite: str
    norms: Sequence[str] = ()
    seeds: int | Sequence[int] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    plugin_files: Sequence[Path] = ()
    out: Path | None = None
    data_dir: Path | None = None
    device: str = "auto"
    executor: str = "processes"
    options: Mapping[str, Any] = field(default_factory=dict)
    checkpoint_every: float | None = None
    probes: Sequence[str] = ()
    retry: bool = False
    throughput: bool = True
    seconds: float = AFTER_RUN.seconds
    gates: Mapping[str, str] = field(default_factory=dict)
    looks: Sequence[int] = ()
    fresh: bool = True
    base: Path | None = None
    words: Callable[..., str] = spelling.argument

    def data_folder(self) -> Path:
        """Return the folder of data: as given, else NORMBENCH_DATA, else in the user's cache folder.

        Raises UsageError for a folder that is not there.
        """
        named = os.environ.get("NORMBENCH_DATA")
        if self.data_dir is not None:
            folder, called = self.data_dir, f"{self.words('data_dir')} {self.data_dir}"
        elif named:
            folder, called = Path(named), f"NORMBENCH_DATA={named}"
        else:
            return platformdirs.user_cache_path("normbench").absolute() / "data"
        if not folder.is_dir():
            raise UsageError(f"{called}: there is no such folder")
        return folder.absolute()


def suite_file(name: str, registry: Registry) -> tuple[Path, str]:
    """Return the file of a suite, which is given by its name or as a path, and what to call it in messages."""
    path = Path(name)
    if path.suffix == ".toml" or "/" in name or os.sep in name:
        return path, f"suite {path.name}"
    return registry.suite(name), f"suite {name}"


def plugins_of(suite: Suite, file: Path, registry: Registry, where: str) -> list[Path]:
    """Return those plugins of a suite that are files, as they lie from where the suite's own `file` is.

    Raises UsageError for a file that is not there, and for an installed package that has no plugin in the registry.
    """
    files = []
    for i, plugin in enumerate(suite.plugins):
        here = f"{where}: plugins[{i}]"
        if not suites.is_file(plugin):
            _require_installed(plugin, registry, here)
            continue
        path = file.parent / plugin
        if not path.is_file():
            raise UsageError(f"{here}: {path}: {'is a folder' if path.is_dir() else 'there is no such file'}")
        files.append(path)
    return files


def _require_installed(package: str, registry: Registry, where: str) -> None:
    """Refuse a package that is not installed, or whose plugin failed or is left out."""
    name = _canonical(package)
    for failed in registry.quarantined:
        if name == _canonical(failed.distribution):
            raise UsageError(f"{where}: {failed}")
    if name not in {_canonical(plugin.distribution) for plugin in registry.plugins}:
        left_out = f" ({ONLY}={os.environ[ONLY]} leaves out other plugins)" if ONLY in os.environ else ""
        raise UsageError(f"{where}: no plugin of {package} is installed; pip install {package} installs it{left_out}")


def _canonical(distribution: str) -> str:
    """Return a distribution's name in the one spelling by which pip compares it."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def job_count(jobs: int | str, where: str) -> int:
    """Return a number of jobs, 0 for "auto". Raises UsageError, which begins with `where`."""
    if jobs == "auto":
        return 0
    if not str(jobs).isdecimal() or int(jobs) < 1:
        raise UsageError(f"{where} {jobs}: it is auto, or a number of 1 or more")
    return int(jobs)


def seconds(time: float | str, where: str) -> float:
    """Return a time in seconds, given so or like 90s, 10m, 2h. Raises UsageError, which begins with `where`."""
    match = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+) *([smh]?)", str(time).strip())
    total = float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]] if match else 0.0
    if total <= 0:
        raise UsageError(f"{where} {time}: a time is a number of seconds, or like 90s, 10m, 2h, and above 0")
    return total


def executor_of(request: Request, registry: Registry) -> Choice:
    """Return the executor that is asked for, its parameters checked. Raises UsageError for what it does not take."""
    where = request.words("executor")
    asked = spelling.choice(request.executor, where)
    executor = registry.executor(asked.name, where)
    options = {executor.jobs if name == "jobs" else name: value for name, value in request.options.items()}
    for option, name in zip(request.options, options, strict=True):
        if name not in executor.params:
            raise UsageError(f"{request.words(option)}: the executor {asked.name} has no such option")
    params = spelling.checked(executor.params, {**asked.params, **options}, f"{where} {asked.name}", executor.types)
    return msgspec.structs.replace(asked, params=params)

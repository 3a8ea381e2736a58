"""What a user asks to run, and what its words name: a suite, an executor, a data folder."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import platformdirs

from normbench import spelling, suites
from normbench.errors import UsageError
from normbench.registry import Registry
from normbench.spelling import Choice
from normbench.suites import Suite
from normbench.throughput.wanted import AFTER_RUN


@dataclass(frozen=True)
class Request:
    """What a user asks to run; the fields are the options of `normbench run`.

    `options` are parameters of the executor that have an option of their own, like --jobs; `checkpoint_every` is in
    minutes. `gates` replace those of the suite; `looks` are the numbers of seeds at which --until decided looks.
    """

    suite: str
    norms: Sequence[str] = ()
    seeds: str | None = None
    settings: Sequence[str] = ()
    plugin_files: Sequence[Path] = ()
    out: Path | None = None
    data_dir: Path | None = None
    device: str = "auto"
    probes: Sequence[str] = ()
    retry: bool = False
    executor: str = "processes"
    options: Mapping[str, Any] = field(default_factory=dict)
    checkpoint_every: float | None = None
    throughput: bool = True
    seconds: float = AFTER_RUN.seconds
    gates: Mapping[str, str] = field(default_factory=dict)
    looks: Sequence[int] = ()


def find_suite(name: str, registry: Registry) -> tuple[Suite, str]:
    """Return a suite by its name, or by the path of its file, and what to call it in messages."""
    path = Path(name)
    if path.suffix == ".toml" or "/" in name or os.sep in name:
        return suites.read(path), f"suite {path.name}"
    return suites.read(registry.suite(name)), f"suite {name}"


def executor_options(
    jobs: int | str | None = None,
    per_gpu: int | None = None,
    timeout: float | str | None = None,
    address: str | None = None,
) -> dict[str, Any]:
    """Return parameters of an executor as the options of `normbench run` give them; those that are None are left out.

    `jobs` is a number or "auto", `timeout` seconds or a time like 90s, 10m, 2h. Raises UsageError for what is neither.
    """
    given = {
        "jobs": None if jobs is None else _jobs(jobs),
        "per_gpu": per_gpu,
        "timeout": None if timeout is None else _time(timeout),
        "address": address,
    }
    if per_gpu is not None and per_gpu < 1:
        raise UsageError(f"--per-gpu {per_gpu}: it is 1 or more")
    return {name: value for name, value in given.items() if value is not None}


def _jobs(jobs: int | str) -> int:
    """Return a number of jobs; 0 for auto."""
    if jobs == "auto":
        return 0
    if not str(jobs).isdecimal() or int(jobs) < 1:
        raise UsageError(f"--jobs {jobs}: it is auto, or a number of 1 or more")
    return int(jobs)


def _time(text: float | str) -> float:
    """Return a time in seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+) *([smh]?)", str(text).strip())
    seconds = float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]] if match else 0.0
    if seconds <= 0:
        raise UsageError(f"--timeout {text}: a time is a number of seconds, or like 90s, 10m, 2h")
    return seconds


def executor_of(request: Request, registry: Registry) -> Choice:
    """Return the executor that is asked for, with its parameters checked. Raises UsageError for what can't be."""
    asked = spelling.choice(request.executor, "--executor")
    executor = registry.executor(asked.name, "--executor")
    for name in request.options:
        if name not in executor.params:
            raise UsageError(f"--{name.replace('_', '-')}: the executor {asked.name} has no such option")
    params = spelling.checked(executor.params, {**asked.params, **request.options}, f"--executor {asked.name}")
    return msgspec.structs.replace(asked, params=params)


def data_dir(given: Path | None) -> Path:
    """Return the folder of data: as given, else NORMBENCH_DATA, else in the user's cache folder."""
    if given is not None:
        if not given.is_dir():
            raise UsageError(f"--data-dir {given}: there is no such folder")
        return given
    from_environment = os.environ.get("NORMBENCH_DATA")
    if not from_environment:
        return platformdirs.user_cache_path("normbench") / "data"
    if not Path(from_environment).is_dir():
        raise UsageError(f"NORMBENCH_DATA={from_environment}: there is no such folder")
    return Path(from_environment)

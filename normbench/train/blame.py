"""What went wrong, in one line that names the author's own line of code; and the whole trace for who wants it."""

from __future__ import annotations

import inspect
import os
import sys
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from normbench import plugins
from normbench.registry import Offered, Registry
from normbench.texts import in_a_line
from normbench.trials import Trial

#: The environment variable with which the whole trace of whatever is raised goes to stderr.
TRACEBACK = "NORMBENCH_TRACEBACK"
_HOST = Path(plugins.__file__).parent
_INSTALLED = frozenset({"site-packages", "dist-packages"})


def reason(error: BaseException, trial: Trial, registry: Registry, probes: Iterable[str] = ()) -> str:
    """Return what a trial raised, as `raised` says it: in the code of its norm, its task or its probes."""
    return raised(error, [*registry.behind(trial), *(registry.probes[name] for name in probes)])


def raised(error: BaseException, offered: Iterable[Offered[Any]]) -> str:
    """Return what was raised, and where, in one line; with `TRACEBACK` set, print the whole trace as well.

    The line named is the deepest in the code of what is `offered`; or else the deepest of all, unless that is
    normbench's own.
    """
    if os.environ.get(TRACEBACK):
        traceback.print_exception(error)
    homes = [home for one in offered for home in _homes(one)]
    frames = [(Path(frame.filename), frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    own = [(path.relative_to(home), line) for path, line in frames for home in homes if _below(path, home)]
    deepest = [(Path(path.name), line) for path, line in frames[-1:] if not path.is_relative_to(_HOST)]
    at = "".join(f" ({path.as_posix()}:{line})" for path, line in (own or deepest)[-1:])
    return f"{type(error).__name__}: {in_a_line(error)}{at}"


def _homes(offered: Offered[Any]) -> Iterator[Path]:
    """Yield the folders with a plugin's code: its package, or what lies beside its file, or beside a session's."""
    plugin, module = offered.plugin, offered.plugin.module
    if module is None or not module.__file__:
        functions = [given for given in vars(offered.thing).values() if inspect.isfunction(given)]
        yield from (Path(function.__code__.co_filename).parent for function in functions)
    elif plugin.distribution:
        top = sys.modules[module.__name__.partition(".")[0]]
        yield from map(Path, getattr(top, "__path__", [module.__file__]))
    else:
        yield Path(module.__file__).parent


def _below(path: Path, home: Path) -> bool:
    """Whether a file is among those of a folder, where neither an environment in it nor normbench counts."""
    if not path.is_relative_to(home) or path.is_relative_to(_HOST):
        return False
    return not _INSTALLED & set(path.relative_to(home).parts)

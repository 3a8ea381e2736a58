"""The built-in suites: every TOML file in this folder."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import normbench


@normbench.hookimpl
def normbench_suites() -> Iterable[normbench.SuiteFile]:
    """Yield each file, in the order of their names."""
    return [normbench.SuiteFile(path) for path in sorted(Path(__file__).parent.glob("*.toml"))]

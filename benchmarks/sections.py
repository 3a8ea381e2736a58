"""Figures in the docs are written by a command: this puts text between a page's markers, and names the hardware."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import version
from pathlib import Path

from normbench.environment import describe

ROOT = Path(__file__).resolve().parent.parent


def replace(page: Path, name: str, text: str) -> None:
    """Put text between `<!-- NAME: begin -->` and `<!-- NAME: end -->` of a page."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, found, rest = page.read_text(encoding="utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        sys.exit(f"{page}: no markers {begin} and {end}")
    page.write_text(f"{before}{begin}\n{text.strip()}\n{end}{after}", encoding="utf-8")


def hardware() -> str:
    """Return one line: processor, cores, and the versions that matter."""
    found = describe("cpu")
    packages = ", ".join(f"{name} {version(name)}" for name in ("normbench", "torch", "pytorch-lightning"))
    return f"{found.processor}, {found.cores} cores; Python {platform.python_version()}, {packages}"

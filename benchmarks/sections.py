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
    page.write_text(filled(page.read_text(encoding="utf-8"), name, text), encoding="utf-8")


def filled(page: str, name: str, text: str) -> str:
    """Return a page with text between `<!-- NAME: begin -->` and `<!-- NAME: end -->`."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        sys.exit(f"no markers {begin} and {end}")
    return f"{before}{begin}\n{text.strip()}\n{end}{after}"


def hardware() -> str:
    """Return one line: processor, cores, and the versions that matter."""
    found = describe("cpu")
    packages = ", ".join(f"{name} {version(name)}" for name in ("normbench", "torch", "pytorch-lightning"))
    return f"{found.processor}, {found.cores} cores; Python {platform.python_version()}, {packages}"

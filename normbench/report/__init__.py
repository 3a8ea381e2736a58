"""A report: results folders, or exports of them, as one HTML file that opens without a network."""

from __future__ import annotations

from pathlib import Path

from normbench.errors import UsageError
from normbench.store import beside

SUFFIXES = (".html", ".htm")


def default_file(folder: Path) -> Path:
    """Return where a report goes, beside the results: results/quick-report.html for results/quick, or its export."""
    return beside(folder, "-report.html")


def check_suffix(file: Path, where: str) -> None:
    """Raise UsageError for a file that a browser would not take for a page: it may be another of the user's."""
    if file.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{where} {file}: a report ends in {' or '.join(SUFFIXES)}")

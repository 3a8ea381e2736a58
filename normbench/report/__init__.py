"""A report: results folders, or exports of them, as one HTML file that opens without a network."""

from __future__ import annotations

from pathlib import Path

from normbench.store import beside


def default_file(folder: Path) -> Path:
    """Return where a report goes, beside the results: results/quick-report.html for results/quick, or its export."""
    return beside(folder, "-report.html")

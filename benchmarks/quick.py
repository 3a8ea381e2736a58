"""Run the suite `quick` anew and write its tables into README.md and its picture to docs/quick.svg."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from sections import ROOT, hardware, replace

import normbench
from normbench.charts.pictures import figure
from normbench.store import Store
from normbench.tables.text import terminal

WIDTH = 120


def main() -> None:
    """Write the section `quick`."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        results = normbench.run("quick", out=folder, device="cpu")
        took = time.perf_counter() - began
        tables = terminal(results.boards(), WIDTH, brief=True)
        (ROOT / "docs" / "quick.svg").write_bytes(figure(Store(Path(folder))).encoded("svg"))
        trials = len(results.trials())
    text = (
        f"```text\n{tables}\n```\n\n{trials} trials (3 seeds at 7 rates, 3 fresh ones), and a throughput session in "
        f"{took:.0f} s; {hardware()}."
    )
    replace(ROOT / "README.md", "quick", text)


if __name__ == "__main__":
    main()

"""Run the suite `quick` anew and write its tables and its answer into README.md."""

from __future__ import annotations

import tempfile
import textwrap
import time

from sections import ROOT, hardware, replace

import normbench
from normbench.boards.answer import answers, with_caution
from normbench.tables.text import terminal

WIDTH = 120


def main() -> None:
    """Write the section `quick`."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        results = normbench.run("quick", out=folder, device="cpu")
        took = time.perf_counter() - began
        boards = results.boards()
        said = [textwrap.fill(line, WIDTH, break_on_hyphens=False) for line in with_caution(answers(boards))]
        tables = "\n".join([terminal(boards, WIDTH, brief=True), "", *said])
        trials = len(results.trials())
    text = (
        f"```text\n{tables}\n```\n\n{trials} trials (3 seeds at 7 rates, 3 fresh ones), and a throughput session in "
        f"{took:.0f} s; {hardware()}."
    )
    replace(ROOT / "README.md", "quick", text)


if __name__ == "__main__":
    main()

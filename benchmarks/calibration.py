"""Simulate how often the gates of `compare` err, and write the tables to docs/simulations.md.

With a results folder as its argument, the A/A table as well: of that folder's own seeds.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from sections import ROOT, replace

from normbench.compare.calibrate import calibrate
from normbench.compare.simulate import OK, REGRESSED, Draw, any_regressed, called, normal, one_sided, shifted, skewed
from normbench.gates import gates
from normbench.stats.decide import LOOKS, Gated, decide
from normbench.stats.verdicts import hodges_lehmann, mean_test, two_sample_test
from normbench.store import Store
from normbench.tables.text import github

DRAWS: dict[str, Draw] = {"normal": normal, "skewed, both sides": skewed, "skewed, one side": one_sided}
DOC = ROOT / "docs" / "simulations.md"
AA_GATES = {"accuracy": "-0.5pt", "over_the_grid": "-2pt", "max_trainable_lr": "-1step", "failure_rate": "+10pt"}


def main() -> None:
    """Write the sections `gates` and `difference-coverage`, and `a-a` from a folder."""
    replace(DOC, "gates", "\n".join(_gates()))
    replace(DOC, "difference-coverage", "\n".join(_coverage()))
    for folder in sys.argv[1:]:
        tables = calibrate(Store(Path(folder)), gates(AA_GATES, "gate"))
        replace(DOC, "a-a", github(tables[-1:]))


def _gates() -> list[str]:
    lines = [
        "| differences | seeds | gated rows | false alarms, no loss | false alarms, loss of m/2 | ok, loss of m | "
        "regressed, loss of 2m |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, draw in DRAWS.items():
        for seeds, looks in ((3, ()), (5, ()), (10, ()), (20, LOOKS)):
            for rows in (1, 5, 20):
                found = {
                    loss: shifted(
                        draw, seeds=seeds, rows=rows, spread=1, margin=1, loss=loss, one=loss == 2, looks=looks
                    )
                    for loss in (0, 0.5, 1, 2)
                }
                shares = [
                    any_regressed(found[0]),
                    any_regressed(found[0.5]),
                    called(found[1], OK),
                    called(found[2], REGRESSED, slice(0, 1)),
                ]
                shown = " | ".join(f"{share.share:.3f}" for share in shares)
                asked = f"looks at {', '.join(map(str, looks))}" if looks else str(seeds)
                lines.append(f"| {name} | {asked} | {rows} | {shown} |")
    return lines


def _coverage() -> list[str]:
    rng = np.random.default_rng(0)
    lines = ["| interval of a difference | n | normal | skewed, both sides |", "| --- | --- | --- | --- |"]
    for n in (3, 5, 10, 20):
        held = []
        for draw in (normal, skewed):
            tested = mean_test(draw(rng, (20_000, 1, n)), 1.0)
            held.append(np.mean((tested.low <= 0) & (tested.high >= 0)))
        lines.append(f"| t, over seeds | {n} | {held[0]:.2f} | {held[1]:.2f} |")
    held = []
    for draw in (normal, skewed):
        rows = (draw(rng, (4000, 1, 20))[:, 0] - 1).tolist()
        stopped = [decide([Gated("mean", row, 1.0)], LOOKS)[0].interval for row in rows]
        held.append(np.mean([one.low <= -1 <= one.high for one in stopped]))
    lines.append(f"| t, where looks stopped | 3 to 20 | {held[0]:.2f} | {held[1]:.2f} |")
    for n, name, test in ((9, "ranks, within session", hodges_lehmann), (3, "t, over sessions", two_sample_test)):
        held = []
        for draw in (normal, skewed):
            sides = draw(rng, (8000, 1, n)).reshape(4000, 2, n).tolist()  # apart: rows share seeds
            found = [test(base, head, 1.0, 0.5) for base, head in sides]
            held.append(np.mean([one.low <= 0 <= one.high for one in found]))
        lines.append(f"| {name} | {n} | {held[0]:.2f} | {held[1]:.2f} |")
    return lines


if __name__ == "__main__":
    main()

"""Simulate how often the gates of `compare` err, and write the tables to docs/simulations.md.

With a results folder as its argument, the A/A table as well: of that folder's own seeds.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from sections import ROOT, replace

from normbench.compare.calibrate import calibrate
from normbench.compare.simulate import (
    OK,
    REGRESSED,
    Draw,
    Group,
    any_regressed,
    called,
    failing,
    normal,
    one_sided,
    other_sided,
    rounded,
    shifted,
    skewed,
    verdicts,
)
from normbench.compare.speeds import APART, log_margins
from normbench.gates import gates
from normbench.stats.decide import LOOKS, Gated, decide
from normbench.stats.verdicts import ALPHA, hodges_lehmann, mean_test, two_sample_test
from normbench.store import Store
from normbench.tables.text import github

DRAWS: dict[str, Draw] = {
    "normal": normal,
    "skewed, both sides": skewed,
    "skewed, HEAD alone": one_sided,
    "skewed, BASE alone": other_sided,
}
REPETITIONS = 10_000
DOC = ROOT / "docs" / "simulations.md"
AA_GATES = {"accuracy": "-0.5pt", "over_the_grid": "-2pt", "max_trainable_lr": "-1step", "failure_rate": "+10pt"}


def main() -> None:
    """Write the sections `gates` to `difference-coverage`, and `a-a` from a folder."""
    replace(DOC, "gates", "\n".join(_gates()))
    replace(DOC, "failures", "\n".join(_failures()))
    replace(DOC, "rounding", "\n".join(_rounding()))
    replace(DOC, "sessions", "\n".join(_sessions()))
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


def _failures() -> list[str]:
    """Return how often failures alone regress a row: where as many seeds fail as before, and where half do."""
    lines = [
        "| seeds that fail | seeds | HEAD alike, 1 norm | HEAD alike, any of 5 norms | half of HEAD's fail, 1 norm |",
        "| --- | --- | --- | --- | --- |",
    ]
    for share in (0.0, 0.02, 0.05, 0.13, 0.2, 0.5):
        for seeds, looks in ((3, ()), (5, ()), (10, ()), (20, ()), (20, LOOKS)):
            found = []
            for rows, head in ((1, share), (5, share), (1, 0.5)):
                shape = (REPETITIONS, rows, seeds)
                fails = failing(np.random.default_rng(seeds), shape, share, head)
                # Scores that show nothing, neither way: what is decided is decided by failures.
                wide = np.tile([4.0, -4.0], seeds)[:seeds] * np.ones(shape)
                found.append(any_regressed(verdicts([Group("mean", wide, 1.0, **fails)], looks)).share)
            asked = f"looks at {', '.join(map(str, looks))}" if looks else str(seeds)
            lines.append(f"| {share:.0%} | {asked} | {' | '.join(f'{share:.3f}' for share in found)} |")
    return lines


def _rounding() -> list[str]:
    """Return how often gates err on shares of 360 samples, without and with rounding as the least variance."""
    lines = [
        "| spread, points | m, points | seeds | false alarms, loss of m/2: without | with | ok, loss of m: without "
        "| with |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for spread in (0.001, 0.003):
        for margin in (0.0025, 0.02):
            for seeds in (2, 3, 5):
                found = []
                for loss in (margin / 2, margin):
                    drawn = rounded(
                        np.random.default_rng(seeds),
                        (REPETITIONS, 1, seeds),
                        samples=360,
                        spread=spread,
                        loss=loss,
                    )
                    for least in (0.0, 360**-2 / 6):
                        words = verdicts([Group("mean", drawn, margin, least)])
                        found.append(any_regressed(words) if loss < margin else called(words, OK))
                shown = " | ".join(f"{one.share:.3f}" for one in found)
                lines.append(f"| {100 * spread:g} | {100 * margin:g} | {seeds} | {shown} |")
    return lines


def _sessions() -> list[str]:
    """Return how often one session a side errs on a gate of 10%, where sessions lie apart by themselves."""
    lines = [
        "| a session's own shift, sd | false alarms, loss of m/2: without | with | ok, loss of m: without | with |",
        "| --- | --- | --- | --- | --- |",
    ]
    lost, half = log_margins(0.10)
    for shift in (0.005, 0.01, 0.015):
        rng = np.random.default_rng(0)
        rounds = 0.02 * rng.standard_normal((4000, 2, 9)) + shift * rng.standard_normal((4000, 2, 1))
        found = []
        for loss in (half, lost):
            for apart in (0.0, APART):
                # A loss of half the margin is one of -half in logs.
                tested = [hodges_lehmann(base, head - loss, lost, half, apart) for base, head in rounds]
                found.append(np.mean([one.p <= ALPHA and not one.ok if loss == half else one.ok for one in tested]))
        lines.append(f"| {shift:.1%} | {' | '.join(f'{share:.3f}' for share in found)} |")
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

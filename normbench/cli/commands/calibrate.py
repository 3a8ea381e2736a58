"""`normbench calibrate`: how often gates would err on results like these."""

from __future__ import annotations

from typing import Annotated

import typer

from normbench import gates as gating
from normbench.cli import folders, options, output
from normbench.store import Store


def command(
    folder: folders.Folder = None,
    fail: options.Fail = None,
    repetitions: Annotated[
        int, typer.Option("--repetitions", metavar="N", min=100, help="How many comparisons are drawn.")
    ] = 10_000,
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0, help="The seed of the draws.")] = 0,
    form: output.FormatOption = "terminal",
    json: output.JsonOption = False,
) -> None:
    """Say how often gates would err on results like these: false alarms, losses called ok, and losses seen.

    Simulated with the folder's spread over seeds; and, where it has 6 seeds or more, on two groups of its own seeds.
    """
    from normbench.compare.calibrate import calibrate

    form = output.chosen_format(form, json)
    store = Store(folders.chosen(folder))
    folders.require_runs(store)
    runs = store.runs()
    declared = runs[-1].suite.get("gate", {}) if runs else {}
    gates = gating.gates(gating.replaced(declared, gating.given(fail or ())), "gate")
    tables = calibrate(store, gates, repetitions=repetitions, seed=seed)
    output.warn_of_unreadable(store)
    output.put_tables(tables, form)

"""`normbench plan`: what a run would do, what is stored, and the time it should take; nothing is trained."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any

import typer

from normbench.cli import options, output
from normbench.cli.trials import Names
from normbench.execute import Request, prepare
from normbench.execute.prepare import Prepared, Work, seconds_left
from normbench.plan import Stage
from normbench.spelling import assignments, spelled
from normbench.texts import as_json, visible
from normbench.trials import Cell


@options.of_request(
    *("suite", "norms", "seeds", "settings", "plugin_files", "out", "device", "executor", "jobs"),
    *("probes", "retry", "fresh", "base", "throughput"),
)
def command(
    request: Request,
    trials: Annotated[bool, typer.Option("--trials", help="List each trial with its key.")] = False,
    json: output.JsonOption = False,
) -> None:
    """Say what `run` would do with the same options: which trials, which are stored, and how long the rest takes.

    The time is what earlier trials in the same folder took.
    """
    prepared = prepare(request)
    output.warn_of_plugins(prepared.registry)
    output.warn_of_unused(prepared)
    output.warn_of_anew(prepared)
    output.warn_of_unreadable(prepared.store)
    if json:
        output.put(as_json(_described(prepared)))
        return
    output.put(_table(prepared))
    if trials:
        names = Names(prepared.cells)
        coming = (_coming(names, cell, seed) for cell, seed in prepared.coming)
        output.put_lines(["", *(_line(names, item) for item in prepared.work), *coming])
    output.put(f"\n{_total(prepared)}")
    if prepared.on_prints_alone:
        stored = output.counted(prepared.on_prints_alone, "stored trial")
        output.put(f"{stored} rest on code prints alone: no list of the files that were read is stored")


def _table(prepared: Prepared) -> str:
    from tabulate import tabulate

    total: Counter[tuple[str, str]] = Counter()
    done: Counter[tuple[str, str]] = Counter()
    for item in prepared.work:
        row = (_task(item.cell), item.cell.label)
        total[row] += 1
        done[row] += item.done
    total.update((_task(cell), cell.label) for cell, _ in prepared.coming)
    rows = [
        [visible(task), visible(norm), count, done[task, norm], count - done[task, norm]]
        for (task, norm), count in total.items()
    ]
    text: str = tabulate(rows, ["task", "norm", "trials", "stored", "to run"], disable_numparse=[0, 1])
    return text


def _task(cell: Cell) -> str:
    named = spelled(cell.task, cell.task_params)
    condition = assignments(cell.condition)
    return f"{named}, {condition}" if condition else named


def _line(names: Names, item: Work) -> str:
    state: str = item.stored.outcome if item.stored else "to run"
    state += "" if item.done or not item.stored else ", to run again"
    return f"{item.trial.key}  {names.of(item.trial)}: {state}"


def _coming(names: Names, cell: Cell, seed: int) -> str:
    return f"{'':16}  {names.of_fresh(cell, seed)}: to run"


def _total(prepared: Prepared) -> str:
    todo, sessions, folder = prepared.left, len(prepared.sessions), prepared.store.folder
    expected = sum(session.expected(prepared.effort.seconds) for session in prepared.sessions)
    timed = f"{output.counted(sessions, 'throughput session')}, about {_duration(expected)}"
    if not todo:
        rest = f"; to run: {timed}" if sessions else ": nothing to run"
        return f"all {prepared.planned} trials are stored in {folder}{rest}"
    seconds = _seconds(prepared)
    time = "unknown until one trial is stored" if seconds is None else f"about {_duration(seconds)}"
    time += f", {_at_once(prepared)} at a time" if seconds is not None and _at_once(prepared) > 1 else ""
    total = f"{todo} of {prepared.planned} trials to run, into {folder}; time: {time}"
    return f"{total}; then {timed}" if sessions else total


def _seconds(prepared: Prepared) -> float | None:
    """Return how long the trials should take, as many at a time as there are jobs."""
    seconds = seconds_left(prepared.work, prepared.coming)
    return None if seconds is None else seconds / _at_once(prepared)


def _at_once(prepared: Prepared) -> int:
    return max(1, min(prepared.at_once, prepared.left))


def _duration(seconds: float) -> str:
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"


def _described(prepared: Prepared) -> dict[str, Any]:
    return {
        "schema": 1,
        "suite": prepared.suite.name,
        "folder": str(prepared.store.folder),
        "trials": prepared.planned,
        "to_run": prepared.left,
        "on_prints_alone": prepared.on_prints_alone,
        "seconds": _seconds(prepared),
        "sessions": len(prepared.sessions),
        "work": [*map(_item, prepared.work), *(_item_coming(cell, seed) for cell, seed in prepared.coming)],
    }


def _item(item: Work) -> dict[str, Any]:
    trial = item.trial
    return {
        "key": trial.key,
        **_of(item.cell, item.stage, trial.seed),
        **({"setting": {name: getattr(trial.recipe, name) for name in _tuned(item.cell)}} if _tuned(item.cell) else {}),
        "rate": trial.recipe.rate,
        "stored": item.stored.outcome if item.stored else None,
        "to_run": not item.done,
    }


def _item_coming(cell: Cell, seed: int) -> dict[str, Any]:
    """Return a fresh seed whose rate, and so whose key, is not known before the grid is trained."""
    setting = {"setting": None} if _tuned(cell) else {}
    return {"key": None, **_of(cell, "fresh", seed), **setting, "rate": None, "stored": None, "to_run": True}


def _of(cell: Cell, stage: Stage, seed: int) -> dict[str, Any]:
    return {"task": cell.task, "norm": cell.label, "condition": cell.condition, "stage": stage, "seed": seed}


def _tuned(cell: Cell) -> list[str]:
    return list(cell.settings[0])

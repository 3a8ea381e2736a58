"""`normbench plan`: what a run would do, what is stored, and the time it should take; nothing is stored."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any

import typer

from normbench.cli import options, output
from normbench.cli.trials import Names
from normbench.execute import Request, prepare
from normbench.execute.expected import Pace, Paces, at_once, expected, paces, untimed
from normbench.execute.prepare import Prepared, Work
from normbench.plan import Stage
from normbench.spelling import assignments, spelled
from normbench.surroundings import on_stderr
from normbench.texts import as_json, counted, visible
from normbench.trials import Cell


@options.of_request(
    *("suite", "norms", "seeds", "settings", "plugin_files", "out", "data_dir", "device", "executor", "jobs"),
    *("probes", "retry", "fresh", "base", "throughput"),
)
def command(
    request: Request,
    trials: Annotated[bool, typer.Option("--trials", help="List each trial with its key.")] = False,
    time: Annotated[
        bool, typer.Option("--time/--no-time", help="Time first steps where nothing is stored, or leave it out.")
    ] = True,
    json: output.JsonOption = False,
) -> None:
    """Say what `run` would do with the same options: which trials, which are stored, and how long the rest takes.

    The time is what earlier trials in the same folder took. Where there are none, the first steps of each norm are
    timed, for 20 seconds or so; nothing is stored.
    """
    prepared = prepare(request)
    output.warn_of_plugins(prepared.registry)
    output.warn_of_unused(prepared)
    output.warn_of_anew(prepared)
    output.warn_of_unreadable(prepared.store)
    if json:
        output.put(as_json(_described(prepared, _paces(prepared) if time else Paces())))
        return
    output.put(_table(prepared))
    if trials:
        names = Names(prepared.cells)
        coming = (_coming(names, cell, seed) for cell, seed in prepared.coming)
        output.put_lines(["", *(_line(names, item) for item in prepared.work), *coming])
    output.put(f"\n{_total(prepared, _paces(prepared) if time else Paces())}")
    if prepared.on_prints_alone:
        stored = counted(prepared.on_prints_alone, "stored trial")
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


def _paces(prepared: Prepared) -> Paces:
    """Time the first steps of what nothing similar is stored of, and name what can't be timed."""
    cells = untimed(prepared)
    if not cells:
        return Paces()
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True).status("") as status, on_stderr():  # what a layer prints that computes in this process
        found = paces(prepared, cells, lambda cell: status.update(Text(visible(f"timing {_row(cell)}"))))
    why: dict[str, str] = {}
    for cell, pace in found.taken:
        if pace.outcome != "timed":
            why.setdefault(pace.reason, f"{_row(cell)}: {pace.outcome}")
    for reason, row in why.items():
        output.say(f"normbench: not timed: {row}: {reason}")
    return found


def _row(cell: Cell) -> str:
    return f"{cell.label!r} on {_task(cell)}"


def _total(prepared: Prepared, found: Paces) -> str:
    todo, sessions, folder = prepared.left, len(prepared.sessions), prepared.store.folder
    seconds = sum(session.expected(prepared.effort.seconds) for session in prepared.sessions)
    timed = f"{counted(sessions, 'throughput session')}, about {_duration(seconds)}"
    if not todo:
        rest = f"; to run: {timed}" if sessions else ": nothing to run"
        return f"all {prepared.planned} trials are stored in {folder}{rest}"
    total = f"{todo} of {prepared.planned} trials to run, into {folder}; time: {_time(prepared, found)}"
    return f"{total}; then {timed}" if sessions else total


def _time(prepared: Prepared, found: Paces) -> str:
    """Return how long the trials should take, and how that is known."""
    time = expected(prepared, found)
    if time is None:
        return "unknown until one trial is stored"
    jobs = at_once(prepared)
    together = f", {jobs} at a time" if jobs > 1 else ""
    if not found.timed:
        return f"about {_duration(time.seconds)}{together}"
    asked = found.asked - sum(pace.outcome == "unsupported" for _, pace in found.taken)
    rows = f"{len(found.timed)} of {asked} rows" if len(found.timed) < asked else "each row"
    return f"about {_range(time.low, time.high)}{together} (timed: the first steps of {rows})"


def _duration(seconds: float) -> str:
    size, unit = _unit(seconds)
    return f"{seconds / size:.{size > 1:d}f} {unit}"


def _range(low: float, high: float) -> str:
    size, unit = _unit(low)
    first, last = (float(f"{seconds / size:.2g}") for seconds in (low, high))
    return f"{first:g} to {last:g} {unit}"


def _unit(seconds: float) -> tuple[int, str]:
    """Return the largest unit of which there are two or more."""
    units = ((86400, "days"), (3600, "hours"), (60, "minutes"), (1, "seconds"))
    return next(unit for unit in units if seconds >= 2 * unit[0] or unit[0] == 1)


def _described(prepared: Prepared, found: Paces) -> dict[str, Any]:
    time = expected(prepared, found)
    return {
        "schema": 1,
        "suite": prepared.suite.name,
        "folder": str(prepared.store.folder),
        "trials": prepared.planned,
        "to_run": prepared.left,
        "on_prints_alone": prepared.on_prints_alone,
        "seconds": time and time.seconds,
        "between": [time.low, time.high] if time and found.timed else None,
        "paces": [_item_paced(cell, pace) for cell, pace in found.taken],
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


def _item_paced(cell: Cell, pace: Pace) -> dict[str, Any]:
    seconds = pace.seconds if pace.outcome == "timed" else None
    return {**_of_cell(cell), "outcome": pace.outcome, "reason": pace.reason, "seconds": seconds}


def _item_coming(cell: Cell, seed: int) -> dict[str, Any]:
    """Return a fresh seed whose rate, and so whose key, is not known before the grid is trained."""
    setting = {"setting": None} if _tuned(cell) else {}
    return {"key": None, **_of(cell, "fresh", seed), **setting, "rate": None, "stored": None, "to_run": True}


def _of(cell: Cell, stage: Stage, seed: int) -> dict[str, Any]:
    return {**_of_cell(cell), "stage": stage, "seed": seed}


def _of_cell(cell: Cell) -> dict[str, Any]:
    return {"task": cell.task, "norm": cell.label, "condition": cell.condition}


def _tuned(cell: Cell) -> list[str]:
    return list(cell.settings[0])

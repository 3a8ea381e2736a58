"""`normbench plan`: what a run would do, what is stored, and the time it should take; nothing is trained."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any

import typer

from normbench.cli import options, output
from normbench.cli.trials import Names
from normbench.execute import Request, prepare
from normbench.execute.prepare import Prepared, Work, seconds_left
from normbench.spelling import assignments, spelled
from normbench.texts import as_json, visible


@options.of_request(
    *("suite", "norms", "seeds", "settings", "plugin_files", "out", "device", "executor", "jobs"),
    *("probes", "retry", "throughput"),
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
        output.put_lines(["", *(_line(names, item) for item in prepared.work)])
    output.put(f"\n{_total(prepared)}")
    if prepared.on_prints_alone:
        stored = output.counted(prepared.on_prints_alone, "stored trial")
        output.put(f"{stored} rest on code prints alone: no list of the files that were read is stored")


def _table(prepared: Prepared) -> str:
    from tabulate import tabulate

    total: Counter[tuple[str, str]] = Counter()
    done: Counter[tuple[str, str]] = Counter()
    for item in prepared.work:
        row = (_task(item), item.cell.label)
        total[row] += 1
        done[row] += item.done
    rows = [
        [visible(task), visible(norm), count, done[task, norm], count - done[task, norm]]
        for (task, norm), count in total.items()
    ]
    text: str = tabulate(rows, ["task", "norm", "trials", "stored", "to run"], disable_numparse=[0, 1])
    return text


def _task(item: Work) -> str:
    named = spelled(item.cell.task, item.cell.task_params)
    condition = assignments(item.cell.condition)
    return f"{named}, {condition}" if condition else named


def _line(names: Names, item: Work) -> str:
    state: str = item.stored.outcome if item.stored else "to run"
    state += "" if item.done or not item.stored else ", to run again"
    return f"{item.trial.key}  {names.of(item.trial)}: {state}"


def _total(prepared: Prepared) -> str:
    todo, sessions, folder = len(prepared.todo), len(prepared.sessions), prepared.store.folder
    expected = sum(session.expected(prepared.effort.seconds) for session in prepared.sessions)
    timed = f"{output.counted(sessions, 'throughput session')}, about {_duration(expected)}"
    if not todo:
        rest = f"; to run: {timed}" if sessions else ": nothing to run"
        return f"all {len(prepared.work)} trials are stored in {folder}{rest}"
    seconds = _seconds(prepared)
    time = "unknown until one trial is stored" if seconds is None else f"about {_duration(seconds)}"
    time += f", {_at_once(prepared)} at a time" if seconds is not None and _at_once(prepared) > 1 else ""
    total = f"{todo} of {len(prepared.work)} trials to run, into {folder}; time: {time}"
    return f"{total}; then {timed}" if sessions else total


def _seconds(prepared: Prepared) -> float | None:
    """Return how long the trials should take, as many at a time as there are jobs."""
    seconds = seconds_left(prepared.work)
    return None if seconds is None else seconds / _at_once(prepared)


def _at_once(prepared: Prepared) -> int:
    return max(1, min(prepared.at_once, len(prepared.todo)))


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
        "trials": len(prepared.work),
        "to_run": len(prepared.todo),
        "on_prints_alone": prepared.on_prints_alone,
        "seconds": _seconds(prepared),
        "sessions": len(prepared.sessions),
        "work": [
            {
                "key": item.trial.key,
                "task": item.trial.task,
                "norm": item.cell.label,
                "condition": item.cell.condition,
                **({"setting": _setting(item)} if item.cell.settings[0] else {}),
                "rate": item.trial.recipe.rate,
                "seed": item.trial.seed,
                "stored": item.stored.outcome if item.stored else None,
                "to_run": not item.done,
            }
            for item in prepared.work
        ],
    }


def _setting(item: Work) -> dict[str, Any]:
    """Return what is tuned, and is one value in this trial."""
    return {name: getattr(item.trial.recipe, name) for name in item.cell.settings[0]}

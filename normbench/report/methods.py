"""What a paper says of how results came to be, in sentences made from the records; and the commands that made them."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from normbench import plugins
from normbench.boards.grid import Grid
from normbench.recipe import Recipe
from normbench.spelling import assignments, spelled
from normbench.store.records import EnvironmentRecord, RunRecord, SessionRecord, TrialRecord
from normbench.texts import counted

_OPTIMIZERS = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW"}
_SCHEDULES = {
    "constant": "a constant learning rate",
    "steps": "a learning rate that falls in steps",
    "cosine": "a cosine schedule",
    "one-cycle": "a one-cycle schedule",
}


@dataclass(frozen=True, kw_only=True)
class Made:
    """A command that measured something: when it began, by which version of normbench, and what came of it."""

    started: str
    command: str
    version: str
    gave: str


def summary_of(task: str) -> str:
    """Return what the registry says of a task in a sentence, without what follows on its parameters; "" for nothing."""
    offered = plugins.current().tasks.get(task)
    return offered.thing.summary.partition(". ")[0].rstrip(".") if offered else ""


def made(runs: Sequence[RunRecord], sessions: Sequence[SessionRecord], trials: Sequence[TrialRecord]) -> list[Made]:
    """Return the commands behind what is shown, oldest first, each with what it gave.

    A session belongs to the latest run of its command that began before it, or is a command of its own.
    """
    of_runs = Counter(trial.run for trial in trials)
    timed: Counter[str] = Counter()
    alone: Counter[tuple[str, str, str]] = Counter()
    for one in sessions:
        before = [run for run in runs if run.command == one.command and run.started <= one.started]
        if before:
            timed[before[-1].run] += 1
        else:
            alone[one.started, shlex.join(one.command), one.version] += 1
    gave = {
        (run.started, shlex.join(run.command), run.version): (of_runs.pop(run.run, 0), timed[run.run]) for run in runs
    }
    gave |= {of: (0, count) for of, count in alone.items()}
    if of_runs:
        gave["", "runs whose records are not here", ""] = of_runs.total(), 0
    return [
        Made(started=started[:16].replace("T", " "), command=command, version=version, gave=_gave(*counts))
        for (started, command, version), counts in sorted(gave.items())
    ]


def _gave(trials: int, sessions: int) -> str:
    parts = [counted(trials, "trial")] * bool(trials) + [counted(sessions, "throughput session")] * bool(sessions)
    return " and ".join(parts) or "nothing that is shown"


def paragraphs(
    grids: Sequence[Grid], sessions: Sequence[SessionRecord], ran_on: Iterable[EnvironmentRecord]
) -> Iterator[str]:
    """Yield a paragraph per task that says how its networks were trained and judged, then one on speed and machines."""
    of_tasks: dict[tuple[str, int | None, str], list[Grid]] = {}
    for grid in grids:
        if grid.rows:
            of_tasks.setdefault((grid.task, grid.task_version, f"{grid.task_params}{grid.protocol}"), []).append(grid)
    for same in of_tasks.values():
        yield " ".join([*_of_task(same), *_of_recipe(same), *_of_choice(same), *_of_scores(same[0])])
    if closing := [*_of_sessions(sessions), *map(_of_environment, ran_on)]:
        yield " ".join(closing)


def _of_task(grids: Sequence[Grid]) -> Iterator[str]:
    """Say what was compared, and on what."""
    first = grids[0]
    labels = list(dict.fromkeys(row.label for grid in grids for row in grid.rows))
    task = f"{spelled(first.task, first.task_params)} (version {first.task_version})"
    if len(labels) == 1:
        yield f"We trained networks with the normalization layer {labels[0]} on {task}."
    else:
        yield f"We compared {len(labels)} normalization layers ({', '.join(labels)}) on {task}."
    if summary := summary_of(first.task):
        yield f"The task: {summary}."


def _of_recipe(grids: Sequence[Grid]) -> Iterator[str]:
    """Say how the networks were trained, and in which values the conditions differ."""
    recipe = grids[0].rows[0].cell.recipe
    varied = {name for grid in grids for name in grid.condition} if len(grids) > 1 else set()
    length = f"{recipe.epochs} epochs" if recipe.epochs else f"{recipe.steps:,} steps"
    parts = [f"for {length}"] * (not varied & {"epochs", "steps"})
    parts += [f"in batches of {recipe.batch_size}"] * ("batch_size" not in varied)
    yield f"Networks were trained {' '.join([*parts, f'by {_optimizer(recipe)}'])}, with {_SCHEDULES[recipe.schedule]}."
    conditions = [assignments(grid.condition) for grid in grids if grid.condition]
    if conditions:
        what = "Conditions" if len(grids) > 1 else "Changed from the task's own recipe"
        yield f"{what}: {'; '.join(conditions)}."


def _optimizer(recipe: Recipe) -> str:
    values = {"momentum": recipe.momentum if recipe.optimizer == "sgd" else 0, "weight decay": recipe.weight_decay}
    listed = ", ".join(f"{name} {value:g}" for name, value in values.items() if value)
    return _OPTIMIZERS[recipe.optimizer] + (f" ({listed})" if listed else "")


def _of_choice(grids: Sequence[Grid]) -> Iterator[str]:
    """Say at which rates and seeds was trained, how the rate was chosen, and which seeds are reported."""
    first = grids[0]
    seeds = counted(max(len(row.seeds) for grid in grids for row in grid.rows), "seed")
    name = first.measure.name
    if first.protocol == "published":
        yield f"The learning rate is the recipe's own, and no data were held out; {name} is on test, of {seeds}."
        return
    rates = ", ".join(f"{rate:g}" for rate in first.rates)
    fresh = max(len(row.wants_fresh) for grid in grids for row in grid.rows)
    reported = f"of {counted(fresh, 'fresh seed')} that took no part in this choice"
    if any(grid.same_seeds for grid in grids):
        reported = "of the same seeds, which flatters it"
    elif not fresh:
        reported = "of these seeds"
    on_test = f"the {name} that is reported is on test, after the last step, {reported}."
    if len(first.rates) == 1:
        yield f"Each layer was trained at learning rate {rates}, with {seeds}; {on_test}"
    else:
        yield f"Each layer was trained at learning rates {rates}, with {seeds} each."
        yield f"Its rate is the one with the best mean {name} on validation; {on_test}"


def _of_scores(grid: Grid) -> Iterator[str]:
    """Say what ± is, and when a network counts as trained."""
    chance, reference = (_score(grid, value) for value in (grid.measure.chance, grid.measure.reference))
    yield (
        "± is the 95% t interval of the mean over seeds; where a seed failed to train, or there are fewer than three, "
        f"the range over seeds is given. A network counts as trained from half way between chance ({chance}) and "
        f"{reference} on."
    )


def _of_sessions(sessions: Sequence[SessionRecord]) -> Iterator[str]:
    if sessions:
        one = sessions[-1]
        yield (
            f"Training speed was timed in blocks of {counted(one.steps, 'step')} (batches of {one.recipe.batch_size}), "
            "all layers in turn in each round; ratios are medians over rounds, with 95% intervals."
        )


def _of_environment(ran_on: EnvironmentRecord) -> str:
    hardware = ran_on.accelerator or ran_on.processor or "an unknown processor"
    cores = f", {counted(ran_on.cores, 'core')}" if ran_on.cores and not ran_on.accelerator else ""
    packages = "".join(f", {name} {version}" for name, version in ran_on.packages.items() if version)
    return f"Measured on {hardware}{cores}, with Python {ran_on.python or 'unknown'}{packages}."


def _score(grid: Grid, value: float) -> str:
    return f"{100 * value:g}%" if grid.measure.unit == "%" else f"{value:g} {grid.measure.unit}".rstrip()

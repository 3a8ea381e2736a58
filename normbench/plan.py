"""A suite, resolved against the norms and tasks at hand: which cells, which trials. Pure, and without torch."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from normbench.contract import Norm, Task
from normbench.errors import UsageError, unknown
from normbench.recipe import Recipe
from normbench.registry import Registry
from normbench.spelling import Choice, checked, choice, readable, spelled
from normbench.store.records import Result
from normbench.suites import RECIPE_VALUES, Suite
from normbench.trials import Cell, Measure


def cells(suite: Suite, registry: Registry, where: str, asked_by: Sequence[str] = ()) -> list[Cell]:
    """Return the suite's cells, those of one table together, without code prints.

    Raises UsageError for a norm, task, parameter, recipe value or rate that can't be; `where` names the suite, and
    `asked_by` what asked for each of its norms, if that was not the suite.
    """
    entries = zip(suite.norms, asked_by or [f"{where}: norms"] * len(suite.norms), strict=True)
    norms = [asked_norm(choice(entry, by), registry) for entry, by in entries]
    _check_rows(norms, where)
    tasks = [_task(choice(text, f"{where}: tasks"), registry) for text in suite.tasks]
    for i, (task, params) in enumerate(tasks):
        if (task, params) in tasks[:i]:
            raise UsageError(f"{where}: tasks names {spelled(task.name, params)!r} twice; leave one out")
    _check_grids(suite, [task.name for task, _ in tasks], where)
    planned = []
    for task, params in tasks:
        for combination in _product(suite.vary):
            values = {**suite.fix, **combination, "hold_out": suite.protocol == "tuned"}
            recipe = _recipe(task.recipe, values, f"{where}: {task.name}")
            for norm, asked in norms:
                planned.append(
                    Cell(
                        task=task.name,
                        task_version=task.version,
                        task_params=params,
                        norm=norm.name,
                        params=asked.params,
                        label=asked.shown,
                        recipe=recipe,
                        condition=_condition(recipe, task.recipe),
                        rates=_rates(suite, task, where),
                        settings=_product(suite.tune),
                        seeds=suite.seed_list(),
                    )
                )
    _check_settings(suite, planned, where)
    return planned


def baseline(suite: Suite, registry: Registry, where: str) -> str:
    """Return the suite's baseline as boards name it. Raises UsageError where it is no norm."""
    asked = asked_norm(choice(suite.baseline, f"{where}: baseline"), registry)[1]
    rows = [asked_norm(choice(entry, f"{where}: norms"), registry)[1] for entry in suite.norms]
    return next((row.shown for row in rows if (row.name, row.params) == (asked.name, asked.params)), asked.shown)


def asked_norm(asked: Choice, registry: Registry) -> tuple[Norm, Choice]:
    """Return the norm that is asked for, and the asking with its parameters checked. Raises UsageError for no norm."""
    norm = registry.norm(asked.name, asked.where)
    params = checked(norm.params, asked.params, f"{asked.where}: {asked.name}")
    return norm, msgspec.structs.replace(asked, params=params)


def choose(
    results: Mapping[tuple[int, int, float], Result],
    *,
    rates: Sequence[float],
    settings: Sequence[dict[str, Any]],
    seeds: Sequence[int],
    measure: Measure,
) -> tuple[int, float] | None:
    """Return the setting's number and the rate of the best mean validation score over seeds; None where none has one.

    `results` are by seed, setting and rate. Ties go to the lower rate, the earlier setting. Without a validation split
    there is one rate, and nothing to choose.
    """
    sign = 1 if measure.direction == "up" else -1
    best, chosen = -math.inf, None
    for rate, setting in itertools.product(rates, range(len(settings))):
        found = [results.get((seed, setting, rate)) for seed in seeds]
        scores = [result.selection for result in found if result is not None]
        usable = [sign * score for score in scores if score is not None]
        mean = statistics.fmean(usable) if usable else -math.inf
        # Means that differ by rounding alone are a tie.
        if mean > best and not math.isclose(mean, best, rel_tol=1e-12):
            best, chosen = mean, (setting, rate)
    return chosen


def _task(asked: Choice, registry: Registry) -> tuple[Task, dict[str, Any]]:
    task = registry.task(asked.name, asked.where)
    return task, checked(task.params, asked.params, f"{asked.where}: {asked.name}")


def _check_rows(norms: list[tuple[Norm, Choice]], where: str) -> None:
    labels = [asked.shown for _, asked in norms]
    for label in labels:
        if labels.count(label) > 1:
            raise UsageError(f"{where}: norms names {label!r} twice; leave one out, or label one in the suite's file")
    for (_, first), (_, second) in itertools.combinations(norms, 2):
        if (first.name, first.params) == (second.name, second.params):
            both = f"{first.shown!r} and {second.shown!r}"
            raise UsageError(f"{where}: norms has {both}, which are the same norm; leave one out")


def _condition(recipe: Recipe, own: Recipe) -> dict[str, Any]:
    """Return the values that differ from the task's own; of epochs and steps, the one that counts says it alone."""
    changed = [name for name in sorted(RECIPE_VALUES) if getattr(recipe, name) != getattr(own, name)]
    idle = "epochs" if recipe.steps else "steps"
    values = {name: getattr(recipe, name) for name in changed if name != idle}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def _recipe(recipe: Recipe, values: dict[str, Any], where: str) -> Recipe:
    try:
        return recipe.changed(**values)
    except msgspec.ValidationError as error:
        raise UsageError(f"{where}: {readable(error)}") from None
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from None


def _check_settings(suite: Suite, planned: list[Cell], where: str) -> None:
    """Refuse a tuned value that can't be, and one that is set where it has no effect on any trial."""
    recipes = [_recipe(cell.recipe, setting, f"{where}: [tune]") for cell in planned for setting in cell.settings]
    for name, (deciders, wanted) in _NEEDS.items():
        given = name in suite.fix or name in suite.vary or name in suite.tune
        if given and not any(wanted(recipe) for recipe in recipes):
            had = [(decider, sorted({str(getattr(recipe, decider)) for recipe in recipes})) for decider in deciders]
            values = " and ".join(f"{decider} is {', '.join(values)}" for decider, values in had)
            raise UsageError(f"{where}: {name} has no effect where {values}")


#: Values that have an effect only with certain values of others, the deciders.
_NEEDS: dict[str, tuple[tuple[str, ...], Callable[[Recipe], bool]]] = {
    "momentum": (("optimizer",), lambda recipe: recipe.optimizer == "sgd"),
    "milestones": (("schedule",), lambda recipe: recipe.schedule == "steps"),
    "milestone_factor": (("schedule",), lambda recipe: recipe.schedule == "steps"),
    "weight_decay_spares": (("weight_decay",), lambda recipe: recipe.weight_decay > 0),
    "strategy": (("devices", "num_nodes"), lambda recipe: recipe.ranks > 1),
    "sync_ranks": (("devices", "num_nodes"), lambda recipe: recipe.ranks > 1),
}


def _product(table: dict[str, list[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(table, values, strict=True)) for values in itertools.product(*table.values())]


def _check_grids(suite: Suite, tasks: list[str], where: str) -> None:
    """Refuse a grid of rates for a task that the suite does not have: it would be ignored."""
    if isinstance(suite.rates, dict) and set(suite.rates) != {"relative"}:
        for name in suite.rates:
            if name not in tasks:
                raise unknown("task", name, tasks, f"{where}: rates")


def _rates(suite: Suite, task: Task, where: str) -> list[float]:
    """Return a task's grid, in ascending order."""
    if suite.protocol == "published":
        return [task.recipe.rate]
    grid: Any = suite.rates
    if isinstance(grid, dict) and set(grid) != {"relative"}:
        if task.name not in grid:
            raise UsageError(f"{where}: rates has no grid for the task {task.name!r}; it has {', '.join(sorted(grid))}")
        grid = grid[task.name]
    if isinstance(grid, dict):
        grid = [float(f"{task.recipe.rate * factor:.12g}") for factor in grid["relative"]]
    rates = sorted(float(rate) for rate in grid)
    if len(set(rates)) < len(rates):
        raise UsageError(f"{where}: rates names a rate twice")
    return rates

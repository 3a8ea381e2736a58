"""Which cells a suite has, and which of their trials are still to be trained. Pure, and without torch.

A cell has two stages. Its grid: each rate and tuned setting at each seed. Then, at the rate and setting that the grid
chooses, as many fresh seeds: a score on the seeds that chose would flatter (docs/metrics.md).
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

import msgspec

from normbench.contract import Norm, Probe, Task
from normbench.errors import UsageError, unknown
from normbench.recipe import Recipe
from normbench.registry import Registry
from normbench.spelling import WITH, Choice, checked, choice, readable, spelled
from normbench.store.records import Result
from normbench.suites import RECIPE_VALUES, Suite
from normbench.trials import FRESH, Cell, Kept, Measure, RowId, Trial

Stage: TypeAlias = Literal["grid", "fresh"]
#: A point of a cell's grid: the seed, the number of the tuned setting, and the rate.
Point: TypeAlias = tuple[int, int, float]
#: A trial of a cell and its stage.
Wanted: TypeAlias = tuple[Cell, Trial, Stage]


def cells(
    suite: Suite, registry: Registry, where: str, asked_by: Sequence[str] = (), *, fresh: bool = True
) -> list[Cell]:
    """Return the suite's cells, those of one table together, without code prints; `fresh`: with fresh seeds.

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
    if fresh and suite.protocol == "tuned":
        planned = [with_fresh(cell) for cell in planned]
    _check_settings(suite, planned, where)
    return planned


def with_fresh(cell: Cell) -> Cell:
    """Return a cell with one fresh seed for each seed of its grid; itself where there is nothing to choose."""
    return msgspec.structs.replace(cell, fresh=[seed + FRESH for seed in cell.seeds]) if cell.chooses else cell


def wanted(
    cells: Iterable[Cell], results: Mapping[str, Result], others: Mapping[RowId, Collection[int]] = MappingProxyType({})
) -> Iterator[Wanted]:
    """Yield what is still to be trained: of each cell its grid, then its fresh seeds, once their rate is known.

    `results` are those, by key, that need no training, all of the cells' code and device; call again as more are there,
    until nothing is wanted. `others` are further seeds of rows, those of earlier runs: a choice counts them where their
    grid is whole.
    """
    for cell, trial, stage in known(cells, results, others):
        if trial.key not in results:
            yield cell, trial, stage


def known(
    cells: Iterable[Cell], results: Mapping[str, Result], others: Mapping[RowId, Collection[int]] = MappingProxyType({})
) -> Iterator[Wanted]:
    """Yield the trials of cells, trained or not, as far as they are known: fresh seeds once their rate is."""
    for cell in cells:
        yield from ((cell, trial, "grid") for trial in cell.trials())
        kept = kept_of(cell, results, others.get(cell.row_id, ())) if cell.fresh else None
        if kept is not None:
            yield from ((cell, cell.trial(kept.rate, kept.setting, seed), "fresh") for seed in cell.fresh)


def kept_of(cell: Cell, results: Mapping[str, Result], others: Collection[int] = ()) -> Kept | None:
    """Return the setting and rate of a cell's fresh seeds; None before its grid is whole, or where it has no score.

    The parameters are those of `wanted`, `others` the seeds of this cell.
    """
    if cell.kept is not None:
        return cell.kept
    seeds = list(dict.fromkeys([*cell.seeds, *others]))
    at = {
        (seed, i, rate): results.get(cell.trial(rate, setting, seed).key)
        for seed, (i, setting), rate in itertools.product(seeds, enumerate(cell.settings), cell.rates)
    }
    points = {point: result for point, result in at.items() if result is not None}
    lacking = {seed for seed, setting, rate in at.keys() - points.keys()}
    if lacking & set(cell.seeds) or not points:
        return None
    whole = [seed for seed in seeds if seed not in lacking]
    measure = next(iter(points.values())).measure
    chosen = choose(points, rates=cell.rates, settings=len(cell.settings), seeds=whole, measure=measure)
    return chosen and Kept(setting=cell.settings[chosen[0]], rate=chosen[1])


def choose(
    results: Mapping[Point, Result], *, rates: Sequence[float], settings: int, seeds: Sequence[int], measure: Measure
) -> tuple[int, float] | None:
    """Return the number of the setting, and the rate, with the best mean validation score over the seeds of a grid.

    Where all have a score they come before those that lack one at some seed, since survivors choose wrongly. Ties go to
    the lower rate, then to the earlier setting. None where nothing has a score. Without a validation split there is one
    rate, and nothing to choose.
    """
    sign = 1 if measure.direction == "up" else -1
    best, chosen = (False, -math.inf), None
    for rate, setting in itertools.product(rates, range(settings)):
        there = [results.get((seed, setting, rate)) for seed in seeds]
        scores = [result.selection for result in there if result is not None]
        usable = [sign * score for score in scores if score is not None]
        of_all, mean = len(usable) == len(seeds), statistics.fmean(usable) if usable else -math.inf
        # Means that differ by rounding alone are a tie.
        level = of_all == best[0] and math.isclose(mean, best[1], rel_tol=1e-12)
        if usable and (of_all, mean) > best and not level:
            best, chosen = (of_all, mean), (setting, rate)
    return chosen


def baseline(suite: Suite, registry: Registry, where: str) -> str:
    """Return the suite's baseline as boards name it. Raises UsageError where it is no norm."""
    asked = asked_norm(choice(suite.baseline, f"{where}: baseline"), registry)[1]
    rows = [asked_norm(choice(entry, f"{where}: norms"), registry)[1] for entry in suite.norms]
    return next((row.shown for row in rows if (row.name, row.params) == (asked.name, asked.params)), asked.shown)


def asked_norm(asked: Choice, registry: Registry) -> tuple[Norm, Choice]:
    """Return the norm that is asked for, and the asking with its parameters checked. Raises UsageError for no norm.

    The second of a norm made of two is spelled with its parameters checked.
    """
    norm, where = registry.norm(asked.name, asked.where), f"{asked.where}: {asked.name}"
    own = {name: value for name, value in asked.params.items() if name != WITH}
    params = checked(norm.params, own, where, norm.types)
    if WITH in asked.params:
        params[WITH] = _second(norm, asked.params[WITH], registry, f"{where}: {WITH}")
    return norm, msgspec.structs.replace(asked, params=dict(sorted(params.items())))


def _second(norm: Norm, value: Any, registry: Registry, where: str) -> str:
    """Return the norm that another is made with, as it is spelled. Raises UsageError where these two can't be one."""
    if norm.placement == "weight":
        raise UsageError(f'{where}: {norm.name} is of placement "weight" itself, and is made with no other')
    if not isinstance(value, str):
        raise UsageError(f'{where} is {value!r}; it is a norm of placement "weight", as text: "name(param=value)"')
    wraps, asked = asked_norm(choice(value, where), registry)
    if wraps.placement != "weight":
        raise UsageError(
            f'{where}: {wraps.name} is of placement "{wraps.placement}"; it takes one of placement "weight"'
        )
    return asked.shown


def asked_probe(asked: Choice, registry: Registry) -> tuple[Probe, Choice]:
    """Return the probe that is asked for, and the asking with those parameters that are not at their defaults.

    Raises UsageError for no probe.
    """
    probe, where = registry.probe(asked.name, asked.where), f"{asked.where}: {asked.name}"
    params = checked(probe.params, asked.params, where, probe.types)
    every = params.get("every", 1)
    if not isinstance(every, int) or every < 1:
        raise UsageError(f"{where}: every is {every!r}; a probe looks at every so many steps, 1 or more")
    own = {name: value for name, value in params.items() if value != probe.params[name]}
    return probe, msgspec.structs.replace(asked, params=own)


def probes(suite: Suite, given: Sequence[str], asked_by: Sequence[str], registry: Registry, where: str) -> list[str]:
    """Return the probes of a run as they are stored: those of the suite, and those `given`, which replace its own.

    Raises UsageError for a probe or parameter that can't be, and for two probes of one name.
    """
    asked = [asked_probe(choice(text, by), registry)[1] for text, by in zip(given, asked_by, strict=True)]
    names = [one.name for one in asked]
    for one in asked:
        if names.count(one.name) > 1:
            raise UsageError(f"{one.where}: probe {one.name!r} is asked for twice; a trial has one of a name")
    of_suite = [
        asked_probe(Choice(name, params, where=f"{where}: [probes]"), registry)[1]
        for name, params in suite.probes.items()
        if name not in names
    ]
    return [spelled(one.name, one.params) for one in (*of_suite, *asked)]


def _task(asked: Choice, registry: Registry) -> tuple[Task, dict[str, Any]]:
    task = registry.task(asked.name, asked.where)
    params = checked(task.params, asked.params, f"{asked.where}: {asked.name}", task.types)
    task.chance_and_reference(params)  # a mistake in them is told before anything is trained
    return task, params


def _check_rows(norms: list[tuple[Norm, Choice]], where: str) -> None:
    of_suite = f"{where}: norms"
    for (_, first), (_, second) in itertools.combinations(norms, 2):
        label, same = second.shown, (first.name, first.params) == (second.name, second.params)
        is_added = first.where == of_suite and second.where != of_suite
        if is_added and (same or first.shown == label):
            called = f", as {first.shown!r}" if first.shown != label else ""
            raise UsageError(f"{second.where}: the suite has {label!r} already{called}")
        if first.shown == label:
            raise UsageError(f"{of_suite} names {label!r} twice; leave one out, or label one in the suite's file")
        if same:
            both = f"{first.shown!r} and {second.shown!r}"
            raise UsageError(f"{of_suite} has {both}, which are the same norm; leave one out")


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
    "validate_every": (("hold_out",), lambda recipe: recipe.hold_out),
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

"""`normbench leaderboard`: the tables of a results folder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from normbench.boards import NAMES, tables
from normbench.cli import closing, completion, folders, options, output
from normbench.errors import UsageError, unknown
from normbench.recipe import Recipe
from normbench.spelling import assignments, choice
from normbench.store import Store
from normbench.suites import RECIPE_VALUES
from normbench.tables import by_column


def command(
    folder: folders.Folder = None,
    board: Annotated[
        list[str] | None,
        typer.Option(
            "--board",
            metavar="NAME",
            help=f"Only {', '.join(NAMES[:-1])} or {NAMES[-1]}; may be repeated.",
            autocompletion=lambda: [*NAMES],
        ),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            "--baseline",
            metavar="NORM",
            help="Compare with this norm instead of the suite's baseline.",
            autocompletion=completion.of_kind("norms"),
        ),
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option("--sort", metavar="COLUMN", help="Order rows by a column's JSON name, best first, or by norm."),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option("--where", metavar="KEY=VALUE", help="Only tables with this recipe value; may be repeated."),
    ] = None,
    notes: output.NotesOption = False,
    form: output.FormatOption = "terminal",
    json: output.JsonOption = False,
) -> None:
    """Print the leaderboards of a results folder."""
    form = output.chosen_format(form, json)
    for name in board or ():
        if name not in NAMES:
            raise unknown("board", name, NAMES, "--board")
    asked = [_asked(text) for text in where or ()]
    folder = folders.chosen(folder)
    store = Store(folder)
    folders.require_runs(store)
    only = _only(store, asked) if asked else None
    baseline = _label(store, only, baseline) if baseline is not None else None
    shown = tables(store, board, only, baseline)
    output.warn_of_unreadable(store)
    if not shown and form != "json":
        if tables(store, NAMES, only):
            asked_for = f"the board {' or '.join(board)}" if board else "the boards of its suite"
            raise UsageError(f"{folder}: nothing is stored there for {asked_for}")
        raise output.nothing_stored(folder)
    if sort is not None:
        columns = {"norm"} | {column.name for table in shown for column in table.columns}
        if shown and sort not in columns:
            raise unknown("column", sort, columns, "--sort")
        shown = [by_column(table, sort) for table in shown]
    output.put_tables(shown, form, notes=notes)
    if form == "terminal":
        closing.put(store, shown)


def _asked(text: str) -> tuple[str, Any]:
    """Return the recipe value that --where asks for."""
    key, value = options.assignment(text, "--where", "batch_size=8")
    if key not in RECIPE_VALUES:
        raise unknown("recipe value", key, RECIPE_VALUES, "--where")
    return key, value


def _only(store: Store, asked: Sequence[tuple[str, Any]]) -> frozenset[str]:
    """Return the tables whose recipe has the values asked for. Raises UsageError where there is none."""
    kept = _recipes(store)
    for key, value in asked:
        there = [recipe[key] for recipe in kept.values() if key in recipe]
        # To Python, true is 1.
        spelled = assignments({key: value})
        kept = {
            table: recipe
            for table, recipe in kept.items()
            if key in recipe and recipe[key] == value and isinstance(recipe[key], bool) == isinstance(value, bool)
        }
        if not kept:
            values = sorted({assignments({key: one}).partition("=")[2] for one in there}) or ["none"]
            raise UsageError(
                f"--where {spelled}: no table has it; there {'is' if len(values) == 1 else 'are'} {', '.join(values)}"
            )
    return frozenset(kept)


def _recipes(store: Store) -> dict[str, dict[str, Any]]:
    """Return the recipe values of each table; what is tuned has none."""
    recipes: dict[str, dict[str, Any]] = {}
    sources: list[tuple[str, Recipe, list[dict[str, Any]]]] = []
    # A session does not say what its runs tune.
    sources += [(session.table_id, session.recipe, []) for session in store.sessions()]
    sources += [(cell.table_id, cell.recipe, cell.settings) for run in store.runs() for cell in run.cells]
    for table, recipe, settings in sources:
        values = {name: getattr(recipe, name) for name in RECIPE_VALUES}
        values["milestones"] = list(recipe.milestones)
        tuned = {name for setting in settings for name in setting}
        recipes[table] = {name: value for name, value in values.items() if name not in tuned}
    return recipes


def _label(store: Store, only: frozenset[str] | None, baseline: str) -> str:
    """Return a norm as boards name it. Raises UsageError where no table has it."""
    labels = {cell.label for run in store.runs() for cell in run.cells if only is None or cell.table_id in only}
    for session in store.sessions():
        if only is None or session.table_id in only:
            labels |= {timing.label for timing in session.timings}
    if baseline in labels:
        return baseline
    shown = choice(baseline, "--baseline").shown
    if shown not in labels:
        raise unknown("norm", baseline, labels, "--baseline")
    return shown

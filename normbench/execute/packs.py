"""Trials cut into packs, with what a worker needs to train each."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from normbench import environment, plugins
from normbench.execute.prepare import Prepared
from normbench.plan import Wanted
from normbench.recipe import Recipe
from normbench.registry import SESSION, Plugin
from normbench.spelling import choice
from normbench.store import Store
from normbench.trials import Cell, Pack, RowId, Trial


def packs(prepared: Prepared, todo: Iterable[Wanted], *, dry: bool = False) -> Iterator[Pack]:
    """Cut the trials into packs: of one, as long as `train` has no lanes."""
    request = prepared.request
    here = prepared.registry.executor(prepared.executor.name).in_process
    registered = b"" if here else plugins.registered()
    common: dict[str, Any] = {
        "device": prepared.device,
        "data_dir": str(prepared.data_dir),
        "probes": tuple(request.probes),
        "plugin_files": tuple(str(file.absolute()) for file in request.plugin_files),
        "dry": dry,
        "checkpoint_every": math.inf if request.checkpoint_every is None else 60 * request.checkpoint_every,
    }
    for cell, trial, _ in todo:
        behind = prepared.registry.behind(trial)
        probes = [prepared.registry.probes[choice(name, "probes").name] for name in request.probes]
        used = {one.plugin.name: one.plugin for one in (*behind, *probes)}
        yield Pack(
            trials=(trial,),
            plugins=() if here else tuple(used),
            cell=_alone(cell, trial, [norm.plugin for norm in behind[:-1]], used.values(), dry=dry),
            registered=registered if SESSION in used else b"",
            checkpoint="" if dry else _checkpoint(prepared, cell, trial),
            **common,
        )


def _alone(cell: Cell, trial: Trial, norms: Iterable[Plugin], used: Iterable[Plugin], *, dry: bool) -> str:
    """Return which packs a worker may train after this one: see `Pack`. `norms` are the plugins of its norms."""
    if all(plugin.built_in for plugin in used):
        return ""
    own = any(not plugin.built_in for plugin in norms)
    # What a first step leaves behind must not reach the trials either; with ranks, a new start would take too long.
    apart = dry and trial.recipe.ranks == 1
    return msgspec.json.encode((apart, cell.table_id, cell.norm_id if own else "")).decode()


def checkpoints(store: Store) -> Path:
    """Return the folder where trainings are saved while they go on."""
    return store.folder.absolute() / "checkpoints"


def _checkpoint(prepared: Prepared, cell: Cell, trial: Trial) -> str:
    """Return the folder of a trial's checkpoint: where one is asked for, or one was left behind by the same code."""
    if cell.norm_print is None or cell.task_print is None:
        return ""
    name = "-".join([trial.key, cell.norm_print, cell.task_print, environment.kind(prepared.device)])
    folder = checkpoints(prepared.store) / name
    return str(folder) if prepared.request.checkpoint_every is not None or folder.exists() else ""


def first_of_cells(todo: Sequence[Wanted]) -> list[Wanted]:
    """Return the first trial of each cell, and of each of its tuned settings."""

    def group(cell: Cell, trial: Trial) -> tuple[RowId, Recipe]:
        return cell.row_id, msgspec.structs.replace(trial.recipe, rate=cell.recipe.rate)

    return list({group(cell, trial): (cell, trial, stage) for cell, trial, stage in reversed(todo)}.values())[::-1]

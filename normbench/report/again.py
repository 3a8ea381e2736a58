"""The commands that run again what is stored: one trial, or all that a table has of one norm."""

from __future__ import annotations

import itertools
import shlex
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from normbench.spelling import assignments, choice, spelled
from normbench.store import RESULTS, Store
from normbench.store.records import RunRecord, TrialRecord
from normbench.suites import Suite
from normbench.trials import Cell

#: Said of what belongs to a run, or to a suite, that is of another version or was cut.
UNKNOWN = "unknown: the run it belongs to could not be read"
#: The options that change what is trained, each with a value; and those that stand alone.
_KEPT = ("--seeds", "--set", "--probe", "--plugin", "--device", "--base")
_FLAGS = ("--no-fresh", "--no-throughput")


def of_trial(store: Store, record: TrialRecord) -> str:
    """Return the command that runs this trial alone; where the suite varies or tunes values, all of them."""
    run = next((run for run in store.runs() if run.run == record.run), None)
    cell = next((cell for cell in run.cells if _holds(cell, record)), None) if run else None
    suite = _suite(run) if run else None
    if run is None or cell is None or suite is None:
        return UNKNOWN
    if record.seed in cell.fresh:
        return f"{shlex.join(run.command)}  # a fresh seed: it follows the grid, at the rate that this chooses"
    given = _options(run.command)
    words = [*_begun(run, suite), "--norm", spelled(record.norm, record.params), "--seeds", f"{record.seed},"]
    if suite.protocol == "tuned":
        words += ["--set", assignments({"rates": [record.recipe.get("rate", cell.recipe.rate)]})]
    varied = {**suite.vary, **suite.tune}
    words += _settings({name: value for name, value in cell.condition.items() if name not in varied})
    for probe in record.probes:
        asked = choice(probe, "probes")
        words += [] if suite.probes.get(asked.name) == asked.params else ["--probe", probe]
    words += _given(given, ("--plugin", "--device"))
    return shlex.join([*words, *_out(store, suite), "--no-throughput"])


def of_norm(store: Store, run: RunRecord, cell: Cell) -> str:
    """Return the command that runs all of a run again that is of one norm: its rates, seeds, tasks and conditions."""
    suite = _suite(run)
    if suite is None:
        return UNKNOWN
    given = _options(run.command)
    words = [*_begun(run, suite), "--norm", spelled(cell.norm, cell.params)]
    if run.command[1:2] != ["run"]:  # a script's, whose settings the suite as resolved has
        grid = {"rates": suite.rates} if suite.rates else {}
        words += ["--seeds", _seeds(suite), *_settings({**grid, **suite.fix})]
    elif "--until" in given:
        words += ["--seeds", str(len(cell.seeds))]
    words += [*_given(given, _KEPT), *(flag for flag in _FLAGS if flag in given)]
    return shlex.join([*words, *_out(store, suite)])


def _suite(run: RunRecord) -> Suite | None:
    try:
        return msgspec.convert(run.suite, Suite)
    except msgspec.ValidationError:
        return None


def _begun(run: RunRecord, suite: Suite) -> list[str]:
    file = next((word for word in run.command if word.endswith(".toml")), None)
    return ["normbench", "run", file or suite.name]


def _seeds(suite: Suite) -> str:
    return str(suite.seeds) if isinstance(suite.seeds, int) else ",".join([*map(str, suite.seeds), ""])


def _settings(values: Mapping[str, Any]) -> list[str]:
    return [word for name, value in values.items() for word in ("--set", assignments({name: value}))]


def _given(given: Mapping[str, list[str]], options: Iterable[str]) -> list[str]:
    return [word for option in options for value in given.get(option, ()) for word in (option, value)]


def _out(store: Store, suite: Suite) -> list[str]:
    """Return where results go, for a folder that is not where the suite's go by default."""
    if store.is_file() or store.folder.resolve() == (RESULTS / suite.name).resolve():
        return []
    return ["--out", str(store.folder)]


def _holds(cell: Cell, record: TrialRecord) -> bool:
    return cell.norm == record.norm and any(trial.key == record.key for trial in cell.every())


def _options(command: list[str]) -> dict[str, list[str]]:
    """Return the values that a command gave to each option."""
    given: dict[str, list[str]] = defaultdict(list)
    for word, following in itertools.pairwise([*command, ""]):
        name, equals, value = word.partition("=")
        given[name].append(value if equals else following)
    return given

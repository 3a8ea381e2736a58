"""A suite: what a TOML file says should be run, read, checked, and changed by what the command line says.

This is about the words alone; `plan` resolves them against the norms and tasks at hand.
"""

from __future__ import annotations

import codecs
import math
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

import msgspec

from normbench import gates as gating
from normbench.errors import UsageError, unknown
from normbench.recipe import Recipe
from normbench.spelling import argument, checked, choice, readable, spelled, toml
from normbench.trials import FRESH

#: The recipe values a suite may fix, vary or tune. `rate` is the grid's, `hold_out` follows from the protocol.
RECIPE_VALUES = frozenset(Recipe.__struct_fields__) - {"rate", "hold_out"}
#: The pictures of a suite that have a word of their own, with their parameters; and the probe that watches every trial.
PICTURES: dict[str, tuple[str, ...]] = {"rates": (), "curves": ("rate",)}
CURVE = "curve"
#: The boards that a suite may ask for, in the order in which they are shown where it does not.
BOARDS = ("accuracy", "stability", "throughput", "aggregate")
#: The types of a picture's parameters.
_OF_PICTURES = {
    "rate": Annotated[list[Annotated[float, msgspec.Meta(gt=0)]], msgspec.Meta(min_length=1)],
    "site": Annotated[int, msgspec.Meta(ge=0)],
    "step": Annotated[int, msgspec.Meta(ge=0)],
}
#: How a norm that is added to a suite's own begins where one is asked for.
ADDED = "+"
#: A larger number is meant as a seed, and would be planned for a long time.
MOST_SEEDS = 10_000
#: A name is that of a folder, which disks allow 255 bytes, and others are made beside it.
LONGEST_NAME = 200
_NAME = re.compile(r"[A-Za-z0-9]+([._-][A-Za-z0-9]+)*")


class Published(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Figures from elsewhere for one task: their source, the setting they were measured in, one score per norm.

    Scores, and how they spread over runs (standard deviations), are in the board's unit: with % from 0 to 100. `runs`
    is how many there are behind a score.
    """

    source: str
    setting: str
    scores: dict[str, float]
    spread: dict[str, float] = {}
    runs: dict[str, int] = {}


class Suite(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A suite as its file gives it; see docs/suites.md."""

    name: str
    summary: str
    tasks: list[str]
    norms: list[str | dict[str, Any]]
    baseline: str = "batchnorm"
    protocol: Literal["tuned", "published"] = "tuned"
    rates: list[float] | dict[str, Any] = []
    seeds: int | list[int] = 3
    fix: dict[str, Any] = {}
    vary: dict[str, list[Any]] = {}
    tune: dict[str, list[Any]] = {}
    gate: dict[str, str] = {}
    published: dict[str, Published] = {}
    probes: dict[str, dict[str, Any]] = {}
    pictures: list[str] = []
    plugins: list[str] = []
    boards: list[str] = []

    def seed_list(self) -> list[int]:
        """Return the seeds: 0 to n - 1 where the suite gives a number."""
        return list(range(self.seeds)) if isinstance(self.seeds, int) else list(self.seeds)


def read(path: Path) -> Suite:
    """Read a suite's file. Raises UsageError: which file, which key, what is allowed."""
    where = f"suite {path.name}"
    try:
        table = toml(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise UsageError(f"{path}: there is no such file") from None
    except OSError as error:
        raise UsageError(f"{path}: can't be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        utf16 = error.object.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        why = "it is UTF-16; a suite is saved as UTF-8" if utf16 else error
        raise UsageError(f"{path}: can't be read as text ({why})") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{where}: not TOML: {error}") from None
    return from_table(table, where)


def from_table(table: dict[str, Any], where: str) -> Suite:
    """Return the suite that a table of TOML describes, checked; `where` begins every message."""
    for key in table:
        if key not in Suite.__struct_fields__:
            raise unknown("key", key, Suite.__struct_fields__, where)
    for name in ("vary", "tune"):
        factors = table.get(name)
        for key, values in factors.items() if isinstance(factors, dict) else ():
            if not isinstance(values, list):
                raise UsageError(f"{where}: [{name}] {key} is {values!r}; list the values to try")
    published = table.get("published")
    for task, figures in published.items() if isinstance(published, dict) else ():
        for key in figures if isinstance(figures, dict) else ():
            if key not in Published.__struct_fields__:
                raise unknown("key", key, Published.__struct_fields__, f"{where}: [published.{task}]")
    try:
        suite = msgspec.convert(table, Suite)
    except msgspec.ValidationError as error:
        raise UsageError(f"{where}: {readable(error)}") from None
    _check(suite, where)
    _check_plugins(suite, where)
    _check_published(suite, where)
    _check_pictures(suite, where)
    _check_boards(suite, where)
    gating.gates(suite.gate, f"{where}: [gate]")
    return suite


def is_file(plugin: str) -> bool:
    """Whether an entry of `plugins` is a file, and no installed package."""
    return plugin.endswith(".py")


def changed(
    suite: Suite,
    *,
    norms: Sequence[str] = (),
    seeds: int | Sequence[int] | None = None,
    settings: Mapping[str, Any] = MappingProxyType({}),
    gates: Mapping[str, str] = MappingProxyType({}),
    words: Callable[..., str] = argument,
) -> Suite:
    """Return the suite with these norms, seeds, recipe values or rates, and gates in place of its own.

    Norms that are spelled "+name" stand behind the suite's own. Raises UsageError, in which `words` spells an argument.
    """
    where = words("settings")
    gating.gates(gates, words("gates"))
    changes: dict[str, Any] = {"gate": gating.replaced(suite.gate, gates)}
    if norms:
        changes["norms"] = _with_norms(suite, norms, words)
    if seeds is not None:
        changes["seeds"] = seeds if isinstance(seeds, int) else list(seeds)
    # Of epochs and steps, the one that is given replaces the other.
    replaced = {"epochs": "steps", "steps": "epochs"}
    fix = {key: value for key, value in suite.fix.items() if replaced.get(key) not in settings}
    for key, value in settings.items():
        if key == "rates":
            changes["rates"] = value if isinstance(value, list | dict) else [value]
        elif key == "rate":
            raise UsageError(f"{words('settings', key)}: the rates are a grid, as in 'rates=[0.1, 1]'")
        elif key not in RECIPE_VALUES:
            raise unknown("recipe value", key, {*RECIPE_VALUES, "rates"}, where)
        elif taken := _taken(suite, key, replaced.get(key, key)):
            raise UsageError(f"{words('settings', key)}: the suite {suite.name!r} has {taken}")
        else:
            fix[key] = value
    changes["fix"] = fix
    try:
        result = msgspec.convert({**msgspec.to_builtins(suite), **changes}, Suite)
    except msgspec.ValidationError as error:
        raise UsageError(f"{where}: {readable(error)}") from None
    _check(result, f"suite {suite.name}, as changed")
    return result


def _with_norms(suite: Suite, norms: Sequence[str], words: Callable[..., str]) -> list[str | dict[str, Any]]:
    """Return the norms that are asked for, behind the suite's own where they are to be added."""
    added = [norm.removeprefix(ADDED) for norm in norms if norm.startswith(ADDED)]
    if not added:
        return list(norms)
    if len(added) < len(norms):
        instead = next(norm for norm in norms if not norm.startswith(ADDED))
        both = f"{ADDED}{added[0]} is added to the suite's norms, and {instead} replaces them"
        raise UsageError(f"{words('norms')}: {both}; give all with {ADDED}, or all without")
    return [*suite.norms, *added]


def _check(suite: Suite, where: str) -> None:
    if not _NAME.fullmatch(suite.name):
        raise UsageError(f"{where}: name is {suite.name!r}; it is letters, digits and hyphens, for it names a folder")
    if len(suite.name) > LONGEST_NAME:
        raise UsageError(f"{where}: name has {len(suite.name)} characters; it has {LONGEST_NAME} at most")
    for key in ("tasks", "norms"):
        if not getattr(suite, key):
            raise UsageError(f"{where}: {key} is empty; name at least one")
    _check_factors(suite, where)
    _check_grid(suite, where)


def _check_plugins(suite: Suite, where: str) -> None:
    """Refuse what is neither a file of Python nor a package's name."""
    for i, plugin in enumerate(suite.plugins):
        if not is_file(plugin) and not _NAME.fullmatch(plugin):
            what = "a file, like group_norm.py, or a package, by the name that pip installs it by"
            raise UsageError(f"{where}: plugins[{i}] is {plugin!r}; it is {what}")


def _check_published(suite: Suite, where: str) -> None:
    """Refuse figures for a task or a norm that the suite's file does not have: nobody would ever see them."""
    tasks = [choice(task, f"{where}: tasks").name for task in suite.tasks]
    rows = [choice(norm, f"{where}: norms").shown for norm in suite.norms]
    for task, published in suite.published.items():
        if task not in tasks:
            raise unknown("task", task, tasks, f"{where}: [published]")
        here = f"{where}: [published.{task}]"
        for norm in (*published.scores, *published.spread, *published.runs):
            if norm not in rows:
                raise unknown("norm", norm, rows, here)
        for norm, spread in published.spread.items():
            if not 0 <= spread < math.inf:
                raise UsageError(f"{here}: spread of {norm!r} is {spread!r}; a standard deviation is 0 or more")
        for norm, runs in published.runs.items():
            if runs < 1:
                raise UsageError(f"{here}: runs of {norm!r} is {runs!r}; it is the number of runs, 1 or more")


def _check_pictures(suite: Suite, where: str) -> None:
    """Refuse a picture that no run of the suite could draw, and one that would be drawn twice."""
    probes = {CURVE, *suite.probes}
    before: list[str] = []
    for i, word in enumerate(suite.pictures):
        here = f"{where}: pictures[{i}]"
        picture = choice(word, here)
        probe, dot, name = picture.name.partition(".")
        if not dot and picture.name not in PICTURES:
            raise unknown("picture", picture.name, PICTURES, here, "or PROBE.NAME, what a probe of [probes] saw")
        if dot and probe not in probes:
            raise unknown("probe", probe, probes, here, "of a picture PROBE.NAME, the probe stands under [probes]")
        if dot and not name:
            raise UsageError(f"{here} is {word!r}; it is PROBE.NAME, a series of the probe")
        params = checked(dict.fromkeys(PICTURES.get(picture.name, _OF_PICTURES)), picture.params, here, _OF_PICTURES)
        if {"site", "step"} <= set(params):
            raise UsageError(f"{here} is {word!r}; it is of one place, by step, or of one step, by place")
        if (whole := spelled(picture.name, params)) in before:
            raise UsageError(f"{where}: pictures lists {whole!r} twice; list each picture once")
        before.append(whole)


def _check_boards(suite: Suite, where: str) -> None:
    for i, board in enumerate(suite.boards):
        if board not in BOARDS:
            raise unknown("board", board, BOARDS, f"{where}: boards[{i}]")
        if board in suite.boards[:i]:
            raise UsageError(f"{where}: boards lists {board!r} twice; list each board once")


def _check_factors(suite: Suite, where: str) -> None:
    """Refuse recipe values that are not there or stand twice, and factors without values."""
    for table in ("fix", "vary", "tune"):
        for key in getattr(suite, table):
            if key not in RECIPE_VALUES:
                raise unknown("recipe value", key, RECIPE_VALUES, f"{where}: [{table}]")
    for first, second in (("fix", "vary"), ("fix", "tune"), ("vary", "tune")):
        both = sorted(set(getattr(suite, first)) & set(getattr(suite, second)))
        if both:
            raise UsageError(f"{where}: {both[0]} stands under [{first}] and under [{second}]; it can be in one")
    given = {name: table for table in ("fix", "vary", "tune") for name in getattr(suite, table)}
    if {"epochs", "steps"} <= set(given):
        raise UsageError(
            f"{where}: epochs stands under [{given['epochs']}] and steps under [{given['steps']}]; one of them counts"
        )
    for table in ("vary", "tune"):
        for key, values in getattr(suite, table).items():
            if not values:
                raise UsageError(f"{where}: [{table}] {key} is empty; list the values to try")
            for i, value in enumerate(values):
                if value in values[:i]:
                    raise UsageError(f"{where}: [{table}] {key} lists {value!r} twice; list each value once")


def _check_grid(suite: Suite, where: str) -> None:
    if suite.protocol == "published" and (suite.rates or suite.tune):
        raise UsageError(f'{where}: protocol is "published", which takes the recipe as it stands: no rates, no [tune]')
    if suite.protocol == "tuned" and not suite.rates:
        raise UsageError(f"{where}: rates is missing; list the learning rates to try")
    grids: dict[str, Any] = {"rates": suite.rates} if suite.rates else {}
    if isinstance(suite.rates, dict) and set(suite.rates) != {"relative"}:
        grids = {f"rates.{task}": grid for task, grid in suite.rates.items()}
    for key, grid in grids.items():
        _check_rates(grid, key, where)
    if isinstance(suite.seeds, int) and suite.seeds > MOST_SEEDS:
        one = f"one seed is seeds = [{suite.seeds}]"
        raise UsageError(f"{where}: seeds is {suite.seeds}, the number of seeds, at most {MOST_SEEDS}; {one}")
    seeds = suite.seed_list()
    if not seeds:
        raise UsageError(f"{where}: seeds is {suite.seeds!r}; give a number from 1, or a list of seeds")
    if len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise UsageError(f"{where}: seeds is {suite.seeds!r}; each seed is a whole number from 0, and stands once")
    if suite.protocol == "tuned" and max(seeds) >= FRESH:
        raise UsageError(
            f"{where}: seeds has {max(seeds)}; seeds from {FRESH} on are fresh ones, which a run adds itself"
        )


def _check_rates(grid: Any, key: str, where: str) -> None:
    """Refuse what is neither a list of rates nor { relative = [...] }."""
    if isinstance(grid, dict):
        for name in grid:
            if name != "relative":
                raise unknown("key", name, ["relative"], f"{where}: {key}")
        grid, key = grid.get("relative", []), f"{key}.relative"
    if not isinstance(grid, list):
        raise UsageError(f"{where}: {key} is {grid!r}; a grid is a list, or {{ relative = [...] }}")
    if not grid:
        raise UsageError(f"{where}: {key} is empty; list the learning rates to try")
    for i, rate in enumerate(grid):
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate < float("inf"):
            raise UsageError(f"{where}: {key}[{i}] is {rate!r}; a rate is above 0")


def _taken(suite: Suite, key: str, other: str) -> str:
    """Say which table has a value already, or the value that it would replace; "" for none."""
    for table, factors in (("vary", suite.vary), ("tune", suite.tune)):
        for name in (key, other):
            if name in factors:
                return f"{'it' if name == key else name} under [{table}]"
    return ""

"""The options of a `Request`, in one table; and a decorator that gives a command those that it names.

A `Request` holds values: what is text on the command line is read here, and messages name options.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import tomllib
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

import typer

from normbench import gates
from normbench.cli import completion, recipe_options
from normbench.errors import UsageError
from normbench.execute import Request
from normbench.execute.request import job_count, seconds
from normbench.spelling import toml
from normbench.suites import MOST_SEEDS

Given = TypeVar("Given")

#: The groups in which help lists options; those of the output come last, with what stands in none.
WHAT, HOW, WHERE, STATISTICS = "What to run", "How", "Where", "Statistics"


def _option(group: str, kind: Any, names: str, metavar: str | None, text: str, **others: Any) -> Any:
    return Annotated[kind, typer.Option(*names.split(), metavar=metavar, help=text, rich_help_panel=group, **others)]


Plugins = Annotated[
    list[Path] | None,
    typer.Option(
        "--plugin", metavar="FILE.py", help="Load this plugin as well; may be repeated.", rich_help_panel=WHAT
    ),
]
Fail = Annotated[
    list[str] | None,
    typer.Option(
        "--fail",
        metavar="METRIC:MARGIN",
        help="A gate, like accuracy:-0.5pt; may be repeated.",
        rich_help_panel=STATISTICS,
    ),
]
Until = Annotated[
    str | None,
    typer.Option(
        "--until",
        metavar="decided",
        help="Train more seeds for the rows that are unclear, up to --max-seeds.",
        rich_help_panel=STATISTICS,
        autocompletion=lambda: ["decided"],
    ),
]
MaxSeeds = Annotated[
    int | None,
    typer.Option(
        "--max-seeds",
        metavar="N",
        min=2,
        help="The most seeds that --until decided trains.",
        rich_help_panel=STATISTICS,
    ),
]
Seconds = Annotated[
    float,
    typer.Option(
        "--seconds",
        metavar="S",
        min=0,
        help="How long a throughput session may take, once it has 9 rounds.",
        rich_help_panel=HOW,
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]

_CHOICE = "NAME[(param=value)]"
_OF_EXECUTORS = {"autocompletion": completion.of_kind("executors")}
#: The option of each field of `Request`; what is not a field of it is a parameter of the executor.
REQUEST: dict[str, Any] = {
    "suite": Annotated[
        str,
        typer.Argument(
            metavar="SUITE|FILE.toml",
            help="A suite's name, or the file that describes one.",
            autocompletion=completion.suites,
        ),
    ],
    "norms": _option(
        WHAT,
        list[str] | None,
        "--norm",
        _CHOICE,
        "Run this norm instead of the suite's, or +NAME besides; may be repeated.",
        autocompletion=completion.norms,
    ),
    "seeds": _option(WHAT, str | None, "--seeds", "N|A,B,...", "How many seeds, or which, instead of the suite's."),
    "settings": _option(
        WHAT,
        list[str] | None,
        "--set",
        "KEY=VALUE",
        "A recipe value, or rates, as in TOML; may be repeated. Each is an option as well: --epochs 12.",
        autocompletion=completion.settings,
    ),
    "plugin_files": Plugins,
    "probes": _option(
        WHAT,
        list[str] | None,
        "--probe",
        _CHOICE,
        "Watch each training with this probe; may be repeated.",
        autocompletion=completion.of_kind("probes"),
    ),
    "throughput": _option(
        WHAT, bool, "--throughput/--no-throughput", None, "Measure throughput last, or leave it out."
    ),
    "executor": _option(
        HOW, str, "--executor", _CHOICE, "How trials are run: processes, serial or ray.", **_OF_EXECUTORS
    ),
    "jobs": _option(HOW, str | None, "--jobs -j", "N|auto", "How many trials run at once.  [default: auto]"),
    "per_gpu": _option(HOW, int | None, "--per-gpu", "K", "How many trials share a GPU.  [default: 1]", min=1),
    "timeout": _option(HOW, str | None, "--timeout", "TIME", "Kill a trial that takes longer: 90s, 10m, 2h."),
    "address": _option(HOW, str | None, "--address", "HOST:PORT", "The Ray cluster to use, where one is running."),
    "checkpoint_every": _option(
        HOW, float | None, "--checkpoint-every", "MINUTES", "Save each training this often, to resume it later.", min=0
    ),
    "retry": _option(HOW, bool, "--retry", None, "Try trials again that ran out of memory or time."),
    "seconds": Seconds,
    "out": _option(WHERE, Path | None, "--out", "DIR", "Where results go.  [default: results/SUITE]"),
    "data_dir": _option(
        WHERE,
        Path | None,
        "--data-dir",
        "DIR",
        "Where data lies.  [default: NORMBENCH_DATA, else the user's cache folder]",
    ),
    "device": _option(
        WHERE,
        str,
        "--device",
        "DEVICE",
        "auto, cpu, cuda or cuda:N.",
        autocompletion=lambda: ["auto", "cpu", "cuda"],
    ),
    "fresh": _option(
        STATISTICS, bool, "--fresh/--no-fresh", None, "Train fresh seeds at the chosen rates, or leave them out."
    ),
    "base": _option(
        STATISTICS,
        Path | None,
        "--base",
        "BASE",
        "Train fresh seeds at the rates that this folder, or export, chose.",
        autocompletion=completion.results,
    ),
    "gates": Fail,
}
#: What they mean to a command that times norms, or takes fingerprints of them.
OF_NORMS = {
    "executor": _option(HOW, str, "--executor", _CHOICE, "How norms are run: processes, or serial.", **_OF_EXECUTORS),
    "timeout": _option(HOW, str | None, "--timeout", "TIME", "Give up a norm whose turn takes longer: 90s, 10m, 2h."),
}
_FIELDS = {field.name: field.default for field in dataclasses.fields(Request)}


def of_request(*names: str, **others: Any) -> Callable[[Callable[..., Given]], Callable[..., Given]]:
    """Give a command these options, from which its argument `request` is made; `others` replace the words of some.

    With `settings` come the options of each recipe value.
    """
    taken = {name: others.get(name, REQUEST[name]) for name in names}
    recipe = recipe_options.OPTIONS if "settings" in names else {}

    def decorated(command: Callable[..., Given]) -> Callable[..., Given]:
        @functools.wraps(command)
        def with_options(**given: Any) -> Given:
            values = {name: given.pop(name, None) for name in recipe}
            return command(_request({name: given.pop(name) for name in names}, values), **given)

        signature = inspect.signature(command, eval_str=True)
        own = [parameter for name, parameter in signature.parameters.items() if name != "request"]
        asked = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=_default(name), annotation=annotation)
            for name, annotation in {**taken, **recipe}.items()
        ]
        parameters = [*asked, *(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own)]
        with_options.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        with_options.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return with_options

    return decorated


def _default(name: str) -> Any:
    """Return an option's default: the field's where that is one value, and None where it is a collection."""
    default = _FIELDS.get(name)
    if name == "suite":
        return inspect.Parameter.empty
    return default if isinstance(default, str | bool | float) else None


def _request(given: dict[str, Any], recipe: dict[str, Any]) -> Request:
    """Return the request that options, and those of recipe values, make, None where one was not given."""
    read = {name: _READ[name](value) if name in _READ else value for name, value in given.items() if value is not None}
    asked = {name: value for name, value in recipe.items() if value is not None}
    if asked:
        read["settings"] = recipe_options.together(read.get("settings", {}), asked)
    options = {name: value for name, value in read.items() if name not in _FIELDS}
    fields = {name: value for name, value in read.items() if name in _FIELDS}
    return Request(**{"suite": "", **fields}, options=options, words=functools.partial(_spelled, frozenset(asked)))


def _spelled(asked: Collection[str], name: str, item: object = None) -> str:
    """Return how a field of a request, or one item of it, is spelled on the command line, where these were `asked`."""
    if name == "settings" and f"{recipe_options.PREFIX}{item}" in asked:
        return recipe_options.option(str(item))
    option = str(get_args(REQUEST[name])[1].default)  # where typer keeps the first of an option's names
    return f"{option} {item}" if isinstance(item, str) else option


def _seeds(text: str) -> int | list[int]:
    try:
        numbers = [int(part) for part in text.removesuffix(",").split(",")]
    except ValueError:
        raise UsageError(f"--seeds {text!r}: give a number of seeds (5), or the seeds themselves (0,3,4)") from None
    if "," not in text and numbers[0] > MOST_SEEDS:
        raise UsageError(f"--seeds {text}: at most {MOST_SEEDS} seeds; the seed {text} alone is --seeds {text},")
    return numbers if "," in text else numbers[0]


def _settings(texts: Sequence[str]) -> dict[str, Any]:
    return dict(assignment(text, "--set", "epochs=12") for text in texts)


def assignment(text: str, option: str, example: str) -> tuple[str, Any]:
    """Return the key and the value that key=value says. Raises UsageError with the option and an example."""
    key, equals, value = (part.strip() for part in text.partition("="))
    if not equals:
        raise UsageError(f"{option} {text!r}: write key=value, as in {option} {example}")
    try:
        return key, toml(f"x = {value}")["x"]
    except tomllib.TOMLDecodeError:
        raise UsageError(f'{option} {text!r}: {value!r} is no TOML value (6, 0.5, true, "text", [0.1, 1])') from None


#: How the text of an option becomes the value of its field, where it is another.
_READ: dict[str, Callable[[Any], Any]] = {
    "seeds": _seeds,
    "settings": _settings,
    "jobs": functools.partial(job_count, where="--jobs"),
    "timeout": functools.partial(seconds, where="--timeout"),
    "gates": gates.given,
}


def looks(until: str | None, max_seeds: int | None) -> list[int]:
    """Return the looks that --until and --max-seeds ask for; none where they do not. Raises UsageError."""
    if until is None and max_seeds is None:
        return []
    if until != "decided":
        raise UsageError(
            "--max-seeds goes with --until decided" if until is None else f"--until {until!r}: say decided"
        )
    if max_seeds is None:
        raise UsageError("--until decided needs --max-seeds N, so that it ends")
    from normbench.stats.decide import looks_up_to

    return looks_up_to(max_seeds)

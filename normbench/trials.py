"""What is planned, what is sent to a worker, and what comes back: cells, trials, packs, outcomes. No torch."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import msgspec

from normbench.contract import Task
from normbench.recipe import Recipe
from normbench.spelling import spelled
from normbench.texts import reason_to_keep

Kind: TypeAlias = Literal["trained", "not-trained", "diverged", "oom", "timeout", "error", "unsupported"]
#: What came of a norm in a session, and why a session ended: its figures were precise, its time was spent, it had its
#: rounds, or the baseline failed.
Timed: TypeAlias = Literal["measured", "unsupported", "oom", "timeout", "error"]
Stopped: TypeAlias = Literal["precise", "time", "rounds", "failed"]


class Meaning(NamedTuple):
    """What an outcome means.

    One that is `final` is a result of the layer, and a later run does not try again; any other is a failure of the
    run, exit status 4. `mark` stands for it on the strip of the stability board, "" where it has no score; `style` is
    how rich shows it.
    """

    final: bool
    scored: bool
    style: str
    mark: str = ""


#: Every outcome of a trial.
OUTCOMES: Final[dict[Kind, Meaning]] = {
    "trained": Meaning(final=True, scored=True, style="green", mark="●"),
    "not-trained": Meaning(final=True, scored=True, style="red", mark="○"),
    "diverged": Meaning(final=True, scored=True, style="bold red", mark="×"),
    "unsupported": Meaning(final=True, scored=False, style="yellow"),
    "oom": Meaning(final=False, scored=False, style="bold red"),
    "timeout": Meaning(final=False, scored=False, style="bold red"),
    "error": Meaning(final=False, scored=False, style="bold red"),
}
FINAL: Final = frozenset(outcome for outcome, meaning in OUTCOMES.items() if meaning.final)
SCORED: Final = frozenset(outcome for outcome, meaning in OUTCOMES.items() if meaning.scored)
FAILED: Final = frozenset(OUTCOMES) - FINAL
#: The mark of a rate at which some seeds trained, and others did not.
SOME_TRAINED: Final = "◐"


#: What identifies a row of some table: `Cell.table_id` and `Cell.norm_id`.
RowId: TypeAlias = tuple[str, str]
#: A fresh seed is a seed of the grid plus this: the same for every norm, run and side of a comparison.
FRESH: Final = 1_000_000


class Trial(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One training run, everything fixed; the unit of storage."""

    task: str
    task_version: int
    task_params: dict[str, Any] = {}
    norm: str
    params: dict[str, Any] = {}
    recipe: Recipe
    seed: int

    @property
    def key(self) -> str:
        """The trial's identity: 16 hex digits of a hash over its canonical JSON."""
        return hashlib.sha256(msgspec.json.encode(self, order="sorted")).hexdigest()[:16]


class Pack(msgspec.Struct, frozen=True, kw_only=True):
    """Trials that one worker trains together, and what it needs for that; it travels to workers whole.

    `plugins` names those of its norm, task and probes, () for all at hand: a worker loads these, and what is built in.
    `cell` is "" where they all are built in; packs of another are for another process, so that nothing that a
    stranger's code leaves behind reaches the next norm. `registered` is what `normbench.register` was given, as
    `plugins.registered` packs it. A pack that is `dry` is tried for one step, and gives no outcome unless that fails.
    `checkpoint` is a folder of the pack's own, in which a training is saved every `checkpoint_every` seconds, and from
    which it goes on; "" for none.
    """

    trials: tuple[Trial, ...]
    device: str = "cpu"
    data_dir: str = ""
    probes: tuple[str, ...] = ()
    plugin_files: tuple[str, ...] = ()
    plugins: tuple[str, ...] = ()
    cell: str = ""
    registered: bytes = b""
    dry: bool = False
    checkpoint: str = ""
    checkpoint_every: float = math.inf

    def lost(self, outcome: Literal["error", "timeout"], reason: str, seconds: float = 0.0) -> list[Outcome]:
        """Return the outcomes of a pack whose worker died: one per trial."""
        return [
            Outcome(trial=trial, outcome=outcome, reason=reason, dry=self.dry, seconds=seconds) for trial in self.trials
        ]


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A function of normbench that computes with layers and is no trial, with its arguments; it travels whole.

    `function` is "module:name"; see `normbench.calls`. `registered` is as in a `Pack`.
    """

    function: str
    arguments: tuple[Any, ...] = ()
    device: str = "cpu"
    data_dir: str = ""
    plugin_files: tuple[str, ...] = ()
    registered: bytes = b""


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """A file that a trial was made from, and the hash of its content as it was read.

    `at` says where `path` begins: "plugin NAME" at the folder of a plugin, "folder" at the working directory, "home" at
    the user's. It is "module" where `path` is a module's name, and "" where only the file's name is known.
    """

    at: str
    path: str
    sha256: str

    @property
    def file(self) -> tuple[str, str]:
        """What identifies the file in every list that has it."""
        return self.at, self.path


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """What a trial was made from, as the process that trained it had loaded it: the code prints, and the files."""

    norm_print: str | None
    task_print: str | None
    files: tuple[Source, ...] = ()


class Points(msgspec.Struct):
    """What a probe gave by one name: numbers, or vectors of one length, each at an optimizer step counted from 0."""

    step: list[int] = []
    value: list[Any] = []


class OfProbe:
    """What is of one probe with those of its parameters that are not at their defaults."""

    __slots__ = ()
    probe: str
    probe_params: dict[str, Any]

    @property
    def asked(self) -> str:
        """The probe as it is asked for: its name, and its parameters in brackets."""
        return spelled(self.probe, self.probe_params)


class Trace(msgspec.Struct, OfProbe, kw_only=True):
    """What a probe by step saw of a training, by name; nothing where it is unsupported there, or failed."""

    probe: str
    probe_params: dict[str, Any] = {}
    ended: Literal["watched", "unsupported", "error"] = "watched"
    reason: str = ""
    series: dict[str, Points] = {}


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a training gave. `score` and `validation` are None where there is none; `series` has one number per epoch.

    That of validation has one after each of the `validated` numbers of steps, where there are any. `figures` are single
    numbers by name. A record has each field but `trial`, `made`, `dry`, `changed` and `traces`, which have records of
    their own.
    `steps` optimizer steps were taken, and `epoch_steps` make an epoch: a recipe that counts steps may end within one.
    `diverged_at` is the optimizer step, counted from 1, whose loss was the first that is not finite; None where every
    loss was finite and a weight or buffer was not. `made` is None where all is built in, or the worker died. `changed`
    says what the training changed that all of its process shares, in words; it was put back. `eval_batch` is how many
    samples were evaluated at a time, where the evaluation of one depends on the others; else 0. `spared` counts by name
    the parameters that weight decay spares, of "norms" and "elsewhere", where it acts. `data` is a hash of the data.
    """

    trial: Trial
    outcome: Kind
    reason: str = ""
    score: float | None = None
    validation: float | None = None
    diverged_at: int | None = None
    series: dict[str, list[float]] = {}
    figures: dict[str, float] = {}
    steps: int = 0
    epoch_steps: int = 0
    lanes: int = 1
    seconds: float = 0.0
    dry: bool = False
    changed: tuple[str, ...] = ()
    eval_batch: int = 0
    spared: dict[str, dict[str, int]] = {}
    validated: list[int] = []
    made: Made | None = None
    data: str = ""
    traces: tuple[Trace, ...] = ()

    def __post_init__(self) -> None:
        """Keep of the reason what a record holds."""
        msgspec.structs.force_setattr(self, "reason", reason_to_keep(self.reason))


class Measure(msgspec.Struct, frozen=True, kw_only=True):
    """A task's score: its name, its unit ("%" is a share shown as per cent), which way is better, and two anchors."""

    name: str
    unit: str
    direction: Literal["up", "down"]
    chance: float
    reference: float

    @classmethod
    def of(cls, task: Task, params: Mapping[str, Any]) -> Measure:
        """Return how a task's score is to be read, with these of its parameters."""
        chance, reference = task.chance_and_reference(params)
        return cls(name=task.measure, unit=task.unit, direction=task.direction, chance=chance, reference=reference)

    def progress(self, score: float) -> float:
        """(score - chance) / (reference - chance), not below 0: one huge finite loss would own every mean."""
        return max(0.0, (score - self.chance) / (self.reference - self.chance))

    def trained(self, score: float) -> bool:
        """Whether progress is at least one half."""
        return self.progress(score) >= 0.5


def id_of_table(of: Any, *, tuned: bool) -> str:
    """Return what identifies the tables of what has a task and a condition, and whether rates are chosen in them."""
    return msgspec.json.encode((of.task, of.task_version, of.task_params, of.condition, tuned), order="sorted").decode()


class OfTable:
    """What stands in the tables of a task, its version and parameters, a condition, and the protocol."""

    __slots__ = ()
    task: str
    task_version: int
    task_params: dict[str, Any]
    condition: dict[str, Any]
    recipe: Recipe

    @property
    def table_id(self) -> str:
        """What identifies these tables."""
        return id_of_table(self, tuned=self.recipe.hold_out)


class OfNorm:
    """What belongs to one norm with its parameters: a cell, or what was measured of it."""

    __slots__ = ()
    norm: str
    params: dict[str, Any]

    @property
    def norm_id(self) -> str:
        """What identifies the norm and its parameters among those of a table."""
        return msgspec.json.encode((self.norm, self.params), order="sorted").decode()


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """A setting and rate that were chosen elsewhere: in BASE, or at the first look of `--until decided`."""

    setting: dict[str, Any] = {}
    rate: float


class Cell(msgspec.Struct, OfTable, OfNorm, frozen=True, kw_only=True, omit_defaults=True):
    """The trials of one (task, condition, norm): a grid of rates x tuned settings x seeds, as a run planned it.

    `recipe` is the task's, with what the suite fixes and varies; `condition` are those values of it that differ from
    the task's own. The prints are hashes of the code that the run used; None is never up to date. `fresh` are the
    seeds that are trained at the chosen setting and rate alone, or at those that are `kept`.
    """

    task: str
    task_version: int
    task_params: dict[str, Any] = {}
    norm: str
    params: dict[str, Any] = {}
    label: str
    recipe: Recipe
    condition: dict[str, Any] = {}
    rates: list[float]
    settings: list[dict[str, Any]] = msgspec.field(default_factory=lambda: [{}])
    seeds: list[int]
    norm_print: str | None = None
    task_print: str | None = None
    fresh: list[int] = []
    kept: Kept | None = None

    def trial(self, rate: float, setting: dict[str, Any], seed: int) -> Trial:
        """Return the trial at one point of the grid."""
        recipe = self.recipe.changed(**setting) if setting else self.recipe
        return Trial(
            task=self.task,
            task_version=self.task_version,
            task_params=self.task_params,
            norm=self.norm,
            params=self.params,
            recipe=msgspec.structs.replace(recipe, rate=rate),
            seed=seed,
        )

    def trials(self) -> Iterator[Trial]:
        """Yield every trial of the cell's grid, one seed after another."""
        return itertools.chain.from_iterable(map(self.at_seed, self.seeds))

    def at_seed(self, seed: int) -> Iterator[Trial]:
        """Yield the trials of the grid's rates and settings at one seed."""
        return (self.trial(rate, setting, seed) for setting, rate in itertools.product(self.settings, self.rates))

    @property
    def row_id(self) -> RowId:
        """What identifies the cell's row among those of all tables."""
        return self.table_id, self.norm_id

    @property
    def prints(self) -> tuple[str | None, str | None]:
        """The code prints, of the norm and of the task."""
        return self.norm_print, self.task_print

    def every(self, others: Iterable[int] = ()) -> Iterator[Trial]:
        """Yield every trial that the cell may have, wherever its fresh seeds stand, with further seeds of its grid."""
        yield from itertools.chain.from_iterable(map(self.at_seed, {*self.seeds, *others, *self.fresh}))
        if self.kept is not None:
            yield from (self.trial(self.kept.rate, self.kept.setting, seed) for seed in self.fresh)

    def tries(self, kept: Kept) -> bool:
        """Whether the grid has this setting and rate."""
        return kept.rate in self.rates and kept.setting in self.settings

    @property
    def chooses(self) -> bool:
        """Whether the grid has more than one setting and rate, so that one is chosen."""
        return len(self.rates) * len(self.settings) > 1


def shared(kind: type[msgspec.Struct], *parts: msgspec.Struct) -> dict[str, Any]:
    """Return the fields of structs that a kind of struct has as well; where two structs have one, the later counts."""
    values = {name: getattr(part, name) for part in parts for name in part.__struct_fields__}
    return {name: value for name, value in values.items() if name in kind.__struct_fields__}

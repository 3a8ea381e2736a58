"""What is stored of a run and a trial, and what a trial is. No torch.

Every record stands alone: it carries its task's chance, reference, direction and units, so that boards need no plugin.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterator
from typing import Any, Final, Literal, TypeAlias

import msgspec

from normbench.contract import Task
from normbench.recipe import Recipe

#: The version of every line normbench writes. A reader leaves out lines of a newer one, and says so.
SCHEMA: Final = 1

Kind: TypeAlias = Literal["trained", "not-trained", "diverged", "oom", "timeout", "error", "unsupported"]

#: What came of a norm in a session, and why a session ended: its figures were precise, its time was spent, it had its
#: rounds, or the baseline failed.
Timed: TypeAlias = Literal["measured", "unsupported", "oom", "timeout", "error"]
Stopped: TypeAlias = Literal["precise", "time", "rounds", "failed"]

#: Characters of a reason that are kept at its beginning, and at its end.
_REASON = 980

#: Outcomes that say something of the layer: a later run does not try again.
FINAL: Final = frozenset({"trained", "not-trained", "diverged", "unsupported"})
#: Outcomes that have a score.
SCORED: Final = frozenset({"trained", "not-trained", "diverged"})
#: Outcomes that are failures of the run, not of the layer: exit status 4.
FAILED: Final = frozenset({"oom", "timeout", "error"})


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
        """Return the outcomes of a pack whose worker died: one a trial."""
        return [
            Outcome(trial=trial, outcome=outcome, reason=reason, dry=self.dry, seconds=seconds) for trial in self.trials
        ]


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A function of normbench's, and what it is given: what computes with layers and is no trial. It travels whole.

    `function` is "module:name"; see `normbench.execute.calls`. `registered` is as in a `Pack`.
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


class SourcesRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A line of sources.jsonl: a list of files that trials were made from, by its hash."""

    schema: int
    sources: str
    files: list[Source]


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """What a trial was made from, as the process that trained it had loaded it: the code prints, and the files."""

    norm_print: str | None
    task_print: str | None
    files: tuple[Source, ...] = ()


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a training gave. `score` and `validation` are None where there is none; `series` has one number an epoch.

    `steps` optimizer steps were taken, and `epoch_steps` make an epoch: a recipe that counts steps may end within one.
    `diverged_at` is the optimizer step, counted from 1, whose loss was the first that is not finite; None where every
    loss was finite and a weight or buffer was not. `made` is None where all is built in, or the worker died. `changed`
    says what the training changed that all of its process shares, in words; it was put back. `eval_batch` is how many
    samples were evaluated at a time, where the evaluation of one depends on the others; else 0. `data` is a hash of the
    data.
    """

    trial: Trial
    outcome: Kind
    reason: str = ""
    score: float | None = None
    validation: float | None = None
    diverged_at: int | None = None
    series: dict[str, list[float]] = {}
    steps: int = 0
    epoch_steps: int = 0
    lanes: int = 1
    seconds: float = 0.0
    dry: bool = False
    changed: tuple[str, ...] = ()
    eval_batch: int = 0
    made: Made | None = None
    data: str = ""

    def __post_init__(self) -> None:
        """Keep of the reason what a record holds."""
        _cut_reason(self)


class Measure(msgspec.Struct, frozen=True, kw_only=True):
    """A task's score: its name, its unit ("%" is a share shown as per cent), which way is better, and two anchors."""

    name: str
    unit: str
    direction: Literal["up", "down"]
    chance: float
    reference: float

    @classmethod
    def of(cls, task: Task) -> Measure:
        """Return how a task's score is to be read."""
        return cls(
            name=task.measure, unit=task.unit, direction=task.direction, chance=task.chance, reference=task.reference
        )

    def progress(self, score: float) -> float:
        """(score - chance) / (reference - chance), not below 0: one huge finite loss would own every mean."""
        return max(0.0, (score - self.chance) / (self.reference - self.chance))

    def trained(self, score: float) -> bool:
        """Whether progress is at least one half."""
        return self.progress(score) >= 0.5


class Cell(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The trials of one (task, condition, norm): a grid of rates x tuned settings x seeds, as a run planned it.

    `recipe` is the task's, with what the suite fixes and varies; `condition` are those values of it that differ from
    the task's own. The prints are hashes of the code that the run used; None is never up to date.
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

    @property
    def table(self) -> str:
        """What identifies the tables this cell stands in: task, version, parameters, condition, and the protocol."""
        return _table(self.task, self.task_version, self.task_params, self.condition, self.recipe.hold_out)

    @property
    def row(self) -> str:
        """What identifies this cell among those of its tables: the norm and its parameters."""
        return _row(self.norm, self.params)

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
        """Every trial of the cell, a seed at a time."""
        for seed, setting, rate in itertools.product(self.seeds, self.settings, self.rates):
            yield self.trial(rate, setting, seed)


class _Words(msgspec.Struct, frozen=True):
    """What boards and commands read of a run's suite, which may lack any of it."""

    name: str = ""
    protocol: str = ""
    vary: dict[str, list[Any]] = {}
    tune: dict[str, list[Any]] = {}
    gate: dict[str, str] = {}
    published: dict[str, Any] = {}


class RunRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A line of runs.jsonl: one call of `normbench run`, with the suite as resolved and the prints it used.

    `looks` are the numbers of seeds at which `--until decided` looks, fixed before the first. `data_dir` is a hash of
    the path of the data folder.
    """

    schema: int
    run: str
    started: str
    command: list[str]
    version: str
    device: str
    suite: dict[str, Any]
    baseline: str
    protocol: Literal["tuned", "published"] = "tuned"
    cells: list[Cell]
    looks: list[int] = []
    data_dir: str = ""

    def __post_init__(self) -> None:
        """Refuse a suite that nobody could read: a gate of it would hold nothing."""
        msgspec.convert(self.suite, _Words)


class TrialRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A line of trials.jsonl: a trial, what it gave, and what it ran with. Numbers not finite are null, and named."""

    schema: int
    key: str
    run: str
    finished: str
    task: str
    task_version: int
    task_params: dict[str, Any] = {}
    norm: str
    params: dict[str, Any] = {}
    recipe: dict[str, Any]
    seed: int
    norm_print: str | None = None
    task_print: str | None = None
    sources: str = ""
    data: str = ""
    device: str
    environment: str
    outcome: Kind
    reason: str = ""
    score: float | None = None
    validation: float | None = None
    diverged_at: int | None = None
    measure: Measure
    series: dict[str, list[float | None]] = {}
    nonfinite: dict[str, str] = {}
    probes: list[str] = []
    steps: int = 0
    epoch_steps: int = 0
    lanes: int = 1
    threads: int = 1
    ranks: int = 1
    device_batch: int = 0
    sync_ranks: int = 1
    seconds: float = 0.0
    eval_batch: int = 0

    def __post_init__(self) -> None:
        """Refuse a scored outcome without a score: a board could not place it."""
        if self.outcome in SCORED and self.score is None and "score" not in self.nonfinite:
            raise ValueError(f"outcome is {self.outcome!r} without a score")


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a TrialRecord that boards and plans read; decoding only this keeps a million records affordable."""

    schema: int
    key: str
    run: str
    device: str
    environment: str
    outcome: Kind
    measure: Measure
    norm_print: str | None = None
    task_print: str | None = None
    sources: str = ""
    data: str = ""
    reason: str = ""
    score: float | None = None
    validation: float | None = None
    series: dict[str, list[float | None]] = {}
    probes: list[str] = []
    steps: int = 0
    epoch_steps: int = 0
    seconds: float = 0.0
    eval_batch: int = 0

    @property
    def trained(self) -> bool:
        """Whether the trial trained."""
        return self.outcome == "trained"

    @property
    def has_score(self) -> bool:
        """Whether the outcome says something of the layer's score."""
        return self.outcome in SCORED and self.score is not None


class Timing(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One norm in a session: the seconds that its block of training steps, and of evaluation, took in each round.

    `peak_memory` are the bytes that a training step takes beyond weights and data, on CUDA; `outcome` is "measured", or
    why it was not.
    """

    norm: str
    params: dict[str, Any] = {}
    label: str
    norm_print: str | None = None
    sources: str = ""
    outcome: Timed = "measured"
    reason: str = ""
    train: list[float] = []
    evaluation: list[float] = []
    peak_memory: int | None = None

    def __post_init__(self) -> None:
        """Keep of the reason what a record holds."""
        _cut_reason(self)

    def has_code_of(self, other: Timing) -> bool:
        """Whether both are of the same code: the norm's print, and where both have one the list of files."""
        same_files = self.sources == other.sources or not (self.sources and other.sources)
        return self.norm_print == other.norm_print and same_files

    @property
    def row(self) -> str:
        """What identifies the norm among those of a table, like `Cell.row`."""
        return _row(self.norm, self.params)


class SessionRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A line of sessions.jsonl: the throughput of all norms of one task and condition, measured in rounds.

    A block is `steps` training steps of `recipe.batch_size` samples, and `batches` evaluation batches of
    `batch` samples. `again` is the baseline a second time in each round, `without` the norm that normalizes nothing.
    The ratios were to be known to within `precision`, a share of each.
    """

    schema: int
    session: str
    started: str
    finished: str
    command: list[str]
    version: str
    task: str
    task_version: int
    task_params: dict[str, Any] = {}
    task_print: str | None = None
    condition: dict[str, Any] = {}
    recipe: Recipe
    device: str
    environment: str
    rounds: int
    steps: int
    batches: int
    batch: int
    stopped: Stopped
    precision: float = 0.03
    baseline: Timing
    again: Timing
    without: Timing | None = None
    norms: list[Timing]

    def __post_init__(self) -> None:
        """Refuse a norm that counts as measured without its seconds in each round: a board could not place it."""
        for timing in (*self.timings, self.again, *([self.without] if self.without else [])):
            if timing.outcome == "measured" and self.stopped != "failed":
                for seconds in (timing.train, timing.evaluation):
                    if not len(seconds) == self.rounds > 0 or min(seconds) <= 0:
                        raise ValueError(f"{timing.label} has not the seconds of {self.rounds} rounds")

    @property
    def timings(self) -> list[Timing]:
        """The norms that were asked for, and the baseline: each once."""
        return [self.baseline, *self.norms]

    @property
    def table(self) -> str:
        """What identifies the tables this session stands in, like `Cell.table`."""
        return _table(self.task, self.task_version, self.task_params, self.condition, self.recipe.hold_out)


class FingerprintRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A line of fingerprints.jsonl: numbers of a few training steps of one norm, task and condition.

    `numbers` are lists by name, a word in the place of one that is not finite; `digest` is of them rounded. `method`
    says which way they were taken: two of other methods are not compared.
    """

    schema: int
    started: str
    command: list[str]
    version: str
    method: int
    task: str
    task_version: int
    task_params: dict[str, Any] = {}
    task_print: str | None = None
    condition: dict[str, Any] = {}
    norm: str
    params: dict[str, Any] = {}
    label: str
    norm_print: str | None = None
    sources: str = ""
    recipe: Recipe
    device: str
    environment: str
    outcome: Literal["taken", "unsupported", "error"]
    reason: str = ""
    digest: str = ""
    numbers: dict[str, list[float | Literal["nan", "inf", "-inf"]]] = {}

    def __post_init__(self) -> None:
        """Keep of the reason what a record holds."""
        _cut_reason(self)

    @property
    def table(self) -> str:
        """What identifies the tables of its cell, like `Cell.table`."""
        return _table(self.task, self.task_version, self.task_params, self.condition, self.recipe.hold_out)

    @property
    def row(self) -> str:
        """What identifies its cell among those of its tables, like `Cell.row`."""
        return _row(self.norm, self.params)

    @property
    def key(self) -> str:
        """What two fingerprints that can be compared have in common: all but the code, and where it ran."""
        common = (self.method, self.device, self.table, self.row, self.recipe)
        return msgspec.json.encode(common, order="sorted").decode()


def _table(task: str, version: int, params: dict[str, Any], condition: dict[str, Any], hold_out: bool) -> str:
    return msgspec.json.encode((task, version, params, condition, hold_out), order="sorted").decode()


def _row(norm: str, params: dict[str, Any]) -> str:
    return msgspec.json.encode((norm, params), order="sorted").decode()


def storable(text: str) -> str:
    """Return text as JSON can hold it: a lone surrogate, half of a character, is spelled out."""
    return text.encode("utf-8", errors="backslashreplace").decode("utf-8")


def _cut_reason(record: Outcome | Timing | FingerprintRecord) -> None:
    """Make a reason text that can be stored, and leave out its middle where it is long: errors may quote megabytes."""
    text = storable(record.reason)
    if (left := len(text) - 2 * _REASON) > 40:
        text = f"{text[:_REASON]} … ({left} characters) … {text[-_REASON:]}"
    msgspec.structs.force_setattr(record, "reason", text)


def without_nonfinite(series: dict[str, list[float]]) -> tuple[dict[str, list[float | None]], dict[str, str]]:
    """Return series with null for what is not finite, and flags "name[index]" -> "nan", "inf" or "-inf"."""
    clean: dict[str, list[float | None]] = {}
    flags: dict[str, str] = {}
    for name, values in series.items():
        clean[name] = [value if math.isfinite(value) else None for value in values]
        flags |= {f"{name}[{i}]": str(value) for i, value in enumerate(values) if not math.isfinite(value)}
    return clean, flags

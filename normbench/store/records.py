"""What a line of each file holds: runs, trials, sessions, fingerprints, lists of sources. No torch.

Every record stands alone: it carries its task's chance, reference, direction and units, so that boards need no plugin.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any, Final, Literal, TypeAlias

import msgspec

from normbench.recipe import Recipe
from normbench.texts import reason_to_keep
from normbench.trials import SCORED, Cell, Kind, Measure, OfNorm, OfProbe, OfTable, Points, Source, Stopped, Timed

#: A number as JSON has it: a word where it is not finite.
Number: TypeAlias = float | Literal["nan", "inf", "-inf"]
#: The version of every line normbench writes. A reader leaves out lines of a newer one, and says so.
SCHEMA: Final = 1


class SourcesRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A line of sources.jsonl: a list of files that trials were made from, by its hash."""

    schema: int
    sources: str
    files: list[Source]


class EnvironmentRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A line of environments.jsonl: what trials ran on. `environment` is its id, a hash of all the rest."""

    schema: int
    environment: str
    python: str = ""
    platform: str = ""
    processor: str = ""
    cores: int = 0
    packages: dict[str, str] = {}
    accelerator: str = ""
    cuda: str | None = ""

    @classmethod
    def of(cls, **described: Any) -> EnvironmentRecord:
        """Return the record of an environment that is described so."""
        digest = hashlib.sha256(msgspec.json.encode(described, order="sorted")).hexdigest()[:12]
        return cls(schema=SCHEMA, environment=digest, **described)


#: Stands for an environment of which nothing is stored.
UNKNOWN: Final = EnvironmentRecord(schema=SCHEMA, environment="")


class _Words(msgspec.Struct, frozen=True):
    """What boards and commands read of a run's suite, which may lack any of it."""

    name: str = ""
    protocol: str = ""
    vary: dict[str, list[Any]] = {}
    tune: dict[str, list[Any]] = {}
    gate: dict[str, str] = {}
    published: dict[str, Any] = {}
    probes: dict[str, Any] = {}
    boards: list[str] = []


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
        """Refuse a suite that can't be read: its gates would check nothing."""
        msgspec.convert(self.suite, _Words)


class _OfTrial(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a line says of the trial that it is about: which it was, and the code that it was made from."""

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


class TrialRecord(_OfTrial, frozen=True, kw_only=True, omit_defaults=True):
    """A line of trials.jsonl: a trial, what it gave, and what it ran with. What is not finite is null, and named."""

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
    figures: dict[str, float | None] = {}
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
    spared: dict[str, dict[str, int]] = {}
    validated: list[int] = []

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
    diverged_at: int | None = None
    series: dict[str, list[float | None]] = {}
    figures: dict[str, float | None] = {}
    probes: list[str] = []
    steps: int = 0
    epoch_steps: int = 0
    seconds: float = 0.0
    eval_batch: int = 0
    validated: list[int] = []

    @property
    def trained(self) -> bool:
        """Whether the trial trained."""
        return self.outcome == "trained"

    @property
    def has_score(self) -> bool:
        """Whether the outcome says something of the layer's score."""
        return self.outcome in SCORED and self.score is not None

    @property
    def selection(self) -> float | None:
        """What choices are made on: the score on validation, or the only one where there is no such split."""
        if not self.has_score:
            return None
        return self.score if self.validation is None else self.validation


class Series(msgspec.Struct, frozen=True):
    """What a probe gave by one name: at each optimizer step, counted from 0, a number or a vector."""

    step: list[int]
    value: list[Number | list[Number]]

    def __post_init__(self) -> None:
        """Refuse a series that can't be drawn."""
        if len(self.step) != len(self.value):
            raise ValueError(f"a series has {len(self.step)} steps and {len(self.value)} values")

    @classmethod
    def of(cls, points: Points) -> Series:
        """Return the series of what a probe gave."""
        return cls(
            points.step,
            [list(map(worded, value)) if isinstance(value, list) else worded(value) for value in points.value],
        )

    @property
    def is_vector(self) -> bool:
        """Whether its values are lists."""
        return bool(self.value) and isinstance(self.value[0], list)

    def rows(self) -> list[list[float]]:
        """Return the value at each step as a list of numbers, of one where it is no vector."""
        return [list(map(float, value)) if isinstance(value, list) else [float(value)] for value in self.value]


class TraceRecord(_OfTrial, OfNorm, OfProbe, frozen=True, kw_only=True, omit_defaults=True):
    """A line of traces.jsonl: what one probe saw of one trial, step by step. A trial may have several; the last counts.

    `probe` and `probe_params`, those that are not at their defaults, say which probe it was. `series` is empty, and
    `reason` says why, where the probe does not apply to the trial.
    """

    device: str
    environment: str
    probe: str
    probe_params: dict[str, Any] = {}
    reason: str = ""
    series: dict[str, Series] = {}

    @property
    def of(self) -> tuple[str, ...]:
        """What the lines have in common of which the last counts: trial, code, device and probe."""
        code = (self.norm_print or "", self.task_print or "")
        return (self.key, *code, self.device, self.asked)


class Timing(msgspec.Struct, OfNorm, frozen=True, kw_only=True, omit_defaults=True):
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
        msgspec.structs.force_setattr(self, "reason", reason_to_keep(self.reason))

    def has_code_of(self, other: Timing) -> bool:
        """Whether both are of the same code: the norm's print, and where both have one the list of files."""
        same_files = self.sources == other.sources or not (self.sources and other.sources)
        return self.norm_print == other.norm_print and same_files


class SessionRecord(msgspec.Struct, OfTable, frozen=True, kw_only=True, omit_defaults=True):
    """A line of sessions.jsonl: the throughput of all norms of one task and condition, measured in rounds.

    A block is `steps` training steps of `recipe.batch_size` samples, and `batches` evaluation batches of
    `batch` samples. `again` is the baseline a second time in each round, `without` the norm that normalizes nothing.
    It was to go on until each ratio was known to within `precision`, a share of it.
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
                        raise ValueError(f"{timing.label} lacks the seconds of {self.rounds} rounds")

    @property
    def timings(self) -> list[Timing]:
        """The norms that were asked for, and the baseline: each once."""
        return [self.baseline, *self.norms]


class FingerprintRecord(msgspec.Struct, OfTable, OfNorm, frozen=True, kw_only=True, omit_defaults=True):
    """A line of fingerprints.jsonl: numbers of a few training steps of one norm, task and condition.

    `numbers` are lists by name, with a word for a number that is not finite; `digest` is of them rounded. `method` says
    how they were taken: fingerprints of different methods are not compared.
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
    numbers: dict[str, list[Number]] = {}

    def __post_init__(self) -> None:
        """Keep of the reason what a record holds."""
        msgspec.structs.force_setattr(self, "reason", reason_to_keep(self.reason))

    @property
    def key(self) -> str:
        """What two fingerprints that can be compared have in common: all but the code, and where it ran."""
        common = (self.method, self.device, self.table_id, self.norm_id, self.recipe)
        return msgspec.json.encode(common, order="sorted").decode()


def worded(value: float) -> Number:
    """Return a number as it is stored, to nine digits, and a word for one that is not finite."""
    if math.isnan(value):
        return "nan"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return float(f"{value:.9g}")


def nonfinite(series: dict[str, list[float]], figures: dict[str, float]) -> dict[str, str]:
    """Return what is not finite, for which JSON has null: "name[index]" or "figures.name" -> "nan", "inf" or "-inf"."""
    named = {f"{name}[{i}]": value for name, values in series.items() for i, value in enumerate(values)}
    named |= {f"figures.{name}": value for name, value in figures.items()}
    return {name: str(value) for name, value in named.items() if not math.isfinite(value)}

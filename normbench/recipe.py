"""Everything about a training that is a value: what a task gives, a suite changes, and a trial's key is made of."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec

#: The values that a task's data may depend on.
OF_DATA = ("batch_size", "epochs", "steps", "hold_out")

#: Ranges of the values that are numbers: the lowest, whether it is allowed itself, and what a message says is allowed.
_RANGES: dict[str, tuple[float, bool, str]] = {
    "rate": (0, False, "a rate is above 0"),
    "batch_size": (1, True, "it is 1 or more"),
    "threads": (1, True, "it is 1 or more"),
    "epochs": (0, True, "it is 1 or more, or 0 where steps count"),
    "steps": (0, True, "it is 1 or more, or 0 where epochs count"),
    "momentum": (0, True, "it is at least 0 and below 1"),
    "weight_decay": (0, True, "it is 0 or more"),
    "init_scale": (0, False, "it is above 0"),
    "dropout": (0, True, "it is at least 0 and below 1"),
    "milestone_factor": (0, False, "it is above 0"),
    "devices": (1, True, "it is 1 or more"),
    "num_nodes": (1, True, "it is 1 or more"),
    "accumulate": (1, True, "it is 1 or more"),
    "sync_ranks": (0, True, "it is 1 or more, or 0 for all ranks"),
    "eval_batch": (2, True, "it is 2 or more"),
    "recalibrate": (0, True, "it is a number of training batches, or 0 for none"),
    "validate_every": (0, True, "it is a number of steps, or 0 for after each epoch"),
}
#: Values that stay below 1.
_SHARES = frozenset({"momentum", "dropout"})


class Recipe(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Everything about a training that is a value.

    A field that equals its default is left out of a trial's identity, so that a recipe can grow without orphaning what
    is stored: a new field's default must mean what was done before it existed. Each value has one spelling, too: where
    a float is meant, 0 becomes 0.0.

    - `rate`: the learning rate; `batch_size`: samples per step.
    - `epochs`: passes over the training data; or `steps`: optimizer steps. One of the two is 0.
    - `optimizer`: "sgd" with `momentum`; "adam" and "adamw" (decoupled weight decay) with torch's betas.
    - `schedule`: what becomes of the rate: "constant"; "steps", times `milestone_factor` at each of `milestones`, which
      are fractions of the run; "cosine", half a wave down to 0; "one-cycle", up over the first 30% and down again.
    - `weight_decay`, and what it spares: "nothing", or "norms-and-biases".
    - `init`: torch's "default", "he" (normal, fan in, Kaiming He et al. 2015) or "xavier" (uniform, Glorot & Bengio
      2010), both with biases at 0; the weights of linears and convolutions are then multiplied by `init_scale`.
    - `dropout`: the probability, where the task has dropout.
    - `precision`: 32, or "bf16" for bfloat16 autocast; `channels_last`: that memory format, for images; `compile`: the
      network under torch.compile; `threads`: those that torch computes with on a CPU.
    - `devices` on each of `num_nodes` machines train one trial together, one process each, called a rank; `strategy` is
      Lightning's name of how. A step's `batch_size` samples are split evenly over the ranks, and each rank's part over
      `accumulate` passes, whose gradients add up: `device_batch` is what a layer sees at once. `sync_ranks` ranks share
      the statistics of a norm that synchronizes them; 0 is all.
    - `eval_batch`: samples that are evaluated at once. Where a norm's evaluation depends on the batch, each sample is
      evaluated among exactly this many of its split.
    - `recalibrate`: for each evaluation, running averages are taken anew, as plain means over so many training batches;
      training goes on with its own. With 0 they are as training left them.
    - `validate_every`: so many optimizer steps apart the score is measured on validation, and after the last; with 0
      after each epoch.
    - with `hold_out` off, training takes the validation split as well, and there is no validation score.
    """

    rate: float
    batch_size: int
    epochs: int = 0
    momentum: float = 0.0
    weight_decay: float = 0.0
    threads: int = 1
    hold_out: bool = True
    steps: int = 0
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    schedule: Literal["constant", "steps", "cosine", "one-cycle"] = "constant"
    milestones: tuple[float, ...] = (0.5, 0.75)
    milestone_factor: float = 0.1
    weight_decay_spares: Literal["nothing", "norms-and-biases"] = "nothing"
    init: Literal["default", "he", "xavier"] = "default"
    init_scale: float = 1.0
    dropout: float = 0.0
    precision: Literal[32, "bf16"] = 32
    channels_last: bool = False
    compile: bool = False
    devices: int = 1
    num_nodes: int = 1
    strategy: Literal["ddp", "ddp_find_unused_parameters_true"] = "ddp"
    accumulate: int = 1
    sync_ranks: int = 0
    eval_batch: int = 1024
    recalibrate: int = 0
    validate_every: int = 0

    def __post_init__(self) -> None:
        """Refuse values outside their range, and give each value the one spelling that it is stored and hashed with.

        Plans and boards make recipes by the million: a value that is the very object of its default needs neither.
        """
        values = msgspec.structs.astuple(self)
        for name, value, default in zip(self.__struct_fields__, values, _DEFAULTS, strict=True):
            if value is not default:
                # msgspec leaves out a field only where it is the very object that its default is.
                spelled = _spelled(name, value)
                msgspec.structs.force_setattr(self, name, default if spelled == default else spelled)
        if (self.epochs > 0) == (self.steps > 0):
            raise ValueError(
                f"epochs is {self.epochs} and steps is {self.steps}; one of the two says how long to train"
            )
        if self.batch_size % (self.ranks * self.accumulate):
            parts = f"{self.ranks} ranks" + (f" x {self.accumulate} accumulated parts" if self.accumulate > 1 else "")
            raise ValueError(f"batch_size is {self.batch_size}, which {parts} don't divide evenly")
        if self.sync_ranks and self.ranks % self.sync_ranks:
            raise ValueError(f"sync_ranks is {self.sync_ranks}, which does not divide the {self.ranks} ranks")

    @property
    def ranks(self) -> int:
        """How many processes train a trial together, one per device."""
        return self.devices * self.num_nodes

    @property
    def device_batch(self) -> int:
        """The samples that a layer sees at once: those of one pass on one device."""
        return self.batch_size // (self.ranks * self.accumulate)

    def total_steps(self, steps_per_epoch: int) -> int:
        """Return how many optimizer steps the training takes, where an epoch has `steps_per_epoch`."""
        return self.steps or self.epochs * steps_per_epoch

    def changed(self, **values: Any) -> Recipe:
        """Return the recipe with other values; `epochs` replaces `steps`, and the other way round.

        Raises ValueError, or msgspec.ValidationError for a wrong type, for a value that can't be.
        """
        for name, value in values.items():
            # msgspec's own message does not say what is allowed.
            _check_choice(name, value)
        for given, replaced in (("epochs", "steps"), ("steps", "epochs")):
            if given in values and replaced not in values:
                values = {**values, replaced: 0}
        return msgspec.convert({**msgspec.to_builtins(self), **values}, Recipe)


_HINTS = get_type_hints(Recipe)
#: The values that are one of a few words, and these words.
CHOICES: dict[str, tuple[Any, ...]] = {
    name: get_args(hint) for name, hint in _HINTS.items() if get_origin(hint) is Literal
}
_FLOATS = frozenset(name for name, hint in _HINTS.items() if hint is float)
#: Each field's default; msgspec's NODEFAULT, which no value is, where it has none.
_DEFAULTS = tuple(field.default for field in msgspec.structs.fields(Recipe))


def _spelled(name: str, value: Any) -> Any:
    """Return a value in its one spelling. Raises ValueError where it can't be."""
    if name == "milestones":
        return _milestones(value)
    _check_choice(name, value)
    if name in _RANGES:
        lowest, included, allowed = _RANGES[name]
        below = value < lowest or (value == lowest and not included)
        if below or not math.isfinite(value) or (name in _SHARES and value >= 1):
            raise ValueError(f"{name} is {value}; {allowed}")
    return float(value) if name in _FLOATS else value


def _check_choice(name: str, value: Any) -> None:
    if name in CHOICES and value not in CHOICES[name]:
        raise ValueError(f"{name} is {value!r}; it is one of {', '.join(map(repr, CHOICES[name]))}")


def _milestones(values: Iterable[float]) -> tuple[float, ...]:
    milestones = tuple(float(value) for value in values)
    if not milestones:
        raise ValueError("milestones is empty; name one fraction of the run or more")
    ascending = all(one < other for one, other in itertools.pairwise(milestones))
    if not ascending or not all(0 < milestone < 1 for milestone in milestones):
        raise ValueError(f"milestones is {list(milestones)}; they are fractions of the run, ascending, between 0 and 1")
    return milestones

"""How a task is described: data, network and recipe."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from normbench.contract.functions import check_function, check_head, check_members, check_types, function, named_by
from normbench.errors import UsageError
from normbench.recipe import Recipe
from normbench.spelling import spelled
from normbench.surroundings import on_stderr
from normbench.texts import in_a_line

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.utils.data import Dataset


@dataclass(frozen=True)
class Splits:
    """A task's data. Each split is a pair (inputs, targets) of tensors, samples first, or a map-style data set."""

    train: tuple[Tensor, Tensor] | Dataset[Any]
    validation: tuple[Tensor, Tensor] | Dataset[Any]
    test: tuple[Tensor, Tensor] | Dataset[Any]


@dataclass(frozen=True)
class Task:
    """Data, network and recipe; what a trial trains.

    `version` changes when the task's numbers would. `recipe` is its own; a suite changes values of it. `params`
    declares parameters of the task's own, with defaults, and `types` the type of one whose default can't say it; each
    function below is given those that it names.

    `data(folder, recipe) -> Splits`: `folder` is the user's data folder. The split is fixed: it depends on no seed.
    `network(place, recipe) -> nn.Module`: `place`, a `Place`, puts the norm in; see docs/plugins.md.
    `example(recipe) -> Tensor`: inputs of a few samples, as `data` has them, made without the data folder.
    `loss(outputs, targets) -> Tensor`: a scalar, the mean over the batch (default: cross-entropy).
    `score(outputs, targets) -> Tensor`: shape (N,), whose mean over a split is the score (default: accuracy).
    `augment(inputs, draws) -> Tensor`: training inputs changed on the device; `draws` are `augment_draws` numbers per
    sample, uniform in [0, 1), shape (N, augment_draws), which depend on the seed, the epoch and the sample alone.
    `transform(sample, draws) -> Tensor`: the same for one sample at a time, which has no axis of samples, and its draws
    of shape (augment_draws,). It gives all samples one shape. A task has one of the two.

    `measure` names the score, `unit` is "%" where a share is shown as per cent, else the unit itself; `direction` says
    which way is better. `chance` is the score of guessing, `reference` that of a good training: numbers, or functions
    of those of the parameters that they name. `eval_batch_dependent` says that its network evaluates a sample by the
    others of its batch, whatever the norm. `causal` says that no output depends on a later token: norms that mix
    positions are unsupported at sites of layout NLC.

    Raises ValueError or TypeError where the description contradicts itself.
    """

    #: The fields that are a number, or name a function.
    SCORES: ClassVar = ("chance", "reference")
    #: Those that name a function that decides numbers, of which code prints are made; and all that name one.
    COMPUTING: ClassVar = ("data", "network", "loss", "score", "augment", "transform", *SCORES)
    FUNCTIONS: ClassVar = (*COMPUTING, "example")

    name: str
    version: int
    _: KW_ONLY
    summary: str
    recipe: Recipe
    chance: float | Callable[..., float] | str
    reference: float | Callable[..., float] | str
    data: Callable[..., Splits] | str
    network: Callable[..., nn.Module] | str
    example: Callable[..., Tensor] | str | None = None
    loss: Callable[..., Tensor] | str | None = None
    score: Callable[..., Tensor] | str | None = None
    augment: Callable[..., Tensor] | str | None = None
    transform: Callable[..., Tensor] | str | None = None
    augment_draws: int = 0
    measure: str = "accuracy"
    unit: str = "%"
    direction: Literal["up", "down"] = "up"
    params: Mapping[str, Any] = field(default_factory=dict)
    types: Mapping[str, Any] = field(default_factory=dict)
    eval_batch_dependent: bool = False
    causal: bool = False

    def __post_init__(self) -> None:
        """Refuse a description that contradicts itself."""
        check_head("task", self.name, self.summary)
        check_members("direction", [self.direction], {"up", "down"})
        if type(self.version) is not int or self.version < 1:
            raise ValueError(f"version is {self.version!r}; it is a whole number from 1")
        if not isinstance(self.recipe, Recipe):
            raise TypeError(f"recipe is {self.recipe!r}; it is a normbench.Recipe")
        check_types(self.types, self.params)
        for name in self.FUNCTIONS:
            value = getattr(self, name)
            if name in self.SCORES and not (callable(value) or isinstance(value, str)):
                if not isinstance(value, int | float):
                    raise TypeError(f"{name} is {value!r}; it is a number, or a function of parameters")
            elif value is not None:
                check_function(name, value)
        if self.augment is not None and self.transform is not None:
            raise ValueError("augment changes a batch, and transform a sample; a task has one of the two")
        if isinstance(self.chance, int | float) and isinstance(self.reference, int | float):
            self._check_order(self.chance, self.reference)

    def chance_and_reference(self, params: Mapping[str, Any]) -> tuple[float, float]:
        """Return both scores with these parameters, the others at their defaults.

        Raises UsageError where a function of them raises, returns no finite number, or what is no better than chance.
        """
        chance, reference = self._score_of("chance", params), self._score_of("reference", params)
        try:
            self._check_order(chance, reference)
        except ValueError as error:
            raise UsageError(f"task {spelled(self.name, dict(params))}: {error}") from None
        return chance, reference

    def _score_of(self, name: str, params: Mapping[str, Any]) -> float:
        value = getattr(self, name)
        if isinstance(value, int | float):
            return value
        whose = f"task {spelled(self.name, dict(params))}: its {name}, a function of its parameters,"
        try:
            with on_stderr():
                fn = function(value)
                score = fn(**named_by(fn, {**self.params, **params}))
        except Exception as error:
            raise UsageError(f"{whose} raised {type(error).__name__}: {in_a_line(error)}") from error
        if not isinstance(score, int | float) or not math.isfinite(score):
            raise UsageError(f"{whose} returned {in_a_line(repr(score))}; it returns a finite number")
        return float(score)

    def _check_order(self, chance: float, reference: float) -> None:
        ordered = chance < reference if self.direction == "up" else chance > reference
        if not ordered:
            raise ValueError(f"reference {reference} is no better than chance {chance} (better: {self.direction})")

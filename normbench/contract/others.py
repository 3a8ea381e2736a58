"""How a probe, an executor, a suite and a claim are described."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from normbench.contract.functions import (
    check_function,
    check_head,
    check_line,
    check_members,
    check_types,
    function,
    parameters,
)


@dataclass(frozen=True)
class Probe:
    """Something that watches a training and adds series to its record.

    `watch(training, **params)` is called before training, and returns an object with one or more of the methods
    `on_step(step)`, `after_step(step)` and `on_epoch(epoch)`. Each returns a mapping from names to numbers or vectors,
    or None: a trace against the step. `training` is what it may look at: see docs/plugins.md. The keyword parameters of
    `watch` are the probe's, and have defaults; where it is a string, `params` declares them. `types` gives the type of
    one whose default can't say it.

    Where its first parameter has any other name than `training`, it is given the network alone, and its one method
    `on_epoch(epoch) -> Mapping[str, float | Tensor]` is called after each epoch (counted from 1), the network in
    training mode; each name it returns becomes a series of the record, one number per epoch.

    A probe must leave everything that a training goes on with as it was: weights, buffers, random generators. Where it
    keeps something from one call to the next, it has `state_dict()` and `load_state_dict(state)`, of plain values and
    tensors. Raising `Unsupported` says that it does not apply to a trial.
    """

    FUNCTIONS: ClassVar = ("watch",)
    COMPUTING: ClassVar = FUNCTIONS

    name: str
    watch: Callable[..., Any] | str
    _: KW_ONLY
    summary: str
    params: Mapping[str, Any] = field(default_factory=dict)
    types: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a description that contradicts itself."""
        check_head("probe", self.name, self.summary)
        check_function("watch", self.watch)
        if not isinstance(self.watch, str) and self.by_step:
            object.__setattr__(self, "params", parameters("watch", self.watch, self.params, ("training",)))
        elif not isinstance(self.watch, str) and self.params:
            raise ValueError(
                "params: the first parameter of watch is not called training, so that it is given no other"
            )
        check_types(self.types, self.params)

    @property
    def by_step(self) -> bool:
        """Whether `watch` is given the training, and not the network alone; a string is imported for this."""
        with suppress(ValueError, TypeError):  # it has no signature
            return next(iter(inspect.signature(function(self.watch)).parameters), "") == "training"
        return False


@dataclass(frozen=True)
class Executor:
    """A way to run packs of trials: `run(packs, on_outcome, **params)` trains each, and hands over outcomes one by one.

    It is a callable, whose keyword parameters with defaults are the executor's parameters, or a string
    "package.module:name": then they are read from its source, unless `params` declares them; `types` gives the type of
    one whose default can't say it. `jobs` names the parameter that is the number of packs that run at once, 0 for as
    many as there is room for; an executor without it runs one. `in_process` says that it trains in the process that
    calls it, so that what is registered there need not travel; `several_nodes` that it can give one trial several
    machines.

    `stream(call, **params)` takes those of the parameters that it names, and gives what throughput sessions and
    fingerprints compute: it carries out a `normbench.trials.Call` in a worker, and yields what that yields. Without
    it they compute in the process that asks for them.
    """

    FUNCTIONS: ClassVar = ("run", "stream")
    COMPUTING: ClassVar = FUNCTIONS

    name: str
    run: Callable[..., None] | str
    _: KW_ONLY
    summary: str
    params: Mapping[str, Any] = field(default_factory=dict)
    types: Mapping[str, Any] = field(default_factory=dict)
    jobs: str = "jobs"
    in_process: bool = False
    several_nodes: bool = False
    stream: Callable[..., Iterator[Any]] | str | None = None

    def __post_init__(self) -> None:
        """Refuse a description that contradicts itself, and read the parameters of a callable `run`."""
        check_head("executor", self.name, self.summary)
        if self.stream is not None:
            check_function("stream", self.stream)
        object.__setattr__(self, "params", parameters("run", self.run, self.params, ("packs", "on_outcome")))
        check_types(self.types, self.params)


@dataclass(frozen=True)
class SuiteFile:
    """A suite that a plugin brings: the TOML file that describes it. Its name is the file's `name`."""

    path: Path


@dataclass(frozen=True)
class Claim:
    """A sentence about norms as an experiment with a verdict. Reserved: it is registered and listed, and nothing runs.

    `statement` is the sentence, `sources` say who states it, `suites` name what is trained for it.
    `effect(evidence)` gives one number per seed, in `unit`, and `rule` says what bears the claim out: "more" or "less"
    than 0 by at least `margin`, the "same" within it, or an "exact" property.
    """

    FUNCTIONS: ClassVar = ("effect",)
    COMPUTING: ClassVar = FUNCTIONS

    name: str
    _: KW_ONLY
    statement: str
    sources: Sequence[str]
    effect: Callable[..., Any] | str
    suites: Sequence[str] = ()
    unit: str = ""
    margin: float = 0.0
    rule: Literal["more", "less", "same", "exact"] = "more"

    def __post_init__(self) -> None:
        """Refuse a description that contradicts itself."""
        check_line("statement", self.statement)
        check_head("claim", self.name, self.statement)
        check_function("effect", self.effect)
        check_members("rule", [self.rule], {"more", "less", "same", "exact"})
        if not 0 <= self.margin < math.inf:
            raise ValueError(f"margin is {self.margin}; it is a finite number, 0 or more")
        for what in ("sources", "suites"):
            if isinstance(getattr(self, what), str):
                raise TypeError(f"{what} is {getattr(self, what)!r}; it is a list of lines of text")
            for line in getattr(self, what):
                check_line(what, line)

    @property
    def summary(self) -> str:
        """The statement, as lists have it."""
        return self.statement

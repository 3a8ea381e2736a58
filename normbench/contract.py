"""What a plugin author imports: how a norm, a task, a suite, a probe or an executor is described to the host.

Everything here is a frozen description, checked as it is made. Nothing imports torch: a function may be given as a
string "package.module:name", which is imported when it is first called, so that listing what a plugin offers is fast.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, get_args

import pluggy

from normbench import signatures
from normbench.errors import UsageError
from normbench.recipe import Recipe as Recipe
from normbench.texts import in_a_line

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.utils.data import Dataset

hookimpl = pluggy.HookimplMarker("normbench")

Layout: TypeAlias = Literal["NC", "NCL", "NCHW", "NLC"]
Placement: TypeAlias = Literal["before", "after", "fused", "weight"]

#: Every layout a site can have. In NLC, that of tokens, channels come last.
ALL: frozenset[str] = frozenset(get_args(Layout))
PLACEMENTS: frozenset[str] = frozenset(get_args(Placement))

#: The fields of descriptions that name a function: as an object, or as a string "package.module:name".
FUNCTIONS = ("layer", "data", "network", "loss", "score", "augment", "watch", "run", "stream")

#: What `normbench.layer` and a suite's table of a norm name themselves, so that no parameter can have these names.
RESERVED = frozenset({"site", "module", "name", "channels", "layout", "activation", "norm", "label"})

_NAME = re.compile(r"[a-z0-9]+([.-][a-z0-9]+)*")
_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


class Unsupported(Exception):  # noqa: N818 - it is an outcome, not an error
    """Raised by a layer that can't stand at a site or under a recipe; the trial ends as `unsupported`."""


@dataclass(frozen=True, slots=True)
class Site:
    """One place in a network where a norm goes.

    `channels` is C, `layout` names the axes of the input, `activation` is the name of the activation at the site or
    None, `index` counts the sites of a network from 0, and `spatial` is the size of the axes that are neither N nor
    C, where the network knows it. `group` is the torch.distributed process group whose ranks share the statistics of a
    layer that synchronizes them, or None where there is one rank to share with.
    """

    channels: int
    layout: Layout
    activation: str | None = None
    index: int = 0
    spatial: tuple[int, ...] | None = None
    group: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What a layer claims about itself; the host acts on it, and conformance checks test it.

    `batch_dependent`: in training, a sample's output depends on the other samples of the batch.
    `order_dependent`: it depends on the order of the samples.
    `rank_dependent`: on several devices, each rank computes from its own part of the batch.
    `state`: names of the buffers that training moves.
    `batch_size_1`: whether it trains at batch size 1: "yes", "no", or "spatial" (if a channel has several values
    per sample).
    `centres`: a constant added to one channel of its input changes nothing, so that a bias directly before it is
    dropped. (Layer norm subtracts a mean over channels, which is another thing.)
    `scale_invariant`: rescaling its input changes nothing, up to eps.
    `eval_differs`: evaluation computes something else than training.
    `eval_batch_dependent`: in evaluation, too, a sample's output depends on the other samples of the batch.
    """

    batch_dependent: bool = False
    order_dependent: bool = False
    rank_dependent: bool = False
    state: tuple[str, ...] = ()
    batch_size_1: Literal["yes", "spatial", "no"] = "yes"
    centres: bool = False
    scale_invariant: bool = False
    eval_differs: bool = False
    # Not shown: code prints are made of what is, and it changes no number.
    eval_batch_dependent: bool = field(default=False, repr=False)


@dataclass(frozen=True)
class Norm:
    """One kind of normalization, and how to put it into a network.

    `layer(site, **params) -> nn.Module` builds it; with placement "weight", `layer(site, module) -> module` wraps the
    linear or convolution before the site. It is a callable, whose keyword parameters with defaults are the norm's
    parameters, or a string "package.module:name": then they are read from its source, unless `params` declares them.

    `placement` is "before" the activation, "after" it, "fused" (the layer includes the activation that
    `site.activation` names, or none where that is None) or "weight". `traits` is a `Traits`, or a function of the
    parameters that returns one. `paper` cites where the norm comes from. A layer may have a method
    `on_step(step, steps)`: see docs/plugins.md.

    Raises ValueError or TypeError where the description contradicts itself.
    """

    name: str
    layer: Callable[..., nn.Module] | str
    _: KW_ONLY
    summary: str
    layouts: frozenset[str] | set[str] = ALL
    placement: Placement = "before"
    traits: Traits | Callable[..., Traits] = Traits()
    params: Mapping[str, Any] = field(default_factory=dict)
    paper: str | None = None

    def __post_init__(self) -> None:
        """Refuse a description that contradicts itself, and read the parameters of a callable layer."""
        _check_head("norm", self.name, self.summary)
        _check_members("layouts", self.layouts, ALL)
        _check_members("placement", [self.placement], PLACEMENTS)
        if not isinstance(self.traits, Traits) and not callable(self.traits):
            raise TypeError(f"traits is {self.traits!r}; it is normbench.Traits(...), or a function that returns one")
        object.__setattr__(self, "layouts", frozenset(self.layouts))
        first = ("site", "module") if self.placement == "weight" else ("site",)
        object.__setattr__(self, "params", _parameters("layer", self.layer, self.params, first))
        reserved = RESERVED & set(self.params)
        if reserved:
            raise ValueError(f"parameter {min(reserved)!r} has a name that normbench uses itself")

    def traits_with(self, params: Mapping[str, Any]) -> Traits:
        """Return the traits that the norm claims with these parameters, the others at their defaults.

        Raises UsageError where its function of the parameters raises, or returns something else.
        """
        if isinstance(self.traits, Traits):
            return self.traits
        try:
            claimed = self.traits(**{**self.params, **params})
        except Exception as error:
            what = f"{type(error).__name__}: {in_a_line(error)}"
            raise UsageError(
                f"norm {self.name}: its traits, a function of all its parameters, raised {what}"
            ) from error
        if not isinstance(claimed, Traits):
            raise UsageError(f"norm {self.name}: its traits returned {claimed!r}; they return normbench.Traits")
        return claimed

    def build(self, site: Site, params: Mapping[str, Any], *wrapped: nn.Module) -> nn.Module:
        """Return the layer at a site; with placement "weight", the linear or convolution `wrapped` by it."""
        layer: nn.Module = function(self.layer)(site, *wrapped, **params)
        return layer


@dataclass(frozen=True)
class Splits:
    """A task's data. Each split is a pair (inputs, targets) of tensors, samples first, or a map-style data set."""

    train: tuple[Tensor, Tensor] | Dataset[Any]
    validation: tuple[Tensor, Tensor] | Dataset[Any]
    test: tuple[Tensor, Tensor] | Dataset[Any]


class Place(Protocol):
    """Gives a task's network its norms, in the order that each asks for: see docs/plugins.md."""

    def norm(
        self, channels: int, layout: Layout, activation: str | None = None, spatial: tuple[int, ...] | None = None
    ) -> nn.Module:
        """Return norm and activation, for an input of `channels` in `layout`.

        A norm of placement "weight" has nothing to wrap here: this is the activation alone. Raises Unsupported where
        the norm can't stand there.
        """

    def __call__(self, linear: nn.Module, activation: str | None = None, layout: Layout | None = None) -> nn.Module:
        """Return linear, norm and activation.

        `layout` is that of the linear's output; left out, it is NC for a Linear, NCL and NCHW for a convolution. The
        linear's bias is dropped where a norm that centres follows directly.
        """

    def sum(
        self,
        linear: nn.Module,
        shortcut: nn.Module | None = None,
        activation: str | None = None,
        layout: Layout | None = None,
    ) -> nn.Module:
        """Return the end of a residual block, a module of (x, skip): linear(x) and shortcut(skip) are added.

        Placement before: act(norm(linear) + shortcut). After: norm(act(linear + shortcut)). Fused: act(layer without
        activation(linear) + shortcut). Weight: act(wrapped linear + shortcut). `shortcut` left out is the identity.
        """


@dataclass(frozen=True)
class Task:
    """Data, network and recipe; what a trial trains.

    `version` changes when the task's numbers would. `recipe` is its own; a suite changes values of it. `params`
    declares parameters of the task's own, with defaults; each function below is given those that it names.

    `data(folder, recipe) -> Splits`: `folder` is the user's data folder. The split is fixed: it depends on no seed.
    `network(place, recipe) -> nn.Module`: `place`, a `Place`, puts the norm in; see docs/plugins.md.
    `loss(outputs, targets) -> Tensor`: a scalar, the mean over the batch (default: cross-entropy).
    `score(outputs, targets) -> Tensor`: shape (N,), whose mean over a split is the score (default: accuracy).
    `augment(inputs, draws) -> Tensor`: training inputs changed on the device; `draws` are `augment_draws` numbers per
    sample, uniform in [0, 1), shape (N, augment_draws), which depend on the seed, the epoch and the sample alone.

    `measure` names the score, `unit` is "%" where a share is shown as per cent, else the unit itself; `direction` says
    which way is better. `chance` is the score of guessing, `reference` that of a good training.

    Raises ValueError or TypeError where the description contradicts itself.
    """

    name: str
    version: int
    _: KW_ONLY
    summary: str
    recipe: Recipe
    chance: float
    reference: float
    data: Callable[..., Splits] | str
    network: Callable[..., nn.Module] | str
    loss: Callable[..., Tensor] | str | None = None
    score: Callable[..., Tensor] | str | None = None
    augment: Callable[..., Tensor] | str | None = None
    augment_draws: int = 0
    measure: str = "accuracy"
    unit: str = "%"
    direction: Literal["up", "down"] = "up"
    params: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a description that contradicts itself."""
        _check_head("task", self.name, self.summary)
        _check_members("direction", [self.direction], {"up", "down"})
        if type(self.version) is not int or self.version < 1:
            raise ValueError(f"version is {self.version!r}; it is a whole number from 1")
        if not isinstance(self.recipe, Recipe):
            raise TypeError(f"recipe is {self.recipe!r}; it is a normbench.Recipe")
        ordered = self.chance < self.reference if self.direction == "up" else self.chance > self.reference
        if not ordered:
            raise ValueError(
                f"reference {self.reference} is no better than chance {self.chance} (better: {self.direction})"
            )
        for name in ("data", "network", "loss", "score", "augment"):
            if getattr(self, name) is not None:
                _check_function(name, getattr(self, name))


@dataclass(frozen=True)
class Probe:
    """Something that watches a training and adds series to its record.

    `watch(network)` returns an object with a method `on_epoch(epoch) -> Mapping[str, float | Tensor]`, called after
    each epoch (counted from 1), the network in training mode; each name it returns becomes a series of the record, one
    number per epoch. A probe must leave weights, buffers and random generators as they were. Where it keeps something
    from one epoch to the next, it has `state_dict()` and `load_state_dict(state)`, of plain values and tensors.
    """

    name: str
    watch: Callable[..., Any] | str
    _: KW_ONLY
    summary: str

    def __post_init__(self) -> None:
        """Refuse a description that contradicts itself."""
        _check_head("probe", self.name, self.summary)
        _check_function("watch", self.watch)


@dataclass(frozen=True)
class Executor:
    """A way to run packs of trials: `run(packs, on_outcome, **params)` trains each, and hands over outcomes one by one.

    It is a callable, whose keyword parameters with defaults are the executor's parameters, or a string
    "package.module:name": then they are read from its source, unless `params` declares them. `jobs` names the parameter
    that is the number of packs that run at once, 0 for as many as there is room for; an executor without it runs one.
    `in_process` says that it trains in the process that calls it, so that what is registered there need not travel;
    `several_nodes` that it can give one trial several machines.

    `stream(call, **params)` takes those of the parameters that it names, and gives what throughput sessions and
    fingerprints compute: it carries out a `normbench.trials.Call` in a worker, and yields what that yields. Without
    it they compute in the process that asks for them.
    """

    name: str
    run: Callable[..., None] | str
    _: KW_ONLY
    summary: str
    params: Mapping[str, Any] = field(default_factory=dict)
    jobs: str = "jobs"
    in_process: bool = False
    several_nodes: bool = False
    stream: Callable[..., Iterator[Any]] | str | None = None

    def __post_init__(self) -> None:
        """Refuse a description that contradicts itself, and read the parameters of a callable `run`."""
        _check_head("executor", self.name, self.summary)
        if self.stream is not None:
            _check_function("stream", self.stream)
        object.__setattr__(self, "params", _parameters("run", self.run, self.params, ("packs", "on_outcome")))


@dataclass(frozen=True)
class SuiteFile:
    """A suite that a plugin brings: the TOML file that describes it. Its name is the file's `name`."""

    path: Path


def functions_of(thing: object) -> list[Callable[..., Any] | str]:
    """Return the functions that a description names, in the order of `FUNCTIONS`."""
    named = (getattr(thing, name, None) for name in FUNCTIONS)
    return [value for value in named if value is not None]


def function(value: Callable[..., Any] | str) -> Callable[..., Any]:
    """Return the function that a description names: itself, or what "package.module:name" imports.

    Raises ImportError or AttributeError where the string names nothing.
    """
    if not isinstance(value, str):
        return value
    module, _, name = value.partition(":")
    imported: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return imported


def named_by(fn: Callable[..., Any], params: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the parameters that a function names among its own."""
    return {name: params[name] for name in inspect.signature(fn).parameters if name in params}


def _check_head(kind: str, name: str, summary: str) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f"{kind} name {name!r}: a name is lower-case letters, digits and hyphens, like 'group-norm'")
    if not isinstance(summary, str) or not summary.strip() or "\n" in summary:
        raise ValueError(f"{kind} {name!r}: summary is {summary!r}; it is one line that says what this is")


def _check_members(what: str, given: Any, allowed: frozenset[str] | set[str]) -> None:
    strangers = sorted(set(given) - allowed, key=str)
    if strangers or not given:
        has = repr(strangers[0]) if strangers else "nothing"
        raise ValueError(f"{what} has {has}; allowed: {', '.join(sorted(allowed))}")


def _check_function(what: str, value: Any) -> None:
    if isinstance(value, str):
        if not _FUNCTION.fullmatch(value):
            raise ValueError(f"{what} is {value!r}; as a string it is 'package.module:name'")
    elif not callable(value):
        raise TypeError(f"{what} is {value!r}; it is a function, or the string 'package.module:name'")


def _parameters(what: str, fn: Any, declared: Mapping[str, Any], first: tuple[str, ...]) -> dict[str, Any]:
    """Return a function's parameters and defaults, as declared, else as its signature has them past the `first`."""
    _check_function(what, fn)
    if isinstance(fn, str):
        return dict(declared) or signatures.parameters(fn)
    if declared:
        raise ValueError(f"params is for a {what} given as a string; a callable's own parameters declare themselves")
    parameters = list(inspect.signature(fn).parameters.values())
    for parameter in parameters:
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            text = str(parameter).partition(":")[0]
            raise ValueError(f"{what} takes {text}, which would swallow a misspelt parameter: name each one")
    leading, own = parameters[: len(first)], parameters[len(first) :]
    if len(leading) < len(first) or any(parameter.kind is parameter.KEYWORD_ONLY for parameter in leading):
        raise ValueError(f"{what} takes ({', '.join(first)}) first, then its parameters")
    for parameter in own:
        if parameter.default is parameter.empty:
            raise ValueError(f"{what}'s parameter {parameter.name!r} has no default")
    return {parameter.name: parameter.default for parameter in own}

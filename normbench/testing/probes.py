"""What a probe is held to: it changes nothing, repeats, and goes on where it was."""

from __future__ import annotations

import copy
import dataclasses
import io
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from normbench.contract import Probe, Recipe, Splits, Task, Unsupported, function
from normbench.errors import UsageError
from normbench.registry import Offered, Registry
from normbench.spelling import spelled
from normbench.testing.comparing import off
from normbench.testing.kit import check
from normbench.testing.results import Advice, Failed, NotApplicable
from normbench.testing.subject import CPU, registry_of
from normbench.texts import in_a_line
from normbench.train import assemble
from normbench.train.data import load
from normbench.train.module import Training
from normbench.train.state import Marks, marks, put_back, taken
from normbench.train.streams import generators, global_stream, set_generators
from normbench.trials import Trial

#: The order in which they run.
ORDER: Final = ("watches", "moves nothing", "watched again", "names", "resumes", "settings", "cost")
#: The norms of the trainings that are watched, as far as they are there.
NORMS: Final = ("batchnorm", "online-norm", "none", "layer-norm")
#: After this many of the 20 steps a training goes on from a checkpoint: within an epoch, which has 5.
SAVED_AFTER: Final = 7
_METHODS = frozenset({"on_step", "after_step", "on_epoch"})
_RECIPE = Recipe(
    rate=0.1, batch_size=8, epochs=4, momentum=0.9, dropout=0.3, accumulate=2, schedule="cosine", hold_out=True
)


@dataclass
class Heard:
    """What a watched training was: what it gave, what it ended as, and what was said and raised in it.

    `begin` are the marks of its network's attributes. `end` is all that a training goes on with, by name; None where
    the probe moved something, which is in `moved`.
    """

    given: Any = None
    begin: Marks = field(default_factory=dict)
    end: dict[str, Any] | None = None
    said: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)
    raised: str = ""
    refused: str = ""
    unsupported: str = ""
    moved: str = ""
    seconds: float = 0.0


class ProbeSubject:
    """Trains a small network with dropout and momentum, watched by a probe: 20 steps of two parts each, on the CPU.

    Of the registry it takes some norms, those of `NORMS` that are there.
    """

    def __init__(self, probe: Offered[Probe], params: Mapping[str, Any], registry: Registry, seed: int = 0) -> None:
        self.probe, self.params, self.seed = probe.thing, params, seed
        self.norms: list[str] = [norm for norm in NORMS if norm in registry.norms]
        self._offered = probe
        self._registry = dataclasses.replace(registry, tasks=registry_of(_TASK).tasks)
        self._data = load(_TASK, {}, _RECIPE, Path(), CPU)

    @cached_property
    def plain(self) -> dict[str, Heard]:
        """A training without the probe for each norm."""
        return {norm: self.trained(norm, watched=False) for norm in self.norms}

    @cached_property
    def watched(self) -> dict[str, Heard]:
        """A watched training for each norm."""
        return {norm: self.trained(norm) for norm in self.norms}

    def whole(self) -> dict[str, Heard]:
        """Return the trainings that were watched to their end. Raises NotApplicable where there is none."""
        watched = self.watched
        whole = {norm: one for norm, one in watched.items() if one.end and not one.unsupported and not one.raised}
        if not whole:
            why = next((heard.unsupported for heard in watched.values() if heard.unsupported), "")
            raise NotApplicable(why or "it watched no training to its end")
        return whole

    def trained(
        self,
        norm: str,
        *,
        watched: bool = True,
        resumes: bool = False,
        params: Mapping[str, Any] | None = None,
        explicit: bool = False,
    ) -> Heard:
        """Return what came of a training; `explicit`: its probe is given its defaults as well.

        With `resumes` it is saved after `SAVED_AFTER` steps, and goes on in a new one.
        """
        heard = Heard()
        trial = Trial(task=_TASK.name, task_version=1, norm=norm, recipe=_RECIPE, seed=self.seed)
        offered = dataclasses.replace(self._offered, thing=_listened(self.probe, heard, explicit=explicit))
        registry = dataclasses.replace(self._registry, probes={self.probe.name: offered})
        probes = [spelled(self.probe.name, {**self.params, **(params or {})})] if watched else []
        begun = time.perf_counter()
        with global_stream(CPU, trial.seed, "layer"):
            try:
                self._train(lambda: assemble.training(trial, registry, self._data, probes=probes), heard, resumes)
            except (Exception, SystemExit) as error:
                if not watched:
                    raise
                heard.moved = in_a_line(error)
        heard.seconds = time.perf_counter() - begun
        return heard

    def _train(self, start: Callable[[], Training], heard: Heard, resumes: bool) -> None:
        module = start()
        series: dict[str, list[float]] = {}
        heard.begin = marks(module.network)
        while module.taken < module.steps:
            for parts in module.batches:
                module.step(parts)
                if resumes and module.taken == SAVED_AFTER:
                    module = _resumed(module, taken(module.network, heard.begin), start)
                    break
            else:
                epoch = module.taken // len(module.batches)
                for name, value in module.probing.on_epoch(epoch, module.taken, series).items():
                    series.setdefault(name, []).append(value)
        traces = module.probing.traces()
        heard.given = series, {name: points for trace in traces for name, points in trace.series.items()}
        for trace in traces:
            if trace.ended == "unsupported":
                heard.unsupported = trace.reason
            elif trace.ended == "error" and not heard.raised:
                heard.refused = trace.reason
        heard.end = _end(module)


def _resumed(module: Training, network: Mapping[str, Any], start: Callable[[], Training]) -> Training:
    """Return a new training that goes on where another is, from what a checkpoint of that would hold."""
    content = io.BytesIO()
    torch.save({"network": network, "progress": module.progress(), "generators": generators(CPU)}, content)
    content.seek(0)
    state = torch.load(content, weights_only=True)
    resumed = start()
    put_back(resumed.network, state["network"])
    resumed.go_on(state["progress"])
    for weight, before in zip(resumed.network.parameters(), module.network.parameters(), strict=True):
        weight.grad = before.grad
    set_generators(state["generators"], CPU)
    return resumed


def _end(module: Training) -> dict[str, Any]:
    """Return all that a training goes on with, by name."""
    network = module.network
    states = module.optimizer.state_dict()["state"]
    return {
        "losses": torch.stack(module._losses),
        **{f"the weight {name!r}": weight.detach() for name, weight in network.named_parameters()},
        **{f"the gradient of {name!r}": weight.grad for name, weight in network.named_parameters()},
        **{f"the buffer {name!r}": buffer for name, buffer in network.named_buffers()},
        **{_attribute(at): mark for at, mark in marks(network).items()},
        **{f"the mode of {name!r}": own.training for name, own in network.named_modules()},
        **{f"the optimizer's {key} {i}": value for i, own in states.items() for key, value in own.items()},
        **{f"the generator of {name}": state for name, state in generators(CPU).items()},
    }


def _attribute(at: tuple[str, str]) -> str:
    return f"the attribute {at[1]!r} of {at[0]!r}"


def _listened(probe: Probe, heard: Heard, *, explicit: bool) -> Probe:
    """Return the same probe, of which what it says and raises is heard."""
    watch, given = function(probe.watch), probe.params if explicit else {}

    def by_step(training: Any, **params: Any) -> Listened:
        return Listened(heard, lambda: watch(training, **{**given, **params}))

    def by_epoch(network: nn.Module) -> Listened:
        return Listened(heard, lambda: watch(network))

    listened = copy.copy(probe)
    object.__setattr__(listened, "watch", by_step if probe.by_step else by_epoch)  # its parameters stay declared
    return listened


class Listened:
    """Has the methods of what watches, and notes what they say and raise."""

    def __init__(self, heard: Heard, watch: Callable[[], Any]) -> None:
        self._heard = heard
        self._watcher = self._noting("watch", watch)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.__dict__["_watcher"], name)
        return (lambda at: self._noting(name, lambda: value(at))) if name in _METHODS else value

    def _noting(self, method: str, call: Callable[[], Any]) -> Any:
        try:
            said = call()
        except Unsupported:
            raise
        except (Exception, SystemExit) as error:
            self._heard.raised = f"{method} raised {type(error).__name__}: {in_a_line(error)}"
            raise
        if method in _METHODS and isinstance(said, Mapping):
            self._heard.said.append((method, said))
        return said


@check("watches", "probe")
def watches(subject: ProbeSubject) -> None:
    """It watches a training to its end without raising, or says that it does not apply.

    A probe that raises loses what it has seen, and the next run trains the trial again for it.
    """
    for norm, heard in subject.watched.items():
        if heard.raised:
            raise Failed(heard.raised, input=f"a network with {norm}")
    reasons = [f"with {norm}: {heard.unsupported}" for norm, heard in subject.watched.items() if heard.unsupported]
    if len(reasons) == len(subject.watched):
        raise NotApplicable(reasons[0])


@check("moves nothing", "probe")
def moves_nothing(subject: ProbeSubject) -> None:
    """A training that it watches gives the same bits as one without it.

    Losses, weights, buffers, plain attributes, the optimizer's state and the random generators after 20 steps: what is
    watched is otherwise not what was asked about.
    """
    for norm, heard in subject.watched.items():
        plain, where = subject.plain[norm], f"a network with {norm}"
        if heard.end is None and not heard.raised:
            raise Failed(heard.moved, input=where)
        was, now = plain.end or {}, heard.end or {}
        # What can't be compared between two networks is another from the start: the address of an object, say.
        begun = {_attribute(at) for at, mark in plain.begin.items() if heard.begin.get(at) != mark}
        for name in [name for name in {**was, **now} if now and name not in begun]:
            before, after = was.get(name), now.get(name)
            if not _equal(before, after):
                raise Failed(f"after 20 steps {name} {_off(before, after)}", input=where)


@check("watched again", "probe")
def watched_again(subject: ProbeSubject) -> None:
    """It gives the same numbers when the same training is watched again.

    A trial stands for every repetition of it, and so does what was seen of it.
    """
    norm, first = next(iter(subject.whole().items()))
    _check_same(first, subject.trained(norm), "watched again", norm)


@check("names", "probe")
def names(subject: ProbeSubject) -> None:
    """A method that has given a name gives it each time from then on: a number, or vectors of one length.

    They are stored as series, which are drawn and compared. A site without a value has NaN, each time.
    """
    for norm, heard in subject.whole().items():
        where = f"a network with {norm}"
        if heard.refused:
            raise Failed(heard.refused, input=where)
        first: dict[str, set[str]] = {}
        for method, said in heard.said:
            left_out = first.setdefault(method, set()) - set(said)
            if left_out:
                raise Failed(f"{method} gives {min(left_out)!r} some of the times only", input=where)
            first[method] |= set(said)
        for name, points in heard.given[1].items():
            values = torch.tensor(points.value, dtype=torch.float64).view(len(points.value), -1)
            odd = ~values.isfinite() & ~values.isnan().all(0)
            if odd.any() or values.isnan().all():
                at = points.step[int(odd.any(1).int().argmax())]
                raise Advice(f"{name!r} is not finite at step {at}", input=where)


@check("resumes", "probe")
def resumes(subject: ProbeSubject) -> None:
    """It gives the same numbers when the training goes on from a checkpoint.

    What it keeps from one call to the next is in `state_dict()`, which a killed trial goes on from.
    """
    norm, first = next(iter(subject.whole().items()))
    _check_same(first, subject.trained(norm, resumes=True), f"resumed after {SAVED_AFTER} steps", norm)


@check("settings", "probe")
def settings(subject: ProbeSubject) -> None:
    """It takes every parameter that it declares at its default, and another `every` where it has one.

    A parameter that is declared and not taken would fail an hour later.
    """
    declared = subject.probe.params
    if not declared:
        raise NotApplicable("it has none")
    norm = next(iter(subject.whole()))
    tried: dict[str, dict[str, Any]] = {"its defaults": {}}
    if "every" in declared:
        every = {"every": 3 if declared["every"] != 3 else 2}
        tried[spelled("another value", every)] = every
    for what, given in tried.items():
        try:
            heard = subject.trained(norm, params=given, explicit=True)
        except UsageError as error:
            raise Failed(f"given {what}: {error}") from None
        wrong = heard.raised or heard.refused or heard.moved or ("" if any(heard.given) else "it gave nothing")
        if wrong:
            raise Failed(f"given {what}: {wrong}", input=f"a network with {norm}")


@check("cost", "probe")
def cost(subject: ProbeSubject) -> None:
    """Watching costs no more than twice the training of a small network, which is the dearest to watch.

    More is advice: `every` makes it cheaper.
    """
    norm, heard = next(iter(subject.whole().items()))
    ratio = heard.seconds / subject.plain[norm].seconds
    if ratio > 2:
        raise Advice(f"20 steps of a small network with {norm} take {ratio:.1f} times as long")


def _check_same(first: Heard, second: Heard, when: str, norm: str) -> None:
    """Raise Failed where two trainings did not give the same."""
    where = f"a network with {norm}"
    if second.raised or second.end is None:
        raise Failed(f"{when} {second.raised or second.moved}", input=where)
    for before, after in zip(first.given, second.given, strict=True):
        for name in {**before, **after}:
            if repr(before.get(name)) != repr(after.get(name)):
                raise Failed(f"{when} it gives other numbers of {name!r}", input=where)


def _equal(before: Any, after: Any) -> bool:
    if isinstance(before, Tensor) and isinstance(after, Tensor):
        same = before.shape == after.shape and before.dtype == after.dtype
        return same and before.numpy().tobytes() == after.numpy().tobytes()
    return type(before) is type(after) and bool(before == after)


def _off(before: Any, after: Any) -> str:
    """Return how far two values are apart, in words."""
    if isinstance(before, Tensor) and isinstance(after, Tensor) and before.shape == after.shape:
        return f"is off by {off(after, before):.3g} at most"
    return "is another"


def _images(folder: Path, recipe: Recipe) -> Splits:  # noqa: ARG001 - a task's
    """Return images of two classes, the brighter one the second."""
    inputs = torch.randn(56, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    targets = (inputs.mean((1, 2, 3)) > 0).long()
    return Splits((inputs[:40], targets[:40]), (inputs[40:48], targets[40:48]), (inputs[48:], targets[48:]))


def _network(place: Any, recipe: Recipe) -> nn.Module:
    first, second = nn.Conv2d(2, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
    head = [nn.Dropout(recipe.dropout), nn.Flatten(), nn.Linear(8 * 36, 2)]
    return nn.Sequential(place(first, "relu"), place(second, "relu"), *head)


_TASK = Task(
    "probed",
    1,
    summary="What a probe watches in its checks",
    recipe=_RECIPE,
    chance=0.5,
    reference=1.0,
    data=_images,
    network=_network,
)

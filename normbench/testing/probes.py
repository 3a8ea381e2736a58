"""What a probe is held to: it changes nothing, repeats, and goes on where it was."""

from __future__ import annotations

import copy
import dataclasses
import io
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from normbench.contract import Probe, Recipe, Splits, Task, Unsupported, function
from normbench.errors import UsageError
from normbench.plan import asked_probe
from normbench.registry import Offered, Plugin, Registry
from normbench.spelling import Choice, spelled
from normbench.texts import in_a_line
from normbench.train import assemble
from normbench.train.data import load
from normbench.train.module import Training
from normbench.train.state import Marks, marks, put_back, taken
from normbench.train.streams import generators, global_stream, set_generators
from normbench.trials import Trial

Status: TypeAlias = Literal["passed", "failed", "not applicable", "advice"]

#: Each check by its id: the property, in one sentence.
CHECKS: Final = {
    "watches": "It watches to the end of a training without raising, or says that it does not apply.",
    "moves-nothing": "A training that it watches gives the same bits as one without it.",
    "repeats": "It gives the same numbers when the same training is watched again.",
    "names": "A method gives the same names each time, and for a name vectors of one length.",
    "resumes": "It gives the same numbers when the training goes on from a checkpoint.",
    "parameters": "It takes every parameter that it declares, and another `every`.",
    "cost": "What watching costs, as a share of the training's time.",
}
#: The norms of the trainings that are watched, as far as they are there.
NORMS: Final = ("batchnorm", "online-norm", "none", "layer-norm")
#: After this many of the 20 steps a training goes on from a checkpoint: within an epoch, which has 5.
SAVED_AFTER: Final = 7
_METHODS = frozenset({"on_step", "after_step", "on_epoch"})
_RECIPE = Recipe(
    rate=0.1, batch_size=8, epochs=4, momentum=0.9, dropout=0.3, accumulate=2, schedule="cosine", hold_out=True
)
_CPU = torch.device("cpu")


class Result(NamedTuple):
    """What came of a check: its id, how it ended, and why, with how far off where something differs."""

    check: str
    status: Status
    text: str = ""


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


def check(name: str, registry: Registry, params: Mapping[str, Any] | None = None) -> Iterator[Result]:
    """Yield the result of every check of a probe, with these of its parameters, the others at their defaults.

    It watches trainings of a small network with dropout and momentum, on the CPU, 20 steps of two parts each. Raises
    UsageError for a probe or a parameter that is not there.
    """
    probe, asked = asked_probe(Choice(name, dict(params or {}), where=name), registry)
    kit = Kit(probe, asked.params, registry)
    plain = {norm: kit.trained(norm, watched=False) for norm in kit.norms}
    watched = {norm: kit.trained(norm) for norm in kit.norms}
    yield _watches(watched)
    yield _moves_nothing(plain, watched)
    whole = {norm: heard for norm, heard in watched.items() if heard.end and not heard.unsupported and not heard.raised}
    if not whole:
        why = next((heard.unsupported for heard in watched.values() if heard.unsupported), "it watched no training")
        yield from (Result(one, "not applicable", why) for one in CHECKS if one not in ("watches", "moves-nothing"))
        return
    norm, first = next(iter(whole.items()))
    yield _same("repeats", first, kit.trained(norm), f"watched again, with {norm},")
    yield _names(whole)
    yield _same("resumes", first, kit.trained(norm, resumes=True), f"resumed after {SAVED_AFTER} steps, with {norm},")
    yield _parameters(kit, norm)
    ratio = first.seconds / plain[norm].seconds
    yield Result("cost", "advice", f"20 steps of a small network with {norm} take {ratio:.1f} times as long")


class Kit:
    """Trains a small network, watched by a probe."""

    def __init__(self, probe: Probe, params: Mapping[str, Any], registry: Registry) -> None:
        self.probe, self.params = probe, params
        self.norms: list[str] = [norm for norm in NORMS if norm in registry.norms]
        self._registry = dataclasses.replace(
            registry,
            tasks={_TASK.name: Offered(_TASK, Plugin("testing", "normbench"))},
            probes={probe.name: registry.probes[probe.name]},
        )
        self._data = load(_TASK, {}, _RECIPE, Path(), _CPU)

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
        trial = Trial(task=_TASK.name, task_version=1, norm=norm, recipe=_RECIPE, seed=0)
        listened = _listened(self.probe, heard, explicit=explicit)
        offered = dataclasses.replace(self._registry.probes[self.probe.name], thing=listened)
        registry = dataclasses.replace(self._registry, probes={self.probe.name: offered})
        probes = [spelled(self.probe.name, {**self.params, **(params or {})})] if watched else []
        begun = time.perf_counter()
        with global_stream(_CPU, trial.seed, "layer"):
            try:
                self._train(lambda: assemble.training(trial, registry, self._data, probes=probes), heard, resumes)
            except Exception as error:
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
    torch.save({"network": network, "progress": module.progress(), "generators": generators(_CPU)}, content)
    content.seek(0)
    state = torch.load(content, weights_only=True)
    resumed = start()
    put_back(resumed.network, state["network"])
    resumed.go_on(state["progress"])
    for weight, before in zip(resumed.network.parameters(), module.network.parameters(), strict=True):
        weight.grad = before.grad
    set_generators(state["generators"], _CPU)
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
        **{f"the generator of {name}": state for name, state in generators(_CPU).items()},
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
        except Exception as error:
            self._heard.raised = f"{method} raised {type(error).__name__}: {in_a_line(error)}"
            raise
        if method in _METHODS and isinstance(said, Mapping):
            self._heard.said.append((method, said))
        return said


def _watches(watched: Mapping[str, Heard]) -> Result:
    for norm, heard in watched.items():
        if heard.raised:
            return Result("watches", "failed", f"with {norm}: {heard.raised}")
    reasons = [f"with {norm}: {heard.unsupported}" for norm, heard in watched.items() if heard.unsupported]
    if len(reasons) == len(watched):
        return Result("watches", "not applicable", reasons[0])
    return Result("watches", "passed", "; ".join(reasons))


def _moves_nothing(plain: Mapping[str, Heard], watched: Mapping[str, Heard]) -> Result:
    for norm, heard in watched.items():
        if heard.end is None and not heard.raised:
            return Result("moves-nothing", "failed", f"with {norm}: {heard.moved}")
        was, now = plain[norm].end or {}, heard.end or {}
        # What can't be compared between two networks is another from the start: the address of an object, say.
        begun = {_attribute(at) for at, mark in plain[norm].begin.items() if heard.begin.get(at) != mark}
        for name in [name for name in {**was, **now} if now and name not in begun]:
            before, after = was.get(name), now.get(name)
            if not _equal(before, after):
                return Result("moves-nothing", "failed", f"with {norm}, after 20 steps: {name} {_off(before, after)}")
    return Result("moves-nothing", "passed")


def _same(one: str, first: Heard, second: Heard, when: str) -> Result:
    """Return whether two trainings gave the same."""
    if second.raised or second.end is None:
        return Result(one, "failed", f"{when} {second.raised or second.moved}")
    for before, after in zip(first.given, second.given, strict=True):
        for name in {**before, **after}:
            if repr(before.get(name)) != repr(after.get(name)):
                return Result(one, "failed", f"{when} it gives other numbers of {name!r}")
    return Result(one, "passed")


def _names(watched: Mapping[str, Heard]) -> Result:
    for norm, heard in watched.items():
        if heard.refused:
            return Result("names", "failed", f"with {norm}: {heard.refused}")
        first: dict[str, set[str]] = {}
        for method, said in heard.said:
            others = first.setdefault(method, set(said)) ^ set(said)
            if others:
                return Result("names", "failed", f"with {norm}: {method} gives {min(others)!r} some of the times only")
        for name, points in heard.given[1].items():
            odd = [step for step, value in zip(points.step, points.value, strict=True) if not _finite(value)]
            if odd:
                return Result("names", "advice", f"with {norm}: {name!r} is not finite at step {odd[0]}")
    return Result("names", "passed")


def _parameters(kit: Kit, norm: str) -> Result:
    declared = kit.probe.params
    if not declared:
        return Result("parameters", "not applicable", "it has none")
    every = {"every": 3 if declared.get("every") != 3 else 2} if "every" in declared else {}
    for what, given in (("its defaults", {}), (spelled("another value", every), every)):
        if given or what == "its defaults":
            try:
                heard = kit.trained(norm, params=given, explicit=True)
            except UsageError as error:
                return Result("parameters", "failed", f"given {what}: {error}")
            wrong = heard.raised or heard.refused or heard.moved or ("" if any(heard.given) else "it gave nothing")
            if wrong:
                return Result("parameters", "failed", f"given {what}, with {norm}: {wrong}")
    return Result("parameters", "passed")


def _equal(before: Any, after: Any) -> bool:
    if isinstance(before, Tensor) and isinstance(after, Tensor):
        same = before.shape == after.shape and before.dtype == after.dtype
        return same and before.numpy().tobytes() == after.numpy().tobytes()
    return type(before) is type(after) and bool(before == after)


def _off(before: Any, after: Any) -> str:
    """Return how far two values are apart, in words."""
    if isinstance(before, Tensor) and isinstance(after, Tensor) and before.shape == after.shape:
        return f"is off by {(before.double() - after.double()).abs().max().item():.3g} at most"
    return "is another"


def _finite(value: Any) -> bool:
    return all(map(math.isfinite, value if isinstance(value, Sequence) else [value]))


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

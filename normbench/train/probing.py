"""Probes while a network trains: who looks when, what each gave, and what became of one that failed."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from normbench.contract import Probe, Unsupported, function
from normbench.errors import UsageError
from normbench.surroundings import listed
from normbench.texts import in_a_line
from normbench.train.looking import View
from normbench.trials import Points, Trace

#: Series of the record that are the host's own.
OWN_SERIES = frozenset({"loss", "validation"})
_METHODS = ("on_step", "after_step", "on_epoch")


class Probing:
    """The probes of one training; without any, it does nothing.

    `probes` are those that are asked for, each as it is spelled, with its parameters. One by step is given the `view`,
    and looks at every step or, where it has a parameter `every`, at steps that this divides. What it raises is
    explained by `blame`, and costs its trace alone, where this process trains `alone`. Raises RuntimeError where a
    probe by step moved what the training goes on with: the trial would be another.
    """

    def __init__(
        self,
        view: View | None = None,
        probes: Mapping[str, tuple[Probe, Mapping[str, Any]]] | None = None,
        blame: Callable[[BaseException], str] = in_a_line,
        *,
        alone: bool = True,
    ) -> None:
        self._view, self._blame, self._alone = view, blame, alone
        self._watchers: dict[str, Any] = {}
        self._by_epoch: dict[str, Any] = {}
        self._traces: dict[str, Trace] = {}
        self._every: dict[str, int] = {}
        for spelled, (probe, params) in (probes or {}).items():
            assert view is not None
            watch = function(probe.watch)
            if probe.by_step:
                self._every[spelled] = {"every": 1, **probe.params, **params}["every"]
                self._traces[spelled] = Trace(probe=probe.name, probe_params=dict(params))
                watching = functools.partial(_watcher, _METHODS, watch, view, **params)
                self._watchers[spelled] = self._looked(spelled, "watch", watching)
            elif probe.params:
                raise UsageError(f"probe {probe.name}: its watch has parameters, and its first is not called training")
            else:
                self._by_epoch[spelled] = _watcher(_METHODS[2:], watch, view.network)
        self._drop_failed()

    def begin(self, step: int, part: Any) -> None:
        """Note the last part of a step, counted from 0, before its forward, where a probe looks at the step."""
        if self._view is not None and self.looks_at(step):
            self._view.step = step
            self._view.begin(part)

    def looks_at(self, step: int) -> bool:
        """Whether a probe looks at a step, counted from 0."""
        return any(step % self._every[name] == 0 for name in self._watchers)

    def on_step(self, step: int) -> None:
        """Let probes look at a step, counted from 0, whose gradients are there."""
        self._look_at("on_step", step)

    def after_step(self, step: int) -> None:
        """Let probes look at a step that was taken, and let go of it."""
        self._look_at("after_step", step)
        if self._view is not None:
            self._view.end()

    def on_epoch(self, epoch: int, taken: int, series: Mapping[str, list[float]]) -> dict[str, float]:
        """Let probes look after an epoch, counted from 1; return the numbers of those that look after epochs alone.

        `taken` steps were taken, and `series` are there. Raises ValueError for a name that is taken, and where the
        names are others than in the epochs before.
        """
        if self._view is not None:
            self._view.step = max(taken - 1, 0)  # also where the training has gone on after its last step
        self._look(self._watchers, "on_epoch", epoch, taken)
        said: dict[str, float] = {}
        for probe, watcher in self._by_epoch.items():
            for name, value in watcher.on_epoch(epoch).items():
                if name in OWN_SERIES or name in said:
                    whose = "normbench's own" if name in OWN_SERIES else "another probe's"
                    raise ValueError(f"probe {probe!r} returns {name!r}, which is {whose}")
                said[name] = float(value)
        before = set(series) - OWN_SERIES
        if epoch > 1 and before != set(said):
            odd = min(before ^ set(said))
            raise ValueError(f"probes return {odd!r} after some epochs only (epoch {epoch}); return it after each")
        return said

    def traces(self) -> tuple[Trace, ...]:
        """Return what the probes by step gave, or why one gave nothing."""
        return tuple(self._traces.values())

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` needs to go on, as plain values and tensors."""
        return {
            "watchers": {name: watcher.state_dict() for name, watcher in self._stateful().items()},
            "traces": {
                name: {
                    "ended": (trace.ended, trace.reason),
                    "series": {own: (points.step, points.value) for own, points in trace.series.items()},
                }
                for name, trace in self._traces.items()
            },
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state. Raises an exception of any kind where it is not of such probes."""
        for name, saved in state["traces"].items():
            trace = self._traces[name]
            trace.ended, trace.reason = saved["ended"]
            trace.series = {own: Points(*points) for own, points in saved["series"].items()}
        self._drop_failed()
        stateful = self._stateful()
        if stateful.keys() != state["watchers"].keys():
            raise ValueError("other probes keep something")
        for name, watcher in stateful.items():
            watcher.load_state_dict(state["watchers"][name])

    def _stateful(self) -> dict[str, Any]:
        watchers = {**self._by_epoch, **self._watchers}
        return {name: watcher for name, watcher in watchers.items() if hasattr(watcher, "state_dict")}

    def _look_at(self, method: str, step: int) -> None:
        """Have those probes look whose `every` divides a step."""
        if self._watchers:
            self._look([name for name in self._watchers if step % self._every[name] == 0], method, step, step)

    def _look(self, names: Iterable[str], method: str, at: int, step: int) -> None:
        """Have each of these probes look that has the method, and add what it gives at a step to its trace."""
        for name in names:
            watching = getattr(self._watchers[name], method, None)
            if watching is not None:
                self._looked(name, method, functools.partial(self._ask, name, step, watching, at))
        self._drop_failed()

    def _looked(self, name: str, method: str, watching: Callable[[], Any]) -> Any:
        """Return what a probe gives; None where it raised, which ends its trace."""
        assert self._view is not None
        given = None
        with self._view.look() as moved:
            try:
                given = watching()
            except (Exception, SystemExit) as error:
                unsupported = isinstance(error, Unsupported)
                if not (unsupported or self._alone):
                    raise  # the other ranks may wait for this one
                trace = self._traces[name]
                trace.ended = "unsupported" if unsupported else "error"
                trace.reason = in_a_line(error) if unsupported else self._blame(error)
                trace.series = {}
        if moved:
            raise RuntimeError(f"probe {name!r} moved {listed(moved)} in {method}; training.untouched() puts all back")
        return given

    def _ask(self, name: str, step: int, watching: Callable[[int], Any], at: int) -> None:
        """Add what a probe says of a step to its trace. Raises ValueError or TypeError for what can't stand there."""
        said = watching(at)
        if said is None:
            return
        if not isinstance(said, Mapping):
            raise TypeError(f"it returned {type(said).__name__}; it returns a mapping from names to numbers, or None")
        series = self._traces[name].series
        for own, given in said.items():
            if not isinstance(own, str) or not own:
                raise ValueError(f"it named a series {own!r}; a name is a text that is not empty")
            value = _plain(own, given)
            points = series.setdefault(own, Points())
            if points.step and points.step[-1] == step:
                raise ValueError(f"it returned {own!r} twice at step {step}")
            if points.value and _length(points.value[0]) != _length(value):
                was, now = _length(points.value[0]), _length(value)
                raise ValueError(f"{own!r} has {now} numbers at step {step}, and {was} before")
            points.step.append(step)
            points.value.append(value)

    def _drop_failed(self) -> None:
        for name, trace in self._traces.items():
            if trace.ended != "watched":
                self._watchers.pop(name, None)


def _watcher(methods: Sequence[str], watch: Callable[..., Any], *given: Any, **params: Any) -> Any:
    """Return what `watch` returns. Raises TypeError where that has none of these methods."""
    watcher = watch(*given, **params)
    if not any(callable(getattr(watcher, method, None)) for method in methods):
        raise TypeError(f"what watch returned has no {' or '.join(methods)}")
    return watcher


def _length(value: Any) -> int | None:
    """Return how many numbers a vector has; None for a number."""
    return len(value) if isinstance(value, list) else None


def _plain(name: Any, value: Any) -> Any:
    """Return a number or a short vector as floats. Raises TypeError for anything else."""
    if hasattr(value, "tolist"):  # torch's and NumPy's
        value = value.tolist()
    numbers = list(value) if isinstance(value, list | tuple) else [value]
    if not all(isinstance(number, int | float) for number in numbers):
        raise TypeError(f"{name!r} is {value!r}; it is a number, or a vector of numbers")
    if not numbers:
        raise TypeError(f"{name!r} is a vector of 0 numbers; it is a number, or a vector of numbers")
    floats = [float(number) for number in numbers]
    return floats if isinstance(value, list | tuple) else floats[0]

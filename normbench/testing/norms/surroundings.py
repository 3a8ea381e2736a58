"""Checks of what a layer does to its process: to what all in it share, to memory, and as its plugin is imported."""

from __future__ import annotations

import gc
import io
import logging
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

from normbench import surroundings
from normbench.registry import SESSION
from normbench.testing.comparing import normal
from normbench.testing.kit import check
from normbench.testing.results import Advice, Failed, NotApplicable
from normbench.testing.steps import attributes, backward, step
from normbench.testing.subject import Subject

#: The steps after which living tensors are counted.
EARLY, LATE = 5, 20
_ROOT = logging.getLogger()
#: What the host does not keep: how it is read, and put back.
_OTHERS: dict[str, tuple[Callable[[], Any], Callable[[Any], object]]] = {
    "torch's detection of anomalies": (torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
    "Python's garbage collector": (gc.isenabled, lambda enabled: gc.enable() if enabled else gc.disable()),
    "the limit of recursion": (sys.getrecursionlimit, sys.setrecursionlimit),
    "the level of the root logger": (lambda: _ROOT.level, _ROOT.setLevel),
    "the handlers of the root logger": (lambda: tuple(_ROOT.handlers), lambda own: setattr(_ROOT, "handlers", [*own])),
}


@check("surroundings")
def leaves_surroundings(subject: Subject) -> None:
    """Building, training and evaluating a layer leaves what a process shares as it was, and prints nothing to stdout.

    Other layers compute in the same process, and stdout is a command's result.
    """
    layers: list[nn.Module] = []
    for again in (False, True):
        _check_unmoved("building it", lambda: layers.append(subject.layer()), again)
        _check_unmoved("a training step", lambda: step(subject, layers[-1], subject.input(4)), again)
        with torch.no_grad():
            _check_unmoved("an evaluation", lambda: subject.run(layers[-1].eval(), subject.input(4)), again)


def _check_unmoved(what: str, act: Callable[[], object], again: bool) -> None:
    printed, threads = io.StringIO(), set(threading.enumerate())
    with surroundings.kept() as changed:
        before, filters = [get() for get, _ in _OTHERS.values()], list(warnings.filters)
        with redirect_stdout(printed):
            act()
        for (name, (get, put_back)), value in zip(_OTHERS.items(), before, strict=True):
            if get() != value:
                put_back(value)
                changed.append(name)
        if again:  # what is imported late may filter warnings and start threads too, but once
            changed += ["the filters of warnings"] * (filters != warnings.filters)
            changed += ["the threads that run"] * bool(set(threading.enumerate()) - threads)
    if changed:
        raise Failed(f"{what} changed {surroundings.listed(changed)}")
    if text := printed.getvalue().strip():
        raise Failed(f"{what} printed {text.splitlines()[0][:60]!r}; use warnings.warn, or the module logging")


@check("memory")
def memory(subject: Subject) -> None:
    """A layer keeps nothing of a step once it is over: neither its tensors nor its graph, and in evaluation no input.

    What is kept of every step fills the memory of a long training, and what is kept of the last one halves its batch.
    """
    layer, x = subject.layer(), subject.input(4)
    with _new_objects() as count:
        for number in range(LATE):
            if number == EARLY:
                early = count()
            step(subject, layer, subject.input(4, draw=number), number)
        if (more := count() - early) >= LATE - EARLY:
            raise Failed(f"after {LATE} steps {more} tensors more are alive than after {EARLY}", input=normal(x))
    kept = [*layer.named_buffers(), *attributes(layer)]
    if graphs := [name for name, tensor in kept if tensor.grad_fn is not None]:
        raise Failed(f"its {graphs[0]!r} keeps the graph of a step: detach what is kept", input=normal(x))
    for training in (True, False):
        _check_let_go(subject, layer.train(training), training)


@contextmanager
def _new_objects() -> Iterator[Callable[[], int]]:
    """Yield what counts the tensors alive that are new; all other objects are kept out of sight: they are many."""

    def count() -> int:
        gc.collect()
        return sum(issubclass(type(one), Tensor) for one in gc.get_objects())

    gc.freeze()
    try:
        yield count
    finally:
        gc.unfreeze()


def _check_let_go(subject: Subject, layer: nn.Module, training: bool) -> None:
    """Raise Failed where the memory of an input or output is held after a forward, and its backward in training."""
    weak: Any = StorageWeakRef  # it has no types

    def called() -> dict[str, Any]:
        x = subject.input(4).requires_grad_(training).clone()
        with torch.set_grad_enabled(training):
            output = subject.run(layer, x)
        backward(subject, output)
        layer.zero_grad()
        return {name: weak(one.untyped_storage()) for name, one in (("input", x), ("output", output))}

    def alive() -> str:
        return next((name for name, memory in kept.items() if not memory.expired()), "")

    kept = called()
    if not (name := alive()):
        return
    gc.collect()
    when = "a training step" if training else "an evaluation under no_grad"
    if still := alive():
        raise Failed(f"after {when} it holds its {still}", input=normal(subject.input(4)))
    raise Advice(
        f"after {when} its {name} is alive until Python's garbage collector runs: a reference goes in a circle, as of "
        "a tensor that is an attribute of the context of an autograd.Function: ctx.save_for_backward"
    )


@check("import", once=True)
def at_import(subject: Subject) -> None:
    """A plugin's import leaves what a process shares as it was.

    It happens in every command, whether a norm of the plugin's is asked for or not.
    """
    plugin = subject.plugin
    if plugin is None or plugin.built_in or plugin.name == SESSION:
        raise NotApplicable("it is built in, or was registered in this session: no plugin is imported for it")
    if plugin.changed:
        raise Failed(f"the import of plugin {plugin.name!r} changed {surroundings.listed(plugin.changed)}")
    if text := "".join(plugin.printed).strip():
        raise Advice(f"the import of plugin {plugin.name!r} prints {text.splitlines()[0][:60]!r}")

"""A few training steps, spread over a whole run and summed up in numbers: whether anything numerical changed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import msgspec
import torch
from torch import Tensor

from normbench.contract import Unsupported
from normbench.fingerprint.numbers import GRADIENT, Taken
from normbench.registry import Registry
from normbench.store.records import Number, worded
from normbench.train import assemble
from normbench.train.data import Loaded
from normbench.train.guard import Guard, guarded
from normbench.train.made import made
from normbench.train.module import Training
from normbench.train.streams import global_stream
from normbench.trials import Trial

#: The steps that are taken, as shares of a run, besides its last: a warm-up or a ramp shows in one of them.
SHARES = (0.0, 0.1, 0.4, 0.7)
#: How large an element of a made-up gradient is at most.
SIZE = 0.1
#: Test samples that are evaluated at the end.
EVALUATED = 256


def fingerprints(trials: Sequence[Trial], *, registry: Registry, device: str, data_dir: Path) -> Iterator[Taken]:
    """Take the fingerprint of each trial. Raises UsageError where the data folder lacks the data."""
    for trial in trials:
        numbers: dict[str, list[Number]] = {}
        with guarded(trial, registry) as guard:
            if trial.recipe.ranks > 1:
                raise Unsupported("a fingerprint is taken on one device, and a trial of this takes several")
            numbers = fingerprint(trial, registry, data_dir, torch.device(device), guard)
        outcome: Literal["taken", "unsupported", "error"] = "error" if guard.kind == "oom" else guard.kind or "taken"
        yield Taken(outcome, guard.reason, numbers, None if guard.kind else made(trial, registry))


def fingerprint(
    trial: Trial, registry: Registry, folder: Path, device: torch.device, guard: Guard
) -> dict[str, list[Number]]:
    """Return the numbers of a few training steps of a trial on one device, the same in every process.

    They are taken with the trial's first batches, as if they were the steps at `SHARES` of the run and its last: layers
    are told those steps, and the schedule has their rates. There are the outputs, the loss, the gradient and each
    buffer of every step, each parameter after the last, and the outputs on test samples in evaluation mode. The
    optimizer is given gradients that are made up. `compile` is off, and threads are the recipe's.

    Raises whatever a layer or the task raises, and UsageError where the data folder lacks the data.
    """
    eager = msgspec.structs.replace(trial, recipe=trial.recipe.changed(compile=False))
    with _exact(device, trial.recipe.threads), global_stream(device, trial.seed, "fingerprint"):
        data = assemble.data(eager, registry.task(trial.task), folder, device)
        module = assemble.training(eager, registry, data)
        guard.passing = ()  # as in a trial: from here on a UsageError is a layer's own
        outputs: list[Any] = []
        losses: list[float] = []
        share = trial.recipe.accumulate
        module.register_forward_hook(lambda module, part, loss: losses.append((loss / share).item()))  # noqa: ARG005
        module.network.register_forward_hook(lambda network, inputs, output: outputs.append(output))  # noqa: ARG005
        with global_stream(device, trial.seed, "layer"):
            return _trained(module, outputs, losses) | {"outputs in evaluation": _evaluated(module, data, outputs)}


def steps_of(total: int) -> list[int]:
    """Return the steps that a fingerprint of a run of `total` steps takes, counted from 0, each once."""
    return sorted({int(share * total) for share in SHARES} | {total - 1})


def projected(values: Iterable[Tensor], *, per_element: bool = True) -> list[Number]:
    """Return two numbers of tensors, chained into one vector x of n: |x| and the sum of x_i cos(i), over sqrt(n).

    The first does not cancel, and the second shows a change of sign or of order. Both are computed in float64. Without
    `per_element` they are not divided by sqrt(n).
    """
    flat = [_real(value.detach()).double().flatten().cpu() for value in values]
    x = torch.cat(flat) if flat else torch.zeros(0, dtype=torch.float64)
    root = math.sqrt(max(1, len(x))) if per_element else 1.0
    cosines = torch.arange(1, len(x) + 1, dtype=torch.float64).cos()
    return [worded(x.square().sum().sqrt().item() / root), worded((x * cosines).sum().item() / root)]


def _trained(module: Training, outputs: list[Any], losses: list[float]) -> dict[str, list[Number]]:
    """Take the steps; return the numbers of each, and of the parameters after the last.

    The optimizer is given gradients that are made up. In float32 a deep network's own differ by a thousandth from one
    kind of processor to another, wherever an activation is nearly 0, and a step or two later nothing is the same.
    """
    numbers: dict[str, list[Number]] = {}
    batches: Iterator[Any] = itertools.chain.from_iterable(itertools.repeat(module.batches))
    module.train()
    for index, step in enumerate(steps_of(module.steps)):
        module.taken = step
        module.gradients(next(batches))
        learning = [value for value in module.network.parameters() if value.grad is not None]
        numbers[f"outputs at step {step}"] = _of_outputs(outputs)
        numbers[f"loss at step {step}"] = [worded(sum(losses))]
        losses.clear()
        gradients = (value.grad for value in learning if value.grad is not None)
        numbers[f"{GRADIENT} at step {step}"] = projected(gradients, per_element=False)
        for name, value in module.network.named_buffers():
            # Each step's: what ramps is seen on its way, and where nothing is computed with it yet.
            numbers.setdefault(name, []).extend(projected([value]))
        for value in learning:
            value.grad = _made_up(value, index)
        module.update()
    return numbers | {name: projected([value]) for name, value in module.network.named_parameters()}


def _made_up(parameter: Tensor, index: int) -> Tensor:
    """Return the gradient that the optimizer is given in its step `index`: of moderate size, and another in each."""
    waves = torch.arange(1, parameter.numel() + 1, dtype=torch.float64).add(index / 2).cos()
    return waves.mul(SIZE).view(parameter.shape).to(parameter)


@torch.no_grad()
def _evaluated(module: Training, data: Loaded, outputs: list[Any]) -> list[Number]:
    """Return the numbers of the outputs on the first test samples, in evaluation mode."""
    with module.evaluating():
        module.scores(*next(data.test.slices(EVALUATED)))
    return _of_outputs(outputs)


def _of_outputs(outputs: list[Any]) -> list[Number]:
    """Take what the network gave since the last time; return its two numbers, and its mean."""
    tensors = list(_tensors(outputs))
    outputs.clear()
    total, count = sum(_real(tensor).double().sum().item() for tensor in tensors), sum(map(torch.numel, tensors))
    return [*projected(tensors), worded(total / max(1, count))]


def _tensors(outputs: Any) -> Iterator[Tensor]:
    """Yield the tensors in what a network gives."""
    if isinstance(outputs, Tensor):
        yield outputs
    elif isinstance(outputs, Mapping):
        for value in outputs.values():
            yield from _tensors(value)
    elif isinstance(outputs, list | tuple):
        for value in outputs:
            yield from _tensors(value)


def _real(value: Tensor) -> Tensor:
    return torch.view_as_real(value) if value.is_complex() else value


@contextmanager
def _exact(device: torch.device, threads: int) -> Iterator[None]:
    """Compute with `threads` on a CPU, and on CUDA with algorithms that give the same bits each time."""
    before = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(threads)
    try:
        with torch.backends.cudnn.flags(
            enabled=torch.backends.cudnn.enabled,
            benchmark=False,
            deterministic=True,
            allow_tf32=torch.backends.cudnn.allow_tf32,
        ):
            yield
    finally:
        torch.set_num_threads(before)

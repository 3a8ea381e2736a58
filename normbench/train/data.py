"""A task's data on the training device, and which of its samples make the batches of a training."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor

from normbench.contract import Recipe, Splits, Task, function, named_by
from normbench.errors import UsageError
from normbench.registry import Registry
from normbench.train.guard import guarded
from normbench.train.ranks.place import ALONE, Ranks
from normbench.train.streams import generator
from normbench.trials import Trial

#: The samples of a batch: their indices, shape (N,), and what augmentation draws for them, uniform numbers (N, k).
Part: TypeAlias = tuple[Tensor, Tensor]


class Split(Protocol):
    """Samples that are trained or evaluated on, wherever they are kept; what it gives is on its `device`."""

    @property
    def device(self) -> torch.device:
        """Where batches are."""

    def __len__(self) -> int:
        """Return the number of samples."""

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return the inputs and targets of the samples with these indices, shape (N,), which are on the device."""

    def slices(self, size: int, ranks: Ranks = ALONE, *, whole: bool = False) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield inputs and targets of all samples in order, `size` at a time; of several ranks each has its share.

        The last slice may be shorter. If it is to be `whole`, it begins with samples of the slice before.
        """


@dataclass(frozen=True)
class InMemory:
    """A split whose inputs and targets are two tensors on one device, samples first."""

    inputs: Tensor
    targets: Tensor

    @property
    def device(self) -> torch.device:
        """Where both tensors are."""
        return self.inputs.device

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.inputs)

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return copies of the samples with these indices."""
        return self.inputs[indices], self.targets[indices]

    def slices(self, size: int, ranks: Ranks = ALONE, *, whole: bool = False) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield views of the samples in order; of several ranks each has every `ranks.size`-th."""
        inputs, targets = (part[ranks.rank :: ranks.size] for part in (self.inputs, self.targets))
        for begin in range(0, len(inputs), size):
            end = begin + size
            if whole and end > len(inputs):
                begin = max(0, len(inputs) - size)
            yield inputs[begin:end], targets[begin:end]


@dataclass(frozen=True)
class Loaded:
    """A task's splits, on one device."""

    train: Split
    validation: Split
    test: Split
    #: A hash of all splits, by which other data is told.
    digest: str = ""


def load(task: Task, params: dict[str, Any], recipe: Recipe, folder: Path, device: torch.device) -> Loaded:
    """Return a task's splits on a device.

    With `recipe.hold_out` off, training has the validation split as well. Raises UsageError where the data folder does
    not hold what the task needs.
    """
    data = function(task.data)
    splits = data(folder, recipe, **named_by(data, {**task.params, **params}))
    if not isinstance(splits, Splits):
        raise TypeError(f"task {task.name!r}: data returned {type(splits).__name__}; it returns normbench.Splits")
    pairs = [_tensors(split) for split in (splits.train, splits.validation, splits.test)]
    digest = _digest(*(tensor for pair in pairs for tensor in pair))
    train, validation, test = (InMemory(inputs.to(device), targets.to(device)) for inputs, targets in pairs)
    if not recipe.hold_out:
        inputs, targets = torch.cat([train.inputs, validation.inputs]), torch.cat([train.targets, validation.targets])
        train = InMemory(inputs, targets)
    if len(train) < recipe.batch_size:
        raise UsageError(
            f"task {task.name}: batch_size is {recipe.batch_size}; there are {len(train)} training samples"
        )
    return Loaded(train, validation, test, digest)


class Batches:
    """Which samples each step takes: each iteration is an epoch, in an order drawn anew from the stream `order`.

    A step takes the next `batch_size` samples of that order. They are cut into `accumulate` batches, and each of these
    into a part for each rank: this process is given its own parts, of `batch_size / accumulate / ranks.size` samples.
    So the samples of a step are the same on any number of ranks, and in any number of batches.

    The last incomplete step is dropped: norms of the batch would see another batch size there. What augmentation draws
    belongs to the sample and the epoch. `stream` names another order.
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        seed: int,
        draws: int = 0,
        *,
        accumulate: int = 1,
        ranks: Ranks = ALONE,
        stream: str = "order",
    ) -> None:
        self._split = split
        self._stream = stream
        self._batch_size = batch_size
        self._accumulate = accumulate
        self._ranks = ranks
        self._seed = seed
        self._draws = draws
        #: The epoch of the next iteration, counted from 0, and the optimizer step in it to begin at.
        self.epoch = self._begin = 0

    def __len__(self) -> int:
        """Return the number of optimizer steps in an epoch."""
        return len(self._split) // self._batch_size

    def go_on(self, epoch: int, step: int) -> None:
        """Let the next iteration be what remains of an epoch from an optimizer step on, both counted from 0."""
        self.epoch, self._begin = epoch, step

    def __iter__(self) -> Iterator[list[Part]]:
        """Yield the `accumulate` parts of each step of the next epoch."""
        samples, device = len(self._split), self._split.device
        order = torch.randperm(samples, generator=generator(self._seed, self._stream, self.epoch)).to(device)
        draws = torch.rand(samples, self._draws, generator=generator(self._seed, "augment", self.epoch)).to(device)
        first, self._begin, self.epoch = self._begin, 0, self.epoch + 1
        whole = self._batch_size // self._accumulate
        own = whole // self._ranks.size
        for step in range(first, len(self)):
            begin = step * self._batch_size + self._ranks.rank * own
            chosen = [order[i : i + own] for i in range(begin, begin + self._accumulate * whole, whole)]
            yield [(indices, draws[indices]) for indices in chosen]


def digests(
    trials: Sequence[Trial],
    *,
    registry: Registry,
    device: str,  # noqa: ARG001 - as every function that is called in a worker
    data_dir: Path,
) -> Iterator[str]:
    """Yield the hash of the data that each trial trains on. Raises UsageError like `load`."""
    for trial in trials:
        task = registry.task(trial.task)
        with guarded(trial, registry) as guard:
            digest = load(task, trial.task_params, trial.recipe, data_dir, torch.device("cpu")).digest
        if guard.kind:
            raise UsageError(f"task {task.name}: {guard.reason}")
        yield digest


def _digest(*tensors: Tensor) -> str:
    """Return a hash of tensors: their types, shapes and numbers."""
    whole = hashlib.sha256()
    for tensor in tensors:
        whole.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        whole.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return whole.hexdigest()[:16]


def _tensors(split: Any) -> tuple[Tensor, Tensor]:
    """Return a split; a map-style data set of pairs is read whole and stacked."""
    if not (isinstance(split, tuple) and len(split) == 2 and all(isinstance(part, Tensor) for part in split)):
        pairs = [split[i] for i in range(len(split))]
        inputs = torch.stack([torch.as_tensor(pair[0]) for pair in pairs])
        split = (inputs, torch.stack([torch.as_tensor(pair[1]) for pair in pairs]))
    inputs, targets = split
    if len(inputs) != len(targets) or not len(inputs):
        raise ValueError(f"a split has {len(inputs)} inputs and {len(targets)} targets")
    return inputs, targets

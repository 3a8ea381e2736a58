"""A task's data as tensors on the training device, and the batches drawn from it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from normbench.contract import Recipe, Splits, Task, function, named_by
from normbench.errors import UsageError
from normbench.registry import Registry
from normbench.train.guard import guarded
from normbench.train.ranks.place import ALONE, Ranks
from normbench.train.streams import generator
from normbench.trials import Trial

Split = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Loaded:
    """A task's splits: pairs (inputs, targets) on one device, samples first."""

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
    train, validation, test = (_tensors(split) for split in (splits.train, splits.validation, splits.test))
    digest = _digest(*train, *validation, *test)
    train, validation, test = (_moved(split, device) for split in (train, validation, test))
    if not recipe.hold_out:
        train = (torch.cat([train[0], validation[0]]), torch.cat([train[1], validation[1]]))
    if len(train[0]) < recipe.batch_size:
        raise UsageError(
            f"task {task.name}: batch_size is {recipe.batch_size}; there are {len(train[0])} training samples"
        )
    return Loaded(train, validation, test, digest)


class Batches:
    """The batches of a training, an epoch an iteration, in an order drawn anew from the trial's `order` stream.

    A step takes the next `batch_size` samples of that order. They are cut into `accumulate` batches, and each of these
    into a part for each rank: this process is given its own part, of `batch_size / accumulate / ranks.size` samples. So
    the samples of a step are the same on any number of ranks, and in any number of parts.

    The last incomplete step is dropped: norms of the batch would see another batch size there. A batch is (inputs,
    targets, draws), where `draws` has shape (N, k), uniform numbers that belong to the sample and the epoch.
    """

    def __init__(
        self, split: Split, batch_size: int, seed: int, draws: int = 0, *, accumulate: int = 1, ranks: Ranks = ALONE
    ) -> None:
        self._inputs, self._targets = split
        self._batch_size = batch_size
        self._accumulate = accumulate
        self._ranks = ranks
        self._seed = seed
        self._draws = draws
        #: The epoch of the next iteration, counted from 0, and the optimizer step in it to begin at.
        self.epoch = self._begin = 0

    @property
    def steps(self) -> int:
        """The number of optimizer steps in an epoch."""
        return len(self._inputs) // self._batch_size

    def __len__(self) -> int:
        """Return the number of batches in an epoch: `accumulate` a step."""
        return self.steps * self._accumulate

    def go_on(self, epoch: int, step: int) -> None:
        """Let the next iteration be what remains of an epoch from an optimizer step on, both counted from 0."""
        self.epoch, self._begin = epoch, step

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield the next epoch's batches."""
        samples, device = len(self._inputs), self._inputs.device
        order = torch.randperm(samples, generator=generator(self._seed, "order", self.epoch)).to(device)
        draws = torch.rand(samples, self._draws, generator=generator(self._seed, "augment", self.epoch)).to(device)
        first = self._begin * self._accumulate
        self.epoch, self._begin = self.epoch + 1, 0
        whole = self._batch_size // self._accumulate
        own = whole // self._ranks.size
        for i in range(first, len(self)):
            begin = i * whole + self._ranks.rank * own
            chosen = order[begin : begin + own]
            yield self._inputs[chosen], self._targets[chosen], draws[chosen]


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
            raise UsageError(f"task {task.name}: {guard.reason}") from guard.error
        yield digest


def _digest(*tensors: Tensor) -> str:
    """Return a hash of tensors: their types, shapes and numbers."""
    whole = hashlib.sha256()
    for tensor in tensors:
        whole.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        whole.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return whole.hexdigest()[:16]


def _moved(split: Split, device: torch.device) -> Split:
    return split[0].to(device), split[1].to(device)


def _tensors(split: Any) -> Split:
    """Return a split; a map-style data set of pairs is read whole and stacked."""
    if not (isinstance(split, tuple) and len(split) == 2 and all(isinstance(part, Tensor) for part in split)):
        pairs = [split[i] for i in range(len(split))]
        inputs = torch.stack([torch.as_tensor(pair[0]) for pair in pairs])
        split = (inputs, torch.stack([torch.as_tensor(pair[1]) for pair in pairs]))
    inputs, targets = split
    if len(inputs) != len(targets) or not len(inputs):
        raise ValueError(f"a split has {len(inputs)} inputs and {len(targets)} targets")
    return inputs, targets

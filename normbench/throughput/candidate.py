"""One norm's training, ready to be timed: blocks of training steps and of evaluation batches."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

import torch

from normbench.registry import Registry
from normbench.train import assemble
from normbench.train.data import Loaded
from normbench.train.streams import global_stream
from normbench.trials import Trial


class Candidate:
    """A trial's network, optimizer and batches, as training has them; without what Lightning adds to a step.

    `peak_memory` is the largest number of bytes that were allocated at once in the latest block of training, beyond
    what stays between steps (weights, the optimizer's state, data), on CUDA; else None.
    """

    def __init__(self, trial: Trial, registry: Registry, data: Loaded, device: torch.device) -> None:
        self._device = device
        self._module = assemble.training(trial, registry, data)
        self._batches = itertools.chain.from_iterable(itertools.repeat(self._module.batches))
        self.evaluation_batch = min(trial.recipe.eval_batch, len(data.test))
        whole = len(data.test) // self.evaluation_batch
        self._evaluated = itertools.cycle(itertools.islice(data.test.slices(self.evaluation_batch), whole))
        self._seed = trial.seed
        self.peak_memory: int | None = None

    def train(self, steps: int) -> float:
        """Take training steps; return the seconds they took."""
        self._module.train()
        on_cuda = self._device.type == "cuda"
        if on_cuda:
            before = torch.cuda.memory_allocated(self._device)
            torch.cuda.reset_peak_memory_stats(self._device)
        with global_stream(self._device, self._seed, "layer"):
            seconds = self._timed(self._step, steps)
        self._module.forget()
        if on_cuda:
            # Not the maximum over blocks: the first also pays for the optimizer's state, and for torch's own workspace.
            self.peak_memory = torch.cuda.max_memory_allocated(self._device) - before
        self._module.optimizer.zero_grad()
        return seconds

    @torch.no_grad()
    def evaluate(self, batches: int) -> float:
        """Evaluate batches; return the seconds they took."""
        with global_stream(self._device, self._seed, "layer"), self._module.evaluating():
            return self._timed(lambda: self._module.scores(*next(self._evaluated)).sum(), batches)

    def _timed(self, block: Callable[[], object], times: int) -> float:
        self._synchronize()
        began = time.perf_counter()
        for _ in range(times):
            block()
        self._synchronize()
        return time.perf_counter() - began

    def _step(self) -> None:
        if self._module.taken == self._module.steps:
            self._module.forget()
        self._module.step(next(self._batches))

    def _synchronize(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

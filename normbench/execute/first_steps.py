"""How long a trial should take, from its first steps: trained as every trial is, and timed."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytorch_lightning as pl
import torch

from normbench.errors import UsageError
from normbench.execute.expected import Pace
from normbench.registry import Registry
from normbench.spelling import choice
from normbench.train import assemble
from normbench.train.data import InMemory, Loaded
from normbench.train.guard import guarded
from normbench.train.module import Training
from normbench.train.streams import global_stream
from normbench.train.trainer import train
from normbench.trials import Trial

#: Steps that warm up, steps that are timed, and the seconds after which no further is.
WARM_UP, TIMED, SECONDS = 3, 20, 1.0
#: The seconds of a process's first trial, beyond which what is done but once in a process is little of it.
LONG = 5.0


def paces(
    trials: Sequence[Trial], probes: Sequence[str], *, registry: Registry, device: str, data_dir: Path
) -> Iterator[Pace]:
    """Yield the pace of each trial, which takes one device. The first is taken twice, unless it is long."""
    names = [choice(probe, "probes").name for probe in probes]
    for i, trial in enumerate(trials):
        seconds = 0.0
        try:
            with guarded(trial, registry, names) as guard:
                data = assemble.data(trial, registry.task(trial.task), data_dir, torch.device(device))
                guard.passing = ()
                began = time.perf_counter()
                seconds = _seconds(trial, registry, data, probes)
                if not i and time.perf_counter() - began < LONG:
                    seconds = _seconds(trial, registry, data, probes)
        except UsageError as error:
            yield Pace("no data", str(error))
        else:
            yield Pace(guard.kind or "timed", guard.reason, seconds)


def _seconds(trial: Trial, registry: Registry, data: Loaded, probes: Sequence[str]) -> float:
    """Return about how many seconds the whole trial takes: from its first steps, and one batch that is evaluated."""
    recipe, device = trial.recipe, data.train.device
    if device.type == "cpu":
        torch.set_num_threads(recipe.threads)
    clock = _Clock(device)
    validation, test = (InMemory(*next(split.slices(recipe.eval_batch))) for split in (data.validation, data.test))
    short = msgspec.structs.replace(trial, recipe=recipe.changed(validate_every=0))
    with global_stream(device, trial.seed, "layer"):
        module = assemble.training(short, registry, Loaded(data.train, validation, test), probes=probes)
        train(module, [clock])
        trained = clock.time()
        module.evaluate(test)
        evaluating = clock.time() - trained
    validations = math.ceil(module.steps / (recipe.validate_every or len(module.batches))) if module.validates else 0
    evaluated = [data.test, *[data.validation] * validations]
    evaluations = sum(math.ceil(len(split) / recipe.eval_batch) for split in evaluated)
    around = trained - clock.made - sum(clock.took) - evaluating * len(module.series.get("validation", ()))
    return max(0.0, around) + clock.expected(module) + evaluating * evaluations


class _Clock(pl.Callback):
    """Notes how long each step of a training `took`, and ends it after a few."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.made = self._last = self.time()
        self.took: list[float] = []

    def time(self) -> float:
        """Return the time, in seconds, once the device has computed what it was given."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()

    def on_train_epoch_start(self, *_: Any) -> None:
        """Leave out what is between two epochs."""
        self._last = self.time()

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, *_: Any) -> None:
        """Note a step."""
        now = self.time()
        self.took.append(now - self._last)
        self._last = now
        enough = module.taken == WARM_UP + TIMED or (module.taken > WARM_UP and now > self.made + SECONDS)
        trainer.should_stop = trainer.should_stop or enough

    def expected(self, module: Training) -> float:
        """Return the seconds that all steps of a training take; those that a probe looks at take theirs."""
        looks_at = module.probing.looks_at
        total = 0.0
        for looked in (False, True):
            of_kind = [i for i in range(len(self.took)) if looks_at(i) == looked]
            warm = [self.took[i] for i in of_kind if i >= WARM_UP] or [self.took[i] for i in of_kind] or [0.0]
            total += statistics.median(warm) * sum(looks_at(i) == looked for i in range(module.steps))
        return total

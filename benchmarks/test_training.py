"""What a trial costs beyond the arithmetic: a Lightning fit against the same training written as a loop."""

from __future__ import annotations

import itertools
import os
import statistics
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from normbench import plugins
from normbench.registry import Registry
from normbench.train import fit
from normbench.train.assemble import data, network
from normbench.train.data import Batches, Loaded, Split
from normbench.train.streams import global_stream
from normbench.trials import Trial

ROUNDS = 15
CPU = torch.device("cpu")
#: The folder with the image data; without it, only the digits are timed.
DATA = os.environ.get("NORMBENCH_DATA", "")
#: What is timed, with the allowed ratio to the plain loop where there is one, and how often.
TRIALS = {
    "digits-cnn": ("digits-cnn", {}, None, ROUNDS),
    "digits-cnn, 24 epochs": ("digits-cnn", {"epochs": 24}, None, ROUNDS),
    "mnist-cnn": ("mnist-cnn", {}, 1.10, ROUNDS),
    "fashion-mnist-mlp, 1 epoch": ("fashion-mnist-mlp", {"epochs": 1}, None, 5),
}


@pytest.fixture(scope="module")
def registry():
    """Return what the installed plugins offer."""
    return plugins.load()


def made(registry, task, norm, **recipe):
    """Return a trial of a task at its own recipe, with these values changed."""
    own = registry.task(task)
    return Trial(task=task, task_version=own.version, norm=norm, recipe=own.recipe.changed(**recipe), seed=0)


@pytest.mark.parametrize("norm", ["none", "batchnorm"])
@pytest.mark.parametrize("case", TRIALS)
def test_a_trial(benchmark, registry, case, norm):
    """Each round times the loop, then the fit, so that both see the same machine; a round is compared with itself."""
    name, changes, allowed, rounds = TRIALS[case]
    if name != "digits-cnn" and not DATA:
        pytest.skip("needs the image data: NORMBENCH_DATA")
    trial, task = made(registry, name, norm, **changes), registry.task(name)
    loaded = data(trial, task, Path(DATA), CPU)
    loops: list[float] = []

    def loop() -> None:
        began = time.perf_counter()
        plain_loop(trial, registry, loaded)
        loops.append(time.perf_counter() - began)

    benchmark.pedantic(
        lambda: next(fit([trial], registry=registry, data_dir=DATA)), setup=loop, rounds=rounds, warmup_rounds=1
    )

    pairs = list(zip(benchmark.stats.stats.data, loops[-rounds:], strict=True))
    steps = trial.recipe.total_steps(len(loaded.train) // trial.recipe.batch_size)
    more = statistics.median(fitted - plain for fitted, plain in pairs)
    benchmark.extra_info["steps"] = steps
    benchmark.extra_info["more than a plain loop"] = f"{1000 * more:.0f} ms"
    benchmark.extra_info["ratio to it"] = round(statistics.median(fitted / plain for fitted, plain in pairs), 2)
    benchmark.extra_info["allowed"] = f"ratio {allowed:.2f}" if allowed else f"{steps + 50} ms (1 ms a step and 50 ms)"


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_of_a_trial(benchmark, registry, threads):
    """The recipe's default, one thread, was chosen by this: two are no faster, and one leaves the other core free."""
    trial = made(registry, "digits-cnn", "batchnorm", threads=threads)

    benchmark.pedantic(lambda: next(fit([trial], registry=registry)), rounds=ROUNDS, warmup_rounds=2)


def plain_loop(trial: Trial, registry: Registry, loaded: Loaded) -> None:
    """Do the same steps on the same tensors, and the same evaluations, without Lightning."""
    recipe = trial.recipe
    torch.set_num_threads(recipe.threads)
    model = network(trial, registry)
    spared = [parameter for parameter in model.parameters() if parameter.dim() == 1]
    decayed = [parameter for parameter in model.parameters() if parameter.dim() > 1]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": spared}]
    optimizer = torch.optim.SGD(
        [group for group in groups if group["params"]], lr=recipe.rate, momentum=recipe.momentum
    )
    epochs = Batches(loaded.train, recipe.batch_size, trial.seed)
    left = recipe.total_steps(len(epochs))
    with global_stream(CPU, trial.seed, "layer"):
        while left:
            for [(indices, _)] in itertools.islice(epochs, left):
                inputs, targets = loaded.train.batch(indices)
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(inputs), targets).backward()
                optimizer.step()
                left -= 1
            score(model, loaded.validation)
        score(model, loaded.test)


@torch.no_grad()
def score(model: nn.Module, split: Split) -> float:
    """Return the accuracy over a split, 1,024 samples at a time."""
    model.eval()
    right = sum((model(inputs).argmax(1) == targets).sum().item() for inputs, targets in split.slices(1024))
    model.train()
    return right / len(split)

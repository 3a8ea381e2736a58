"""What a trial costs beyond the arithmetic: a Lightning fit against the same training written as a loop."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import msgspec
import pytest
import torch
from torch import nn

from normbench import plugins
from normbench.records import Trial
from normbench.train import fit
from normbench.train.assemble import batches, data, network
from normbench.train.data import Loaded
from normbench.train.streams import global_stream

ROUNDS = 15
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def registry():
    """Return what the installed plugins offer."""
    return plugins.load()


def digits(registry, norm, **recipe):
    """Return a trial of digits-cnn at its own recipe, with these values changed."""
    own = registry.task("digits-cnn").recipe
    return Trial(task="digits-cnn", task_version=1, norm=norm, recipe=msgspec.structs.replace(own, **recipe), seed=0)


@pytest.mark.parametrize("epochs", [6, 24])
@pytest.mark.parametrize("norm", ["none", "batchnorm"])
def test_a_trial_of_digits_cnn(benchmark, registry, norm, epochs):
    """Each round times the loop, then the fit, so that both see the same machine; a round is compared with itself."""
    trial = digits(registry, norm, epochs=epochs)
    task = registry.task("digits-cnn")
    loaded = data(trial, task, Path(), CPU)
    loops: list[float] = []

    def loop() -> None:
        began = time.perf_counter()
        plain_loop(trial, registry, loaded)
        loops.append(time.perf_counter() - began)

    benchmark.pedantic(lambda: next(fit([trial], registry=registry)), setup=loop, rounds=ROUNDS, warmup_rounds=2)

    pairs = list(zip(benchmark.stats.stats.data, loops[-ROUNDS:], strict=True))
    steps = epochs * len(batches(trial, task, loaded))
    more = statistics.median(fitted - plain for fitted, plain in pairs)
    benchmark.extra_info["steps"] = steps
    benchmark.extra_info["more than a plain loop"] = f"{1000 * more:.0f} ms"
    benchmark.extra_info["ratio to it"] = round(statistics.median(fitted / plain for fitted, plain in pairs), 2)
    benchmark.extra_info["allowed (1 ms a step and 50 ms)"] = f"{steps + 50} ms"


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_of_a_trial(benchmark, registry, threads):
    """The recipe's default, one thread, was chosen by this: two are no faster, and one leaves the other core free."""
    trial = digits(registry, "batchnorm", threads=threads)

    benchmark.pedantic(lambda: next(fit([trial], registry=registry)), rounds=ROUNDS, warmup_rounds=2)


def plain_loop(trial: Trial, registry: plugins.Registry, loaded: Loaded) -> None:
    """Do the same steps on the same tensors, and the same evaluations, without Lightning."""
    recipe = trial.recipe
    torch.set_num_threads(recipe.threads)
    model = network(trial, registry)
    optimizer = torch.optim.SGD(model.parameters(), lr=recipe.rate, momentum=recipe.momentum)
    epochs = batches(trial, registry.task("digits-cnn"), loaded)
    with global_stream(CPU, trial.seed, "layer"):
        for _ in range(recipe.epochs):
            for inputs, targets, _ in epochs:
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(inputs), targets).backward()
                optimizer.step()
            score(model, loaded.validation)
        score(model, loaded.test)


@torch.no_grad()
def score(model: nn.Module, split: tuple[torch.Tensor, torch.Tensor]) -> float:
    """Return the accuracy over a split."""
    model.eval()
    found = (model(split[0]).argmax(1) == split[1]).float().mean().item()
    model.train()
    return found

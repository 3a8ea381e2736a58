"""What a trial costs beyond the arithmetic: a Lightning fit against the same training written as a loop."""

from __future__ import annotations

import statistics
import time

import pytest
import torch
from torch import nn

from normbench import plugins
from normbench.contract import Recipe
from normbench.records import Trial
from normbench.train import fit
from normbench.train.assemble import network
from normbench.train.data import Batches
from normbench.train.streams import global_stream

ROUNDS = 15


@pytest.mark.parametrize("norm", ["none", "batchnorm"])
def test_a_trial_of_digits_cnn(benchmark, norm):
    """Each round times the loop, then the fit, so that both see the same machine; the ratio is that of a round."""
    registry = plugins.current()
    recipe: Recipe = registry.task("digits-cnn").recipe
    trial = Trial(task="digits-cnn", task_version=1, norm=norm, recipe=recipe, seed=0)
    data = registry.task("digits-cnn").data
    from normbench.contract import function

    splits = function(data)(None, recipe)
    loops: list[float] = []

    def loop() -> None:
        began = time.perf_counter()
        _loop(trial, registry, splits)
        loops.append(time.perf_counter() - began)

    benchmark.pedantic(lambda: next(fit([trial], registry=registry)), setup=loop, rounds=ROUNDS, warmup_rounds=2)

    fits = benchmark.stats.stats.data
    ratios = [taken / plain for taken, plain in zip(fits, loops[-ROUNDS:], strict=True)]
    benchmark.extra_info["ratio to a plain loop"] = round(statistics.median(ratios), 3)


def _loop(trial: Trial, registry: plugins.Registry, splits: object) -> None:
    recipe = trial.recipe
    torch.set_num_threads(recipe.threads)
    model = network(trial, registry)
    optimizer = torch.optim.SGD(model.parameters(), lr=recipe.rate, momentum=recipe.momentum)
    batches = Batches(splits.train, recipe.batch_size, trial.seed)
    with global_stream(torch.device("cpu"), trial.seed, "layer"):
        for _ in range(recipe.epochs):
            for inputs, targets, _ in batches:
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(inputs), targets).backward()
                optimizer.step()
            _score(model, splits.validation)
        _score(model, splits.test)


@torch.no_grad()
def _score(model: nn.Module, split: tuple[torch.Tensor, torch.Tensor]) -> float:
    model.eval()
    score = (model(split[0]).argmax(1) == split[1]).float().mean().item()
    model.train()
    return score

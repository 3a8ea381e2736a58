"""A small training in double precision that probes watch, and what NumPy needs to compute the same."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

import normbench
from normbench import plugins
from normbench.registry import Offered, Plugin
from normbench.train import fit
from normbench.trials import Trace, Trial

PLUGIN = Plugin("watched", "tests")


@dataclass
class Step:
    """What a step begins with: the batch, (N, ...) each, all weights by name, and its rate."""

    inputs: np.ndarray
    targets: np.ndarray
    weights: dict[str, np.ndarray]
    rate: float


def trained(
    probes: Sequence[str],
    network: Callable[[Any], nn.Module],
    inputs: torch.Tensor,
    norm: str = "none",
    **recipe: Any,
) -> tuple[list[Trace], list[Step]]:
    """Train `network(place)` on two classes of `inputs`, (24, ...), watched by built-in probes.

    Return what the probes gave, and every step.
    """
    steps: list[Step] = []

    class Stepping:
        def __init__(self, training):
            self.training = training

        def on_step(self, step):
            batch = (given.numpy() for given in self.training.batch)
            weights = {name: own.detach().numpy().copy() for name, own in self.training.network.named_parameters()}
            steps.append(Step(*batch, weights, self.training.rate))

    targets = (inputs.flatten(1).mean(1) > 0).long()
    task = normbench.Task(
        "watched", 1, summary="Two classes", recipe=normbench.Recipe(rate=0.1, batch_size=6, steps=4), chance=0.5,
        reference=1.0, data=lambda folder, recipe: normbench.Splits(*[(inputs, targets)] * 3),
        network=lambda place, recipe: network(place).double(),
    )  # fmt: skip
    registry = plugins.load()
    registry.tasks[task.name] = Offered(task, PLUGIN)
    registry.probes["stepping"] = Offered(normbench.Probe("stepping", Stepping, summary="S"), PLUGIN)
    values = {"rate": 0.1, "batch_size": 6, "steps": 4, **recipe}
    trial = Trial(task=task.name, task_version=1, norm=norm, recipe=normbench.Recipe(**values), seed=0)
    outcome = next(fit([trial], registry=registry, probes=[*probes, "stepping"]))
    assert outcome.outcome in ("trained", "not-trained"), outcome.reason
    asked = {probe.partition("(")[0] for probe in probes}
    return [trace for trace in outcome.traces if trace.probe in asked], steps

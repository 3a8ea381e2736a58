"""There is one training step: what a session times is what a trial trains by, to the last bit."""

from pathlib import Path

import pytest
import torch

from normbench.throughput.candidate import Candidate
from normbench.train import assemble
from normbench.train.streams import global_stream
from normbench.train.trainer import train

CPU = torch.device("cpu")


@pytest.mark.parametrize("norm", ["before", "drawing", "weight"])
@pytest.mark.parametrize(
    "recipe",
    [
        {"momentum": 0.9, "schedule": "cosine", "weight_decay": 0.01},
        {"accumulate": 2, "optimizer": "adam", "schedule": "one-cycle"},
        {"accumulate": 3, "optimizer": "adamw", "schedule": "steps", "weight_decay_spares": "norms-and-biases"},
        {"precision": "bf16"},
        {"epochs": 0, "steps": 5},
    ],
    ids=str,
)
def test_a_timed_step_is_a_trained_one(registry, trial, norm, recipe):
    """After as many steps, weights, buffers and the optimizer's state are the same."""
    one = trial(norm, **{"batch_size": 6, "epochs": 2, **recipe})
    data = assemble.data(one, registry.task("tiny"), Path(), CPU)
    trained, timed = assemble.training(one, registry, data), Candidate(one, registry, data, CPU)

    with global_stream(CPU, one.seed, "layer"):
        train(trained)
    timed.train(trained.steps)

    assert trained.taken == trained.steps == {0: 5, 2: 8}[one.recipe.epochs]
    assert _state(trained) == _state(timed._module)


def _state(module):
    """Return all numbers of a network and its optimizer, exactly."""
    tensors = [*module.state_dict().values(), *(v for s in module.optimizer.state.values() for v in s.values())]
    return [v.tolist() if isinstance(v, torch.Tensor) else v for v in tensors], module.optimizer.param_groups[0]["lr"]

"""The task that runs and sessions of these tests train: two classes on made-up data, in milliseconds."""

import pytest
import torch
from torch import nn

import normbench
from normbench import plugins


def _data(folder, recipe):
    inputs = torch.randn(24, 3, generator=torch.Generator().manual_seed(1))
    split = (inputs, (inputs[:, 0] > 0).long())
    return normbench.Splits(split, split, split)


def _network(place, recipe):
    return nn.Sequential(place(nn.Linear(3, 4), "relu"), nn.Linear(4, 2))


@pytest.fixture
def tiny(monkeypatch):
    """Register the task `tiny`, and forget afterwards all that was registered."""
    monkeypatch.setattr(plugins, "_session", [])
    plugins.current.cache_clear()
    recipe = normbench.Recipe(rate=0.1, batch_size=8, epochs=1)
    task = normbench.Task(
        "tiny", 1, summary="T", recipe=recipe, chance=0.5, reference=1.0, data=_data, network=_network
    )
    plugins.register(task)
    yield task
    plugins.current.cache_clear()

"""The task that runs and sessions of these tests train: two classes on made-up data, in milliseconds."""

import pytest
import torch
from torch import nn

import normbench
from normbench import plugins
from normbench.execute import Request

SUITE = """
name = "tiny"
summary = "A suite of the tests"
tasks = ["tiny"]
norms = ["fine", "other"]
baseline = "fine"
rates = [0.1, 1]
seeds = 2
"""


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


@pytest.fixture
def request_for(tmp_path, tiny):
    """Return a function that makes a request for the tiny suite, run in this folder on the CPU."""
    for name in ("fine", "other"):
        plugins.register(normbench.Norm(name, lambda site: nn.Identity(), summary=name))
    (tmp_path / "tiny.toml").write_text(SUITE)

    def made(**options):
        options = {"throughput": False, "executor": "serial", **options}
        return Request(str(tmp_path / "tiny.toml"), out=tmp_path / "out", device="cpu", **options)

    return made

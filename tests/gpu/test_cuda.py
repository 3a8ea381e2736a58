"""What only a CUDA GPU shows: training there, without waiting for it at every step, and throughput with memory."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from normbench import plugins
from normbench.execute import Request, prepare, run
from normbench.store import Store
from normbench.train import assemble, fit
from normbench.trials import Trial

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
]

NORMS = (
    "none",
    "batchnorm",
    "batchnorm-no-affine",
    "batchnorm-after",
    "layer-norm",
    "online-norm",
    'online-norm(compensation="clamp")',
    "batch-renorm",
    "layer-scaling",
)


@pytest.fixture(scope="module")
def registry():
    return plugins.load()


def digits(registry, norm="batchnorm", **recipe):
    name, _, compensation = norm.partition("(")
    task = registry.task("digits-cnn")
    return Trial(
        task=task.name,
        task_version=task.version,
        norm=name,
        params={"compensation": "clamp"} if compensation else {},
        recipe=task.recipe.changed(**recipe),
        seed=0,
    )


@pytest.mark.parametrize("norm", NORMS)
def test_steps_wait_for_nothing(registry, norm, tmp_path):
    """No training step synchronizes with the GPU, whatever the norm."""
    trial = digits(registry, norm)
    device = torch.device("cuda")
    data = assemble.data(trial, registry.task(trial.task), tmp_path, device)
    module = assemble.training(trial, registry, data)
    # An epoch's order is copied to the GPU as it begins, once; after that nothing waits, drawing a batch included.
    batches = iter(module.batches)
    module.step(next(batches))

    torch.cuda.set_sync_debug_mode("error")
    try:
        for batch in itertools.islice(batches, 4):
            module.step(batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")

    assert 5 == module.taken


@pytest.mark.parametrize("norm", NORMS)
def test_the_same_training_as_on_a_cpu(registry, norm):
    """A trial trains on CUDA about as it does on a CPU: with the same weights at the start and order of samples."""
    trial = digits(registry, norm, epochs=2, rate=0.01)

    (on_cpu,) = fit([trial], registry=registry)
    (on_cuda,) = fit([trial], registry=registry, device="cuda")

    assert on_cpu.series["loss"] == pytest.approx(on_cuda.series["loss"], rel=0.05)


@pytest.mark.parametrize(
    "recipe",
    [{"precision": "bf16"}, {"channels_last": True}, {"compile": True}, {"optimizer": "adam", "rate": 0.01}],
    ids=["bf16", "channels_last", "compile", "adam"],
)
def test_recipe_values(registry, recipe):
    """Every way to compute trains on CUDA."""
    (outcome,) = fit([digits(registry, **recipe)], registry=registry, device="cuda")

    assert "trained" == outcome.outcome, outcome.reason


def test_a_session(tmp_path):
    """A session on CUDA gives each norm's ratio and the memory of its step."""
    asked = Request(
        "quick", norms=("batchnorm",), seeds=1, settings={"rates": [0.1], "epochs": 1}, out=tmp_path, device="cuda"
    )

    run(prepare(asked))

    (session,) = Store(tmp_path).sessions()
    assert "cuda" == session.device
    assert all(timing.peak_memory for timing in (session.baseline, session.again))
    assert all(math.isfinite(seconds) for seconds in session.baseline.train)

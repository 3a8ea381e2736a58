"""What only a CUDA GPU can time: online norm at ImageNet's shapes, and trainings of cifar10-resnet20."""

from __future__ import annotations

import os
import statistics

import pytest
import torch
from torch import nn

import normbench
from normbench import plugins
from normbench.train import fit
from normbench.trials import Trial

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")

DATA = os.environ.get("NORMBENCH_DATA", "")
#: Epochs of a training that is timed; its schedule is scaled to them.
EPOCHS = int(os.environ.get("NORMBENCH_BENCHMARK_EPOCHS", "30"))
ROUNDS, STEPS = 25, 10


@pytest.mark.parametrize("mode", ["eager", "compiled"])
@pytest.mark.parametrize("compensation", ["layer-scaling", "clamp", "none"])
def test_a_step_of_online_norm_on_a_gpu(benchmark, compensation, mode):
    """Each round times batch norm, run eagerly, then online norm: forward and backward, channels last."""
    torch.compiler.reset()
    layer = normbench.layer("online-norm", channels=64, layout="NCHW", compensation=compensation).cuda()
    if mode == "compiled":
        layer = torch.compile(layer, fullgraph=True)
    shape = (256, 64, 56, 56)
    x = torch.randn(shape, device="cuda").contiguous(memory_format=torch.channels_last).requires_grad_()
    gradient = torch.randn_like(x)
    reference = nn.BatchNorm2d(64).cuda()
    pairs: list[tuple[float, float]] = []

    def a_round() -> None:
        pairs.append((milliseconds(layer, x, gradient), milliseconds(reference, x, gradient)))

    benchmark.pedantic(a_round, rounds=ROUNDS, warmup_rounds=3)

    low, middle, high = statistics.quantiles([own / other for own, other in pairs[-ROUNDS:]], n=4)
    benchmark.extra_info["device"] = torch.cuda.get_device_name()
    benchmark.extra_info["ratio to batch norm, eager"] = f"{middle:.2f} (quartiles {low:.2f} to {high:.2f})"


@pytest.mark.parametrize("norm", ["batchnorm", "none", "online-norm"])
def test_cifar10_resnet20(benchmark, norm):
    """A training by the published recipe, in fewer epochs."""
    if not DATA:
        pytest.skip("needs CIFAR-10: NORMBENCH_DATA")
    registry = plugins.load()
    task = registry.task("cifar10-resnet20")
    recipe = task.recipe.changed(epochs=EPOCHS, hold_out=False)
    trial = Trial(task=task.name, task_version=task.version, norm=norm, recipe=recipe, seed=0)

    (outcome,) = benchmark.pedantic(
        lambda: list(fit([trial], registry=registry, device="cuda", data_dir=DATA)), rounds=1
    )

    benchmark.extra_info["device"] = torch.cuda.get_device_name()
    benchmark.extra_info["epochs"] = EPOCHS
    benchmark.extra_info["seconds an epoch"] = f"{outcome.seconds / EPOCHS:.1f}"
    benchmark.extra_info["outcome"] = outcome.outcome
    benchmark.extra_info["test accuracy"] = "none" if outcome.score is None else f"{100 * outcome.score:.1f}%"


def milliseconds(layer: nn.Module, x: torch.Tensor, gradient: torch.Tensor) -> float:
    """Return the time of a forward and a backward, the mean of several on one stream."""
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    for _ in range(STEPS):
        x.grad = None
        layer.zero_grad()
        layer(x).backward(gradient)
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / STEPS

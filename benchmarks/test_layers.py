"""What a layer costs, forward and backward with gamma and beta, against torch's batch norm on the same tensors."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import pytest
import torch
from torch import nn

import normbench

ROUNDS = 25
#: More would measure what else runs on the machine: threads wait for one another.
THREADS = 1
#: Shapes (N, C, H, W), and the steps that are one timing.
SHAPES = {(64, 32, 16, 16): 20, (128, 64, 32, 32): 1}
LAYERS = {
    "batchnorm": ("batchnorm", {}),
    "online-norm": ("online-norm", {}),
    "online-norm(compensation=clamp)": ("online-norm", {"compensation": "clamp"}),
    "online-norm(compensation=none)": ("online-norm", {"compensation": "none"}),
}


@pytest.mark.parametrize("shape", SHAPES, ids="{0[0]}x{0[1]}x{0[2]}x{0[3]}".format)
@pytest.mark.parametrize("mode", ["eager", "compiled"])
@pytest.mark.parametrize("name", LAYERS)
def test_a_step_of(benchmark, name, mode, shape):
    """Each round times batch norm, run eagerly, then the layer: a round is compared with itself."""
    torch.set_num_threads(THREADS)
    torch.compiler.reset()
    norm, params = LAYERS[name]
    layer = normbench.layer(norm, channels=shape[1], layout="NCHW", **params)
    if mode == "compiled":
        layer = torch.compile(layer, fullgraph=True)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator).requires_grad_()
    gradient = torch.randn(shape, generator=generator)
    reference = steps(nn.BatchNorm2d(shape[1]), x, gradient, SHAPES[shape])
    references: list[float] = []

    def batch_norm() -> None:
        began = time.perf_counter()
        reference()
        references.append(time.perf_counter() - began)

    benchmark.pedantic(
        steps(layer, x, gradient, SHAPES[shape]), setup=batch_norm, rounds=ROUNDS, warmup_rounds=3, iterations=1
    )

    pairs = zip(benchmark.stats.stats.data, references[-ROUNDS:], strict=True)
    low, middle, high = statistics.quantiles([own / batch_norms for own, batch_norms in pairs], n=4)
    benchmark.extra_info["threads"] = THREADS
    benchmark.extra_info["steps in a round"] = SHAPES[shape]
    benchmark.extra_info["ratio to batch norm, eager"] = f"{middle:.2f} (quartiles {low:.2f} to {high:.2f})"


def steps(layer: nn.Module, x: torch.Tensor, gradient: torch.Tensor, count: int) -> Callable[[], None]:
    """Return a function that does so many forwards and backwards."""

    def run() -> None:
        for _ in range(count):
            x.grad = None
            layer.zero_grad()
            layer(x).backward(gradient)

    return run

"""What a layer costs against torch's batch norm, run eagerly, on the same tensors: in training and in evaluation."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import normbench
from normbench import plugins
from normbench.spelling import choice

#: Of a layer that torch compiled, and of each norm.
ROUNDS, ROUNDS_OF_ALL = 25, 11
#: More would measure what else runs on the machine: threads wait for one another.
THREADS = 1
#: Shapes (N, C, H, W) or (N, C), and the steps that are one timing.
SHAPES = {(64, 32, 16, 16): 20, (128, 64, 32, 32): 1, (32, 500): 100}
#: Every built-in norm, and the forms of one whose costs differ.
NORMS = [
    *(name for name, offered in plugins.current().norms.items() if offered.plugin.built_in),
    'online-norm(compensation="clamp")',
    'online-norm(compensation="none")',
]
COMPILED = ["batchnorm", *(norm for norm in NORMS if norm.startswith("online-norm"))]


def shown(shape: tuple[int, ...]) -> str:
    """Return a shape as the page has it."""
    return "x".join(map(str, shape))


@pytest.mark.benchmark(group="layers")
@pytest.mark.parametrize("shape", SHAPES, ids=shown)
@pytest.mark.parametrize("norm", NORMS)
def test_a_layer_of(benchmark, norm, shape):
    """Each round times the layer and batch norm, one after the other, and is compared with itself."""
    torch.set_num_threads(THREADS)
    layer, batch_norm = sides(norm, shape)
    x, gradient = tensors(shape)
    ratios: dict[str, list[float]] = {"training": [], "evaluation": []}

    def a_round() -> None:
        for phase, timed in (("training", steps), ("evaluation", evaluations)):
            own, other = (seconds(timed(side, x, gradient, SHAPES[shape])) for side in (layer, batch_norm))
            ratios[phase].append(own / other)

    benchmark.pedantic(a_round, rounds=ROUNDS_OF_ALL, warmup_rounds=2)

    placement = plugins.current().norm(choice(norm, "").name).placement
    benchmark.extra_info |= {"norm": norm, "placement": placement, "shape": shown(shape)}
    benchmark.extra_info |= {phase: statistics.median(found[-ROUNDS_OF_ALL:]) for phase, found in ratios.items()}


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if len(shape) == 4], ids=shown)
@pytest.mark.parametrize("norm", COMPILED)
def test_a_compiled_step_of(benchmark, norm, shape):
    """Each round times batch norm, run eagerly, then the layer: a round is compared with itself."""
    torch.set_num_threads(THREADS)
    torch.compiler.reset()
    layer, batch_norm = sides(norm, shape)
    x, gradient = tensors(shape)
    references: list[float] = []

    benchmark.pedantic(
        steps(torch.compile(layer, fullgraph=True), x, gradient, SHAPES[shape]),
        setup=lambda: references.append(seconds(steps(batch_norm, x, gradient, SHAPES[shape]))),
        rounds=ROUNDS,
        warmup_rounds=3,
        iterations=1,
    )

    pairs = zip(benchmark.stats.stats.data, references[-ROUNDS:], strict=True)
    low, middle, high = statistics.quantiles([own / other for own, other in pairs], n=4)
    benchmark.extra_info["threads"] = THREADS
    benchmark.extra_info["steps in a round"] = SHAPES[shape]
    benchmark.extra_info["ratio to batch norm, eager"] = f"{middle:.2f} (quartiles {low:.2f} to {high:.2f})"


def sides(norm: str, shape: tuple[int, ...]) -> tuple[nn.Module, nn.Module]:
    """Return a norm's layer, and what it is compared with: each does the same work around the norm.

    That is batch norm; with the ReLU that a fused layer includes; behind the linear that a norm of weights wraps.
    Skips where the norm has no form for the layout.
    """
    torch.manual_seed(0)
    asked = choice(norm, "")
    placement = plugins.current().norm(asked.name).placement
    channels, spatial = shape[1], shape[2:]
    reference: list[nn.Module] = [nn.BatchNorm2d(channels) if spatial else nn.BatchNorm1d(channels)]
    if placement == "fused":
        reference.append(nn.ReLU())
    if placement == "weight":
        reference.insert(0, linear(shape, bias=False))
    # In the second of two blocks: layer norm scaling does nothing in the first.
    site = normbench.Site(
        channels,
        "NCHW" if spatial else "NC",
        "relu" if placement == "fused" else None,
        spatial=spatial,
        sites=2,
        block=1,
        blocks=2,
        steps=1000,
    )
    module = linear(shape) if placement == "weight" else None
    try:
        layer = normbench.layer(asked.name, site=site, module=module, **asked.params)
    except normbench.UsageError as error:
        pytest.skip(str(error))
    return layer, nn.Sequential(*reference) if len(reference) > 1 else reference[0]


def linear(shape: tuple[int, ...], bias: bool = True) -> nn.Module:
    """Return a 3 x 3 convolution of maps or a linear of vectors, that keeps the shape."""
    channels = shape[1]
    if len(shape) == 2:
        return nn.Linear(channels, channels, bias=bias)
    return nn.Conv2d(channels, channels, 3, padding=1, bias=bias)


def tensors(shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Return an input, and the gradient of an output."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator).requires_grad_(), torch.randn(shape, generator=generator)


def seconds(run: Callable[[], None]) -> float:
    """Return how long a call takes."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def steps(layer: nn.Module, x: Tensor, gradient: Tensor, count: int) -> Callable[[], None]:
    """Return a function that does so many forwards and backwards."""

    def run() -> None:
        for _ in range(count):
            x.grad = None
            layer.zero_grad()
            layer(x).backward(gradient)

    layer.train()
    return run


def evaluations(layer: nn.Module, x: Tensor, gradient: Tensor, count: int) -> Callable[[], None]:  # noqa: ARG001
    """Return a function that does so many forwards in evaluation."""

    @torch.no_grad()
    def run() -> None:
        for _ in range(count):
            layer(x)

    layer.eval()
    return run

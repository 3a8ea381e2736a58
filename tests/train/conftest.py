"""A tiny plugin: a norm of every placement, tasks on made-up data, and layers that go wrong on purpose."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn

import normbench
from normbench.registry import Offered, Plugin, Registry
from normbench.trials import Trial


class FusedScale(nn.Module):
    """Halves its input and applies the site's activation, or the form without."""

    def __init__(self, activation: str | None) -> None:
        super().__init__()
        self.activation = {"relu": nn.ReLU(), None: nn.Identity()}[activation]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.activation(0.5 * x)


class DoubledWeight(nn.Module):
    """Wraps a linear and computes with twice its weight."""

    def __init__(self, linear: nn.Module) -> None:
        super().__init__()
        self.linear = linear

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(x, 2 * self.linear.weight, self.linear.bias)


class Drawing(nn.Module):
    """Draws from the global generator at construction and in training, and counts its steps in a buffer."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(1 + 0.01 * torch.randn(channels))
        self.register_buffer("steps", torch.zeros(2))

    def on_step(self, step: int, steps: int) -> None:
        self.steps.copy_(torch.tensor([float(step), float(steps)]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        noise = 0.01 * torch.randn_like(x) if self.training else 0.0
        return (x + noise) * self.scale.view(1, -1, *[1] * (x.dim() - 2))


class Everything(nn.Module):
    """gain tanh(alpha x) + bias, with all that a layer may have beside forward; evaluations move its bias."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.full((1,), 0.5))
        self.gain, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("warm", torch.ones(()))
        self.register_buffer("average", torch.zeros(channels))

    def on_step(self, step: int, steps: int) -> None:
        self.warm.fill_(1 + step / steps)

    def after_step(self, step: int, steps: int) -> None:
        self.gain.clamp_(max=0.99)
        self.average.lerp_(self.gain, 0.5)

    def before_evaluation(self) -> None:
        self.bias.lerp_(self.average, 0.1)

    def own_loss(self) -> torch.Tensor:
        return 0.01 * self.output.square().mean() + 0.1 * self.gain.square().sum()

    def parameter_groups(self) -> Iterator[dict[str, Any]]:
        yield {"params": [self.alpha], "rate_factor": 0.5}
        yield {"params": [self.gain], "weight_decay": 0.3}

    def decayed(self) -> list[nn.Parameter]:
        return [self.alpha]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gain, bias = (value.view(1, -1, *[1] * (x.dim() - 2)) for value in (self.gain, self.bias))
        self.output = (self.alpha * x * self.warm).tanh() * gain + bias
        return self.output


class Failing(nn.Module):
    """Raises what it is given, in the forward pass."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise self.error


class Poisoned(nn.Module):
    """Has a buffer that becomes infinite although every loss is finite."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mask", torch.tensor([float("-inf")]))
        self.register_buffer("running", torch.zeros(1))

    def on_step(self, step: int, steps: int) -> None:
        if step == 2:
            self.running.fill_(float("inf"))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def _refuse(site: normbench.Site) -> nn.Module:
    raise normbench.Unsupported("not on a Tuesday")


NORMS = [
    normbench.Norm("plain", lambda site: nn.Identity(), summary="Nothing"),
    normbench.Norm("before", lambda site: nn.BatchNorm1d(site.channels), summary="b",
                   traits=normbench.Traits(centres=True, batch_size_1="no")),
    normbench.Norm("after", lambda site: nn.BatchNorm1d(site.channels), summary="a", placement="after",
                   traits=normbench.Traits(centres=True)),
    normbench.Norm("fused", lambda site: FusedScale(site.activation), summary="f", placement="fused"),
    normbench.Norm("weight", lambda site, module: DoubledWeight(module), summary="w", placement="weight"),
    normbench.Norm("drawing", lambda site: Drawing(site.channels), summary="Draws"),
    normbench.Norm("everything", lambda site: Everything(site.channels), summary="All that a layer may have"),
    normbench.Norm("convolutions-only", lambda site: nn.BatchNorm2d(site.channels), summary="c", layouts={"NCHW"}),
    normbench.Norm("refusing", _refuse, summary="r"),
    normbench.Norm("failing", lambda site: Failing(RuntimeError("boom")), summary="x"),
    normbench.Norm("exiting", lambda site: Failing(SystemExit(3)), summary="x"),
    normbench.Norm("out-of-memory", lambda site: Failing(torch.OutOfMemoryError("too much")), summary="x"),
    normbench.Norm("poisoned", lambda site: Poisoned(), summary="x"),
    normbench.Norm("no-module", lambda site: "a string", summary="x"),
]  # fmt: skip


def _data(folder: Any, recipe: normbench.Recipe, samples: int = 40) -> normbench.Splits:
    inputs = torch.randn(samples, 6, generator=torch.Generator().manual_seed(1))
    targets = (inputs[:, 0] > 0).long()
    return normbench.Splits((inputs[:24], targets[:24]), (inputs[24:32], targets[24:32]), (inputs[32:], targets[32:]))


def _network(place: Any, recipe: normbench.Recipe, width: int = 5) -> nn.Module:
    return nn.Sequential(place(nn.Linear(6, width), "relu"), nn.Linear(width, 2))


TASKS = [
    normbench.Task(
        "tiny", 1, summary="Two classes", recipe=normbench.Recipe(rate=0.1, batch_size=7, epochs=2),
        chance=0.5, reference=1.0, data=_data, network=_network, params={"width": 5, "samples": 40},
    )
]  # fmt: skip


@pytest.fixture
def registry() -> Registry:
    plugin = Plugin("tiny", "tests")
    return Registry(
        norms={norm.name: Offered(norm, plugin) for norm in NORMS},
        tasks={task.name: Offered(task, plugin) for task in TASKS},
    )


@pytest.fixture
def trial() -> Callable[..., Trial]:
    def made(norm: str = "plain", seed: int = 0, task_params: dict[str, Any] | None = None, **recipe: Any) -> Trial:
        values = {"rate": 0.1, "batch_size": 7, "epochs": 2, **recipe}
        return Trial(
            task="tiny", task_version=1, task_params=task_params or {}, norm=norm,
            recipe=normbench.Recipe(**values), seed=seed,
        )  # fmt: skip

    return made

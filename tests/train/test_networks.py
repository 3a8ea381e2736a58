"""The contract on whole networks: residual sums over images and over tokens, with a norm of every placement."""

import pytest
import torch
from torch import nn

import normbench
from normbench.registry import Offered, Plugin
from normbench.train import fit
from normbench.trials import Trial


class Residual(nn.Module):
    """A convolution, and a residual block with a shortcut of its own."""

    def __init__(self, place):
        super().__init__()
        self.stem = place(nn.Conv2d(1, 4, 3, padding=1), "relu")
        self.inner = place(nn.Conv2d(4, 6, 3, stride=2, padding=1), "relu")
        self.sum = place.sum(nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(4, 6, 1, stride=2), "relu")
        self.head = nn.Linear(6, 2)

    def forward(self, x):
        x = self.stem(x.view(-1, 1, 4, 4))
        return self.head(self.sum(self.inner(x), x).mean((2, 3)))


class Tokens(nn.Module):
    """A block over tokens that normalizes before its branch, as transformers do, and a convolution along them."""

    def __init__(self, place):
        super().__init__()
        self.first = place.norm(4, "NLC")
        self.branch = place(nn.Linear(4, 4), "gelu", layout="NLC")
        self.sequence = place(nn.Conv1d(4, 5, 3), "relu")
        self.head = nn.Linear(5, 2)

    def forward(self, x):
        tokens = x.view(-1, 4, 4)
        tokens = tokens + self.branch(self.first(tokens))
        return self.head(self.sequence(tokens.transpose(1, 2)).mean(2))


class Moments(nn.Module):
    """Centres and scales every channel over all other axes, wherever the channels stand."""

    def __init__(self, layout):
        super().__init__()
        self.over = (0, 1) if layout == "NLC" else tuple(axis for axis in range(len(layout)) if axis != 1)

    def forward(self, x):
        centred = x - x.mean(self.over, keepdim=True)
        return centred * torch.rsqrt(centred.square().mean(self.over, keepdim=True) + 1e-5)


class MomentsThenActivation(Moments):
    """The same with the site's activation inside."""

    def __init__(self, site):
        super().__init__(site.layout)
        self.activation = {"relu": nn.ReLU(), "gelu": nn.GELU(), None: nn.Identity()}[site.activation]

    def forward(self, x):
        return self.activation(super().forward(x))


class UnitRows(nn.Module):
    """Wraps a linear or a convolution, and keeps each of its filters at length 1."""

    def __init__(self, module):
        super().__init__()
        self.module = nn.utils.parametrizations.weight_norm(module)

    def forward(self, x):
        return self.module(x)


NORMS = [
    normbench.Norm("before", lambda site: Moments(site.layout), summary="b", traits=normbench.Traits(centres=True)),
    normbench.Norm("after", lambda site: Moments(site.layout), summary="a", placement="after"),
    normbench.Norm("fused", MomentsThenActivation, summary="f", placement="fused"),
    normbench.Norm("weight", lambda site, module: UnitRows(module), summary="w", placement="weight"),
]


def data(folder, recipe):
    inputs = torch.randn(96, 16, generator=torch.Generator().manual_seed(1))
    targets = (inputs[:, :8].sum(1) > 0).long()
    inputs[:, :8] += 2 * targets[:, None] - 1
    return normbench.Splits(*((inputs[i : i + 32], targets[i : i + 32]) for i in (0, 32, 64)))


@pytest.fixture
def everything(registry):
    plugin = Plugin("tiny", "tests")
    recipe = normbench.Recipe(rate=0.1, batch_size=8, epochs=8, momentum=0.9)
    for name, kind in (("residual", Residual), ("tokens", Tokens)):
        task = normbench.Task(
            name, 1, summary=name, recipe=recipe, chance=0.5, reference=1.0, data=data,
            network=lambda place, recipe, kind=kind: kind(place),
        )  # fmt: skip
        registry.tasks[name] = Offered(task, plugin)
    registry.norms.update({norm.name: Offered(norm, plugin) for norm in NORMS})
    return registry


@pytest.mark.parametrize("norm", ["plain", "before", "after", "fused", "weight"])
@pytest.mark.parametrize("task", ["residual", "tokens"])
def test_every_placement_trains_in_residual_networks_and_on_tokens(everything, task, norm):
    """A network written once, with place alone, trains with a norm of every placement."""
    recipe = everything.task(task).recipe

    found = next(fit([Trial(task=task, task_version=1, norm=norm, recipe=recipe, seed=0)], registry=everything))

    assert ("trained", "") == (found.outcome, found.reason)
    assert found.series["loss"][-1] < 0.7 * found.series["loss"][0]


@pytest.mark.parametrize("norm", ["batchnorm", "batchnorm-no-affine", "batchnorm-after", "layer-norm", "none"])
@pytest.mark.parametrize("task", ["residual", "tokens"])
def test_every_built_in_norm_does_too(everything, task, norm):
    """The built-in norms have a form for images, for sequences of channels and for tokens."""
    from normbench import plugins

    everything.norms[norm] = plugins.load().norms[norm]
    recipe = everything.task(task).recipe

    found = next(fit([Trial(task=task, task_version=1, norm=norm, recipe=recipe, seed=0)], registry=everything))

    assert ("trained", "") == (found.outcome, found.reason)

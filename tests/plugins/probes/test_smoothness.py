"""`smoothness` against torch.func on formulas, in double precision; and what rescaled weights and dropout leave."""

import math

import pytest
import torch
from torch import nn
from watched import trained

INPUTS = torch.randn(24, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
REACH = [0.5, 1, 2, 4]


def network(place):
    return nn.Sequential(place(nn.Linear(6, 5), "tanh"), nn.Linear(5, 2))


def loss_of(weights, inputs, targets, norm):
    """Return the mean cross-entropy of the network, in plain formulas."""
    first, *own, second, bias = weights.values()
    hidden = inputs @ first.T
    if norm == "batchnorm":
        gamma, beta = own
        centred = hidden - hidden.mean(0)
        hidden = centred / (centred.square().mean(0) + 1e-5).sqrt() * gamma + beta
    else:
        hidden = hidden + own[0]
    outputs = hidden.tanh() @ second.T + bias
    return (outputs.exp().sum(1).log() - outputs[range(len(targets)), targets]).mean()


def expected(step, norm):
    """Return what the probe is to give of a step."""
    weights = {name: torch.tensor(weight) for name, weight in step.weights.items()}
    batch = torch.tensor(step.inputs), torch.tensor(step.targets), norm
    gradient_of = torch.func.grad_and_value(loss_of)
    here, loss = gradient_of(weights, *batch)
    length = math.sqrt(sum(g.square().sum().item() for g in here.values()))
    losses, changes = [], []
    for reach in REACH:
        moved = {name: weight - reach * step.rate * here[name] for name, weight in weights.items()}
        there, value = gradient_of(moved, *batch)
        losses.append(value.item())
        changes.append(math.sqrt(sum((here[name] - there[name]).square().sum().item() for name in here)))
    beta = max(change / (reach * step.rate * length) for change, reach in zip(changes, REACH, strict=True))
    return {
        "loss": loss.item(), "loss_low": min(losses), "loss_high": max(losses),
        "gradient_low": min(changes), "gradient_high": max(changes),
        "beta": beta, "relative_beta": beta * sum(weight.square().sum().item() for weight in weights.values()),
    }  # fmt: skip


@pytest.mark.parametrize("norm", ["batchnorm", "none"])
def test_loss_and_gradient_along_the_gradient(norm):
    """At multiples of the scheduled rate, of a step's last part alone, with its statistics anew at each point."""
    asked = ["smoothness(every=2)"]
    [trace], steps = trained(asked, network, INPUTS, norm, rate=1.0, accumulate=2, schedule="cosine", momentum=0.9)

    for now, step in enumerate(steps[::2]):
        found = {name: points.value[now] for name, points in trace.series.items()}
        assert found == pytest.approx(expected(step, norm), rel=1e-9)


def relus(factor):
    def made(place):
        layers = nn.Sequential(place(nn.Linear(6, 5), "relu"), place(nn.Linear(5, 2)))
        with torch.no_grad():
            for weight in layers.parameters():
                weight *= factor
        return layers

    return made


def test_the_length_of_weights_is_not_in_relative_beta():
    """Weights times 3 at a rate times 9 are the same network, step by step, and beta is a ninth."""
    (small,), (large,) = (
        trained(["smoothness(every=1)"], relus(factor), INPUTS, "batchnorm-no-affine", rate=0.1 * factor**2)[0]
        for factor in (1, 3)
    )

    for name, times in {"loss": 1, "loss_high": 1, "gradient_high": 1 / 3, "beta": 1 / 9, "relative_beta": 1}.items():
        scaled = [times * value for value in small.series[name].value]
        assert large.series[name].value == pytest.approx(scaled, rel=1e-3), name


def test_dropout_is_not_measured():
    """The same is dropped at each point: close to the weights the gradient is nearly the same."""
    [trace], _ = trained(
        ["smoothness(every=1, reach=[1e-6])"], lambda place: nn.Sequential(network(place), nn.Dropout()), INPUTS
    )

    assert 0 < max(trace.series["gradient_high"].value) < 1e-6


def test_what_is_not_finite_is_infinite():
    """A loss that is lost on the way is the highest; at the weights themselves it is what it is."""
    [trace], _ = trained(["smoothness(reach=[1, 1e200])"], relus(1), INPUTS)

    first = {name: points.value[0] for name, points in trace.series.items()}
    assert {"loss_high", "gradient_high", "beta", "relative_beta"} == {k for k, v in first.items() if v == math.inf}
    assert all(map(math.isfinite, (first["loss"], first["loss_low"], first["gradient_low"])))

"""`first-order` on a quadratic, where the ratio is known, and against the losses of a network."""

import math
from contextlib import nullcontext
from itertools import pairwise

import pytest
import torch
from plain_network import INPUTS, loss, network, tensors
from torch import nn
from watched import trained

from normbench_plugins.probes.first_order import FirstOrder


class Bowl:
    """A training whose loss is w . Aw / 2; `untouched` is the host's, whose checks hold the probe to it."""

    def __init__(self):
        self.network = nn.Linear(2, 1, bias=False).double()
        self.untouched = nullcontext

    def loss(self):
        (w,) = self.network.weight
        return w @ torch.tensor([[4.0, 1.0], [1.0, 3.0]], dtype=torch.float64) @ w / 2


def seen(move):
    """Return what is seen of a step from w = (1, 2), where Aw = (6, 7) and the loss is 10."""
    bowl = Bowl()
    probe = FirstOrder(bowl)
    with torch.no_grad():
        bowl.network.weight.copy_(torch.tensor([[1.0, 2.0]]))
        probe.on_step(0)
        bowl.network.weight.add_(torch.tensor([move], dtype=torch.float64))
    return probe.after_step(0)


@pytest.mark.parametrize(
    ("move", "actual", "predicted"),
    [
        ([-0.6, -0.7], -6.625, -8.5),  # a tenth of the gradient, along which the curvature adds 1.875
        ([0.5, 0.5], 7.625, 6.5),  # upwards, as momentum may lead
        ([-1.0, -2.0], -10.0, -20.0),  # to the bottom
    ],
)
def test_a_quadratic_changes_by_its_gradient_and_half_its_curvature(move, actual, predicted):
    expected = {"actual": actual, "predicted": predicted, "ratio": actual / predicted}

    assert seen(move) == pytest.approx(expected)


def test_the_ratio_is_nan_where_nothing_moves():
    said = seen([0.0, 0.0])

    assert (0.0, 0.0) == (said["actual"], said["predicted"])
    assert math.isnan(said["ratio"])


@pytest.mark.parametrize("norm", ["batchnorm", "none"])
def test_of_a_network_the_step_is_the_optimizers(norm):
    """With momentum, weight decay and another batch before; a weight that is frozen has no part in it."""

    def frozen(place):
        made = network(place)
        made[-1].bias.requires_grad_(False)
        return made

    recipe = {"momentum": 0.9, "weight_decay": 0.01, "accumulate": 2, "rate": 0.5}
    [trace], steps = trained(["first-order(every=1)"], frozen, INPUTS, norm, **recipe)

    for now, (step, after) in enumerate(pairwise(steps)):
        old, new = tensors(step), tensors(after)
        gradients = torch.func.grad(loss)(old, step)
        predicted = sum(((b - a) * g).sum() for a, b, g in zip(old, new, gradients, strict=True)).item()
        actual = (loss(new, step) - loss(old, step)).item()
        said = {name: points.value[now] for name, points in trace.series.items()}
        assert said == pytest.approx({"actual": actual, "predicted": predicted, "ratio": actual / predicted}, rel=1e-8)

"""`shift` against a loop over layers, whose weights are put together by hand."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from plain_network import INPUTS, LINEARS, loss, network, tensors
from torch import nn
from watched import trained


def gradient(weights, at, step):
    """Return the gradient of the weight with this number, flat."""
    return torch.func.grad(lambda own: loss([*weights[:at], own, *weights[at + 1 :]], step))(weights[at]).flatten()


@pytest.mark.parametrize("norm", ["batchnorm", "none"])
def test_the_layers_below_stand_where_the_optimizer_took_them(norm):
    """That is not where the gradient leads: there is momentum, and the step adds up two batches."""
    recipe = {"momentum": 0.9, "weight_decay": 0.01, "accumulate": 2, "rate": 0.5}
    [trace], steps = trained(["shift(every=1)"], network, INPUTS, norm, **recipe)

    series = {name: np.array(points.value) for name, points in trace.series.items()}
    for now, (step, after) in enumerate(pairwise(steps)):
        old, new = tensors(step), tensors(after)
        for i, at in enumerate(LINEARS[norm]):
            here, there = gradient(old, at, step), gradient(new[:at] + old[at:], at, step)
            length = here @ here
            cosine = (here @ there) / (length * (there @ there)).sqrt()
            expected = [(here - there).norm(), cosine, length.sqrt()]
            np.testing.assert_allclose([series[name][now, i] for name in series], expected, rtol=1e-8, atol=1e-14)
    assert ["distance", "cosine", "gradient"] == list(series)
    assert (series["distance"][1:, 1:] > 1e-3).all()


def test_what_belongs_to_the_linear_itself_is_not_below_it():
    """A parametrization's other parameters and the bias come before the weight: nothing is below the first linear."""
    [trace], _ = trained(["shift"], lambda place: nn.Sequential(nn.Flatten(), place(nn.Linear(32, 2))), INPUTS,
                         "weight-norm")  # fmt: skip

    assert [[0.0]] == trace.series["distance"].value
    assert [[pytest.approx(1)]] == trace.series["cosine"].value


def test_a_linear_that_does_not_learn_has_a_gradient_too():
    def frozen(place):
        made = network(place)
        made[-1].weight.requires_grad_(False)
        return made

    [trace], steps = trained(["shift"], frozen, INPUTS)

    expected = gradient(tensors(steps[0]), LINEARS["none"][2], steps[0]).norm().item()
    assert trace.series["gradient"].value[0][2] == pytest.approx(expected)

"""`activity` against NumPy, on layers whose units were made dead or saturated by hand."""

import numpy as np
import pytest
import torch
from torch import nn
from watched import trained

#: Two channels at three positions, or tokens.
INPUTS = torch.randn(24, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def by_hand(place, first, second):
    """Return two layers of three channels: of the first the middle one is never active, of the second one is steep."""
    layers = nn.Conv1d(2, 3, 1), nn.Conv1d(3, 3, 1)
    with torch.no_grad():
        layers[0].bias.copy_(torch.tensor([0.1, -50, 0.0]))
        layers[1].weight[0] *= 400
    return nn.Sequential(place(layers[0], first), place(layers[1], second), nn.Flatten(), nn.Linear(9, 2))


def layer(x, step, site):
    """Return what a linear gives of (N, channels, positions)."""
    weights = list(step.weights.values())
    return np.einsum("ncp,oc->nop", x, weights[2 * site][..., 0]) + weights[2 * site + 1][:, None]


def relu(x):
    return np.maximum(x, 0)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def shares(x):
    """Return the share of channels that are nowhere above 0, and the share of zeros."""
    return [np.mean([(channel <= 0).all() for channel in x.transpose(1, 0, 2)]), np.mean(x == 0)]


@pytest.mark.parametrize("act", ["sigmoid", "tanh"])
def test_dead_channels_zeros_and_saturation(act):
    """Beyond 95 % of the range is below 0.025 or above 0.975 of a sigmoid, and beyond 0.95 of a tanh."""
    [trace], steps = trained(["activity(every=2)"], lambda place: by_hand(place, "relu", act), INPUTS)

    series = trace.series
    assert [0, 2] == series["zeros"].step
    for now, step in enumerate(steps[::2]):
        hidden = relu(layer(step.inputs, step, 0))
        given = {"sigmoid": sigmoid, "tanh": np.tanh}[act](layer(hidden, step, 1))
        low, high = (0.025, 0.975) if act == "sigmoid" else (-0.95, 0.95)
        expected = np.array([shares(hidden), shares(given)]).T
        assert expected[0, 0] >= 1 / 3
        np.testing.assert_allclose([series["never_active"].value[now], series["zeros"].value[now]], expected)
        saturated = np.mean((given < low) | (given > high))
        assert 0.1 < saturated < 0.9
        np.testing.assert_allclose(series["saturated"].value[now], [np.nan, saturated])


def test_saturation_is_left_out_where_nothing_saturates():
    """And a channel of tokens is the last axis: the one that is dead stays one of three."""

    def tokens(place):
        layer = nn.Linear(3, 3)
        layer.bias.data[1] = -50
        return nn.Sequential(place(layer, "relu", layout="NLC"), nn.Flatten(), nn.Linear(6, 2))

    [trace], _ = trained(["activity"], tokens, INPUTS)

    assert {"never_active", "zeros"} == set(trace.series)
    assert [[1 / 3]] == trace.series["never_active"].value

"""`gradients` against NumPy: the gradient is what a step of plain SGD takes off the weights."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn
from watched import trained

INPUTS = torch.randn(24, 2, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def network(place):
    """Return two convolutions and a linear, the last with a bias."""
    blocks = [place(nn.Conv2d(2, 3, 3, padding=1), "relu"), place(nn.Conv2d(3, 4, 3), "relu")]
    return nn.Sequential(*blocks, nn.Flatten(), nn.Linear(16, 2))


def linears(step):
    """Return the weights of linears, which have several axes."""
    return [weight.ravel() for weight in step.weights.values() if weight.ndim > 1]


@pytest.mark.parametrize("norm", ["batchnorm", "none"])
def test_lengths_angles_and_rates(norm):
    """Of all parts of a step together; the angle is a right one where weights may be rescaled."""
    [trace], steps = trained(["gradients(every=1)"], network, INPUTS, norm, accumulate=2, schedule="cosine")

    series = {name: np.array(points.value) for name, points in trace.series.items()}
    for now, (step, after) in enumerate(itertools.pairwise(steps)):
        weights = linears(step)
        gradients = [(w - then) / step.rate for w, then in zip(weights, linears(after), strict=True)]
        lengths = np.array([np.sqrt(w @ w) for w in weights])
        cosines = [w @ g / np.sqrt((w @ w) * (g @ g)) for w, g in zip(weights, gradients, strict=True)]
        np.testing.assert_allclose(series["weight"][now], lengths)
        np.testing.assert_allclose(series["gradient"][now], [np.sqrt(g @ g) for g in gradients])
        np.testing.assert_allclose(series["angle"][now], np.degrees(np.arccos(cosines)))
        np.testing.assert_allclose(series["all_weights"][now], np.sqrt(np.square(lengths).sum()))
        if norm == "batchnorm":
            np.testing.assert_allclose(series["effective_rate"][now], step.rate / lengths**2 * [1, 1, np.nan])
            np.testing.assert_allclose(series["angle"][now, :2], 90, atol=0.1)
    assert ("effective_rate" in series) == (norm == "batchnorm")


def test_a_weight_without_a_gradient_has_a_length():
    """Where it is frozen, say: its angle does not exist."""

    def frozen(place):
        made = network(place)
        made[-1].weight.requires_grad_(False)
        return made

    [trace], steps = trained(["gradients"], frozen, INPUTS)

    assert [False, False, True] == np.isnan(trace.series["angle"].value[0]).tolist()
    assert trace.series["weight"].value[0][2] == pytest.approx(np.linalg.norm(linears(steps[0])[2]))

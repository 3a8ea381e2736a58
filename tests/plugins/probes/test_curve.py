"""`curve` against NumPy: the share of a split that the weights after a step classify, without dropout."""

import numpy as np
import torch
from torch import nn
from watched import trained

INPUTS = torch.randn(24, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def network(place):
    return nn.Sequential(place(nn.Linear(6, 5), "relu"), nn.Dropout(), nn.Linear(5, 2))


def accuracy(step):
    first, bias, second, other = step.weights.values()
    outputs = np.maximum(INPUTS.numpy() @ first.T + bias, 0) @ second.T + other
    return np.mean(outputs.argmax(1) == (INPUTS.mean(1) > 0).numpy())


def test_scores_after_a_step():
    """The validation score is there where samples are held out for it."""
    [trace], steps = trained(["curve(every=2)"], network, INPUTS, rate=1.0, hold_out=True)
    [without], _ = trained(["curve"], network, INPUTS, hold_out=False)

    expected = [accuracy(after) for after in steps[1::2]]
    assert len(set(expected)) > 1
    assert [0, 2] == trace.series["test"].step
    np.testing.assert_allclose(trace.series["test"].value, expected)
    assert trace.series["validation"] == trace.series["test"]  # the two are of the same samples here
    assert {"loss", "test"} == set(without.series)

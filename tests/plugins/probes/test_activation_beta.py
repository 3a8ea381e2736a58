"""`activation-beta` against NumPy, where the second batch norm is the scale and shift that it is at the batch."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from watched import trained

VECTORS = torch.randn(24, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
TOKENS = torch.randn(24, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
REACH = [0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4]


def placed(inputs):
    """Return a network whose places have linear and activation."""
    layout = "NC" if inputs.dim() == 2 else "NLC"
    return lambda place: nn.Sequential(
        *(place(nn.Linear(4, 4), "tanh", layout=layout) for _ in range(2)), nn.Flatten(), head(inputs)
    )


def alone(inputs):
    """Return a network whose norms stand after the activation, by themselves."""
    return lambda place: nn.Sequential(
        *(part for _ in range(2) for part in (nn.Linear(4, 4), nn.Tanh(), place.norm(4, "NC"))), head(inputs)
    )


def head(inputs):
    return nn.Linear(inputs[0].numel(), 2)


def normalized(values):
    """Return values (..., channels), normalized, and the mean and standard deviation of each channel."""
    others = tuple(range(values.ndim - 1))
    mean, std = values.mean(others), np.sqrt(values.var(others) + 1e-5)
    return (values - mean) / std, mean, std


def expected(step, norm):
    """Return the largest change of the gradient, where norms stand "before", "after" or not at all."""
    weights = iter(step.weights.values())

    def layer():
        linear = [next(weights), 0 if norm == "before" else next(weights)]
        return linear, [next(weights), next(weights)] if norm else None

    ((w, b), affine), ((v, c), later) = layer(), layer()
    x = step.inputs @ w.T + b
    if norm == "before":
        x = np.tanh(normalized(x)[0] * affine[0] + affine[1])
    else:
        x = np.tanh(x)
        x = normalized(x)[0] * affine[0] + affine[1] if norm else x
    to_outputs = next(weights).sum(0).reshape(*x.shape[1:-1], 4)
    y = x @ v.T + c
    _, mean, std = normalized(y if norm == "before" else np.tanh(y))
    scale, shift = (later[0] / std, later[1] - later[0] * mean / std) if norm == "before" else (1, 0)
    after = later[0] / std if norm == "after" else 1

    def gradient(x):
        slope = 1 - np.tanh(scale * (x @ v.T + c) + shift) ** 2
        return (to_outputs * after * slope * scale) @ v

    g = gradient(x)
    return max(np.linalg.norm(g - gradient(x - a * g)) / np.linalg.norm(a * g) for a in REACH)


@pytest.mark.parametrize(
    ("network", "norm", "stands"),
    [
        (placed, "none", ""),
        (placed, "batchnorm", "before"),
        (placed, "batchnorm-after", "after"),
        (alone, "none", ""),
        (alone, "batchnorm", "after"),
    ],
)
def test_a_later_batch_norm_is_held_at_the_batch(network, norm, stands):
    """A block ends where the last of linear, norm and activation does; the length is that over all samples."""
    asked = ["activation-beta(every=2)"]
    [trace], steps = trained(asked, network(VECTORS), VECTORS, norm, accumulate=2, momentum=0.9, rate=1.0)

    assert trace.series["beta"].value == pytest.approx([expected(step, stands) for step in steps[::2]], rel=1e-8)


@pytest.mark.parametrize(("norm", "stands"), [("batchnorm", "before"), ("batchnorm-after", "after")])
def test_channels_of_tokens_come_last(norm, stands):
    [trace], steps = trained(["activation-beta"], placed(TOKENS), TOKENS, norm)

    assert trace.series["beta"].value == pytest.approx([expected(steps[0], stands)], rel=1e-8)


def test_a_channel_that_is_the_same_in_all_the_batch_stays_so():
    """Nothing says how a norm would scale it."""

    def network(place):
        made = placed(VECTORS)(place)
        with torch.no_grad():
            made[1][0].weight[1] = 0
        return made

    [trace], steps = trained(["activation-beta"], network, VECTORS, "batchnorm")

    assert trace.series["beta"].value == pytest.approx([expected(steps[0], "before")], rel=1e-8)


@pytest.mark.parametrize(("norm", "site"), [("layer-norm", 1), ("weight-norm", 0)])
def test_what_has_no_moments_after_the_block_needs_none_held(norm, site):
    """That is a norm before it, and a linear whose weight is normalized."""
    [trace], _ = trained([f"activation-beta(site={site})"], placed(VECTORS), VECTORS, norm)

    assert math.isfinite(trace.series["beta"].value[0])


@pytest.mark.parametrize("norm", ["layer-norm", "dyt"])
def test_a_norm_that_is_no_scale_and_shift_is_refused(norm):
    [trace], _ = trained(["activation-beta"], placed(VECTORS), VECTORS, norm)

    assert "unsupported" == trace.ended
    assert trace.reason.startswith("the norm at site 1, ")
    assert trace.reason.endswith("by one number, so that its moments can't be held")


def test_a_site_that_is_not_there_is_refused():
    [trace], _ = trained(["activation-beta(site=2)"], placed(VECTORS), VECTORS)

    assert ("unsupported", "site is 2; the network has sites 0 to 1") == (trace.ended, trace.reason)

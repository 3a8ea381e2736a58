"""`moments` against NumPy, on a network that NumPy computes."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn
from watched import trained

IMAGES = torch.randn(24, 2, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
TOKENS = torch.randn(24, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def convolutions(place):
    return nn.Sequential(place(nn.Conv2d(2, 3, 2), "relu"), place(nn.Conv2d(3, 4, 2), "relu"), nn.Flatten(), head(36))


def tokens(place):
    layers = [place(nn.Linear(4, 3), "relu", layout="NLC"), place(nn.Linear(3, 4), "relu", layout="NLC")]
    return nn.Sequential(*layers, nn.Flatten(), head(20))


def head(features):
    return nn.Linear(features, 2)


def computed(step, norm):
    """Return the outputs of linears and the inputs of activations, channels first."""
    weights, x, found = iter(step.weights.values()), step.inputs, {"linear": [], "activation": []}
    for _ in range(2):
        weight = next(weights)
        if weight.ndim == 4:
            windows = np.lib.stride_tricks.sliding_window_view(x, weight.shape[2:], axis=(2, 3))
            y = np.einsum("ncijhw,ochw->onij", windows, weight)
        else:
            y = np.einsum("nlc,oc->onl", x, weight)
        channel = (slice(None), *[None] * (y.ndim - 1))
        if norm == "batchnorm":
            others = tuple(range(1, y.ndim))
            z = (y - y.mean(others, keepdims=True)) / np.sqrt(y.var(others, keepdims=True) + 1e-5)
            z = z * next(weights)[channel] + next(weights)[channel]
        else:
            y = z = y + next(weights)[channel]
        found["linear"].append(y)
        found["activation"].append(z)
        x = np.maximum(z, 0)
        x = np.moveaxis(x, 0, 1 if weight.ndim == 4 else -1)
    return found


def numbers(values):
    """Return what is given of values whose channels come first, and the moments of each channel."""
    channels = values.reshape(len(values), -1)
    means, variances = channels.mean(1), channels.var(1)
    percentiles = dict(zip(("p15", "p50", "p85"), np.percentile(values, [15, 50, 85]), strict=True))
    return {"mean": values.mean(), "std": values.std(), "variance": variances.mean(), **percentiles}, means, variances


@pytest.mark.parametrize("at", ["activation", "linear"])
@pytest.mark.parametrize(
    ("network", "inputs", "norm"), [(convolutions, IMAGES, "batchnorm"), (tokens, TOKENS, "none")], ids=["NCHW", "NLC"]
)
def test_moments_and_how_they_change(network, inputs, norm, at):
    """At every look, of both sites; a change needs a look before."""
    [trace], steps = trained([f'moments(every=2,at="{at}")'], network, inputs, norm, steps=6)

    looks = [[numbers(values) for values in computed(step, norm)[at]] for step in steps[::2]]
    for now, look in enumerate(looks):
        for name in look[0][0]:
            expected = [site[name] for site, _, _ in look]
            np.testing.assert_allclose(trace.series[name].value[now], expected, atol=1e-14, err_msg=name)
    for which, name in enumerate(("mean_change", "variance_change"), start=1):
        assert [2, 4] == trace.series[name].step
        changes = [
            [np.abs(after[which] - before[which]).mean() for before, after in zip(*pair, strict=True)]
            for pair in itertools.pairwise(looks)
        ]
        np.testing.assert_allclose(trace.series[name].value, changes, atol=1e-14)


@pytest.mark.parametrize("norm", ["none", "batchnorm"])
def test_what_goes_into_a_norm_that_stands_alone(norm):
    """Before it and at a network without a norm there: here the images themselves."""

    def network(place):
        return nn.Sequential(place.norm(2, "NCHW"), nn.Flatten(), head(50))

    [trace], steps = trained(['moments(every=1,at="norm")'], network, IMAGES, norm, steps=2)

    for now, step in enumerate(steps):
        expected, _, _ = numbers(np.moveaxis(step.inputs, 1, 0))
        found = {name: trace.series[name].value[now] for name in expected}
        assert {name: [pytest.approx(value, abs=1e-14)] for name, value in expected.items()} == found


def test_a_site_that_gives_nothing_has_no_value():
    """Every site has its place in a vector: one without an activation, and one that the network does not reach."""

    def network(place):
        first, second, unused = (place(nn.Linear(4, 4), act, layout="NLC") for act in (None, "tanh", "relu"))
        made = nn.Sequential(first, second, nn.Flatten(), head(20))
        made[-1].unused = unused
        return made

    [trace], _ = trained(["moments"], network, TOKENS)

    assert [[True, False, True]] == np.isnan(trace.series["p50"].value).tolist()


NONE = {
    "moments": "the network has no activation outside of the norms",
    'moments(at="linear")': "the network has no linear or convolution before a norm",
    "activity": "the network has no activation outside of the norms",
    "gradients": "the network has no linear or convolution",
}


def test_where_there_is_nothing_to_watch():
    """The trace says why there is none."""

    def network(place):
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), place.norm(2, "NC"))

    for probe, reason in NONE.items():
        [trace], _ = trained([probe], network, IMAGES, "layer-norm")
        assert ("unsupported", reason) == (trace.ended, trace.reason)

"""Norms of weights: timm's, the units of each kind of linear, gamma of the activations, and where they can't stand."""

import math

import pytest
import torch
from torch import nn

import normbench
from normbench import plugins
from normbench.contract import Site, Unsupported
from normbench_plugins.layers.weights import gamma_of

NORMS = ("weight-norm", "weight-standardization", "scaled-weight-standardization")


def wrapped(name, module, **params):
    """Return a linear or convolution, in float64, that a norm wraps."""
    return plugins.load().norms[name].thing.build(Site(6, "NCHW"), params, module.double())


def images():
    """Return normal numbers, 4 channels of 7 x 6."""
    return torch.randn(2, 4, 7, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("name", "params", "theirs", "given"),
    [
        ("weight-standardization", {}, "StdConv2d", {}),
        ("scaled-weight-standardization", {"gamma": 1.7}, "ScaledStdConv2d", {"gamma": 1.7}),
    ],
)
def test_those_of_timm(name, params, theirs, given):
    """Of a convolution with all that one may have, and gains that are not where they begin."""
    shape = {"kernel_size": 3, "stride": 2, "padding": 1, "dilation": 2, "groups": 2, "bias": True}
    oracle = getattr(pytest.importorskip("timm.layers"), theirs)(4, 6, **shape, **given).double()
    plain = nn.Conv2d(4, 6, **shape)
    plain.load_state_dict(oracle.state_dict(), strict=False)
    layer, gains = wrapped(name, plain, **params), torch.arange(6.0)
    for holder in (oracle, layer.parametrizations.weight[0]):
        if getattr(holder, "gain", None) is not None:
            holder.gain.data.copy_(gains.view_as(holder.gain))

    torch.testing.assert_close(layer(images()), oracle(images()))


def test_group_norm_behind_standardized_weights():
    """The pair that the paper means: the norm is the one, and the linear before it is wrapped."""
    conv = nn.Conv2d(4, 6, 3)
    oracle = pytest.importorskip("timm.layers").StdConv2d(4, 6, 3, padding=0, bias=True)
    oracle.load_state_dict(conv.state_dict())
    layer = normbench.layer("group-norm", channels=6, module=conv, groups=3, **{"with": "weight-standardization"})
    x = images().float()

    torch.testing.assert_close(layer(x), nn.GroupNorm(3, 6)(oracle(x)))


@pytest.mark.parametrize("transposed", [False, True])
def test_they_are_over_the_weights_of_an_output_channel(transposed):
    """Of a transposed convolution it is the second axis that counts these."""

    def rows(name, **params):
        torch.manual_seed(0)
        weight = wrapped(name, kind(4, 6, 3), **params).weight
        return (weight.transpose(0, 1) if transposed else weight).flatten(1)

    kind = nn.ConvTranspose1d if transposed else nn.Conv1d
    torch.manual_seed(0)
    plain = kind(4, 6, 3).double().weight
    standardized, scaled = rows(NORMS[1], eps=1e-12), rows(NORMS[2], eps=1e-12, gamma=2.0)

    torch.testing.assert_close(rows("weight-norm"), (plain.transpose(0, 1) if transposed else plain).flatten(1))
    torch.testing.assert_close(standardized.mean(1), torch.zeros(6).double())
    torch.testing.assert_close(standardized.square().mean(1), torch.ones(6).double())
    torch.testing.assert_close(scaled, standardized * 2 / math.sqrt(12))


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("weight-norm", {"original0": (6, 1, 1, 1), "original1": (6, 4, 3, 3)}),
        ("weight-standardization", {"original": (6, 4, 3, 3)}),
        ("scaled-weight-standardization", {"original": (6, 4, 3, 3), "gain": (6,)}),
    ],
)
def test_a_gain_has_one_axis_so_that_it_is_not_decayed_and_a_length_has_as_many_as_the_weight(name, own):
    """By the rule of "norms-and-biases"; the bias stays."""
    named = wrapped(name, nn.Conv2d(4, 6, 3)).named_parameters()

    assert {"bias": (6,), **own} == {name.rpartition(".")[2]: tuple(value.shape) for name, value in named}


@pytest.mark.parametrize(
    ("activation", "gamma", "within"),
    [
        (None, 1.0, 1e-7),
        ("relu", math.sqrt(2 / (1 - 1 / math.pi)), 1e-7),
        ("selu", 1.0, 1e-7),
        # The authors' constants, which timm has too: estimated from random numbers.
        ("gelu", 1.7015043497085571, 2e-3),
        ("silu", 1.7881293296813965, 2e-3),
        ("tanh", 1.5939117670059204, 2e-3),
    ],
)
def test_gamma_gives_an_activation_of_normal_numbers_variance_1(activation, gamma, within):
    """It is that of the site's activation, where it is not given."""
    torch.manual_seed(0)
    layer = normbench.layer(NORMS[2], channels=6, activation=activation, module=nn.Conv2d(4, 6, 3))
    torch.manual_seed(0)
    given = normbench.layer(NORMS[2], channels=6, gamma=gamma_of(activation), module=nn.Conv2d(4, 6, 3))

    assert gamma == pytest.approx(gamma_of(activation), rel=within)
    assert torch.equal(given.weight, layer.weight)


@pytest.mark.parametrize(
    ("names", "module", "reason"),
    [
        (NORMS, nn.ConvTranspose2d(4, 6, 3, groups=2), "transposed convolution in groups has no axis of its output"),
        (NORMS[1:], nn.Conv2d(6, 6, 1, groups=6), "an output unit has one weight"),
        (NORMS[:1], nn.Linear(4, 6), "weights that are all 0"),
    ],
)
def test_where_they_can_not_stand(names, module, reason):
    """A weight alone has no deviation, and weights of 0 have no direction."""
    with torch.no_grad():
        module.weight[0] = 0
    for name in names:
        with pytest.raises(Unsupported, match=reason):
            wrapped(name, module)

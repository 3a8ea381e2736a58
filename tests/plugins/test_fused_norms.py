"""Norms with an activation in them: FRN with TLU and the EvoNorms, against timm, and where they can't stand."""

import pytest
import torch

import normbench
from normbench import plugins
from normbench.contract import Site


def draw(*shape):
    """Return normal numbers far from 0."""
    return 3 * torch.randn(shape, generator=torch.Generator().manual_seed(0)) + 1


def built(name, site, **params):
    """Return the layer of a norm at a site."""
    return plugins.load().norms[name].thing.build(site, params)


@pytest.mark.parametrize("activation", ["relu", None])
@pytest.mark.parametrize(
    ("name", "params", "theirs", "own"),
    [
        ("frn-tlu", {"eps": 1e-5}, "FilterResponseNormTlu2d", {}),
        ("evonorm-b0", {"eps": 1e-3}, "EvoNorm2dB0", {}),
        ("evonorm-s0", {"groups": 4}, "EvoNorm2dS0", {"groups": 4}),
    ],
)
def test_they_compute_as_timm_does(name, params, theirs, own, activation):
    """Output and gradient, with an activation and without, and with parameters that are not where they begin."""
    ours = built(name, Site(8, "NCHW", activation, spatial=(4, 3)), **params)
    oracle = getattr(pytest.importorskip("timm.layers"), theirs)(8, apply_act=activation is not None, **own)
    values = dict(zip(("weight", "bias", "tau", "v"), draw(4, 8), strict=True))
    for layer in (ours, oracle):
        layer.load_state_dict(values, strict=False)
    one, two = (draw(5, 8, 4, 3).requires_grad_() for _ in range(2))
    gradient = draw(5, 8, 4, 3).flip(0)

    outputs = ours(one), oracle(two)
    torch.autograd.backward(outputs, [gradient, gradient])

    torch.testing.assert_close(*outputs)
    torch.testing.assert_close(one.grad, two.grad)


def test_evonorm_b0_averages_the_biased_variance():
    """As the authors' code does; timm averages the unbiased one. Evaluation uses it."""
    layer = built("evonorm-b0", Site(8, "NCHW", "relu"), momentum=0.3)
    x = draw(5, 8, 4, 3)

    layer(x)

    torch.testing.assert_close(layer.running_var, 0.7 + 0.3 * x.var((0, 2, 3), correction=0))


@pytest.mark.parametrize(("layout", "shape"), [("NC", (3, 4)), ("NCHW", (3, 4, 1, 1))])
def test_eps_is_learned_where_a_channel_has_one_value(layout, shape):
    """Unless the site doesn't say so: then the layer refuses such an input."""
    x = draw(*shape)
    learned = built("frn-tlu", Site(4, layout, "relu", spatial=shape[2:]))

    learned(x).sum().backward()

    assert 1e-4 == pytest.approx(learned.learned_eps.item())
    assert learned.learned_eps.grad.abs() > 0
    torch.testing.assert_close(learned(x), torch.relu(x / (x.square() + 1e-6 + learned.learned_eps).sqrt()))
    if layout == "NCHW":
        with pytest.raises(ValueError, match=r"^[^\n]+\(3, 4, 1, 1\)$"):
            built("frn-tlu", Site(4, layout, "relu"))(x)


@pytest.mark.parametrize(
    ("name", "site"),
    [
        ("frn-tlu", Site(8, "NCHW", "silu")),
        ("evonorm-b0", Site(8, "NCHW", "tanh")),
        ("evonorm-s0", Site(8, "NCHW", "gelu")),
        ("evonorm-b0", Site(8, "NCHW", "relu", spatial=(1, 1))),
        ("evonorm-s0", Site(8, "NC", "relu")),
        ("evonorm-s0", Site(8, "NCL", None, spatial=(1,))),
    ],
    ids=str,
)
def test_where_it_can_not_stand_it_says_why(name, site):
    """In one line, as the layer is built."""
    with pytest.raises(normbench.Unsupported, match=r"^[^\n]+$"):
        built(name, site)

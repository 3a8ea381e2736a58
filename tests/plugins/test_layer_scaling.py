"""Layer scaling alone against its definition, in float64 and in every layout."""

import pytest
import torch

import normbench
from normbench import plugins
from normbench_plugins.layers.layer_scaling import LayerScaling

SHAPES = {"NC": (6, 4), "NCL": (6, 4, 5), "NCHW": (6, 4, 5, 3), "NLC": (6, 5, 4)}


def draw(layout, seed=0):
    return torch.randn(SHAPES[layout], dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def build(layout, **params):
    """Return the layer in float64, with gamma and beta drawn."""
    layer = normbench.layer("layer-scaling", channels=4, layout=layout, **params).double()
    for seed, parameter in enumerate(layer.parameters()):
        torch.nn.init.uniform_(parameter, 0.5, 1.5, generator=torch.Generator().manual_seed(seed))
    return layer


@pytest.mark.parametrize("layout", SHAPES)
def test_layer_scaling(layout):
    """Each sample of gamma x + beta is divided by its root mean square over all features, eps inside the root."""
    layer, x = build(layout, eps=1e-3), draw(layout)

    found = layer(x)

    axis = layout.index("C")
    samples = x.movedim(axis, -1) * layer.weight + layer.bias
    expected = [sample / (sample.square().sum() / sample.numel() + 1e-3).sqrt() for sample in samples]
    torch.testing.assert_close(found, torch.stack(expected).movedim(-1, axis), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("layout", SHAPES)
def test_the_gradient_is_the_derivative(layout, affine):
    """Gradients of the input, gamma and beta are those of finite differences."""
    layer, x = build(layout, affine=affine), draw(layout).requires_grad_()
    parameters = {name: parameter.detach().requires_grad_() for name, parameter in layer.named_parameters()}

    def outputs(x, *values):
        return torch.func.functional_call(layer, dict(zip(parameters, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(outputs, (x, *parameters.values()))


@pytest.mark.parametrize(("affine", "expected"), [(True, {"weight": [1.0] * 4, "bias": [0.0] * 4}), (False, {})])
def test_gamma_and_beta_are_one_a_channel_where_there_are_any(affine, expected):
    """With `affine` there are gamma and beta, which start at 1 and 0; there is never a state."""
    layer = normbench.layer("layer-scaling", channels=4, affine=affine)

    assert expected == {name: parameter.tolist() for name, parameter in layer.named_parameters()}
    assert [] == list(layer.buffers())


def test_half_precision():
    """The mean square of inputs in half precision is float32's, in which it doesn't overflow."""
    x = torch.full((2, 4), 3e4, dtype=torch.float16)

    found = normbench.layer("layer-scaling", channels=4, layout="NC")(x)

    assert torch.equal(torch.ones(2, 4, dtype=torch.float16), found)


def test_channels_last_stays():
    """An input with channels last in memory gives an output with channels last in memory."""
    x = draw("NCHW").contiguous(memory_format=torch.channels_last)

    assert build("NCHW")(x).is_contiguous(memory_format=torch.channels_last)


def test_mistakes_are_refused():
    """An eps that is not above 0 and an input of another shape raise, and say what is allowed."""
    with pytest.raises(ValueError, match=r"^eps is 0\.0; it is above 0$"):
        LayerScaling(4, eps=0.0)
    with pytest.raises(ValueError, match="it is NCHW with C = 4"):
        LayerScaling(4)(torch.zeros(2, 4))


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("layout", SHAPES)
def test_traits_are_true(layout, affine):
    """It depends on nothing but the sample, doesn't centre, and forgets a scale only without beta."""
    traits = plugins.load().norm("layer-scaling").traits_with({"affine": affine})
    layer, x = build(layout, affine=affine, eps=1e-12), draw(layout)

    def same(found, expected):
        return torch.allclose(found, expected, rtol=1e-6, atol=1e-6)

    assert traits.batch_dependent != same(layer(x[:1]), layer(x)[:1])
    assert traits.centres == same(layer(x + 3), layer(x))
    assert traits.scale_invariant == same(layer(5 * x), layer(x))
    assert traits.eval_differs != same(layer(x), build(layout, affine=affine, eps=1e-12).eval()(x))

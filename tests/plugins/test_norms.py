"""The built-in norms against their definitions, in float64 and in every layout."""

import copy

import pytest
import torch

import normbench

FOR_IMAGES = ["batchnorm", "batch-renorm", "layer-norm", "layer-scaling", "online-norm", "sync-batchnorm"]
SHAPES = {"NC": (6, 4), "NCL": (6, 4, 5), "NCHW": (6, 4, 5, 3), "NLC": (6, 5, 4)}


def sample(layout, offset=0.0):
    generator = torch.Generator().manual_seed(3)
    return offset + torch.randn(SHAPES[layout], dtype=torch.float64, generator=generator)


def channels_first(x, layout):
    return x.movedim(-1, 1) if layout == "NLC" else x


def per_channel(values, like):
    return values.view(1, -1, *[1] * (like.dim() - 2))


def batch_statistics(x, layout):
    """Return x with channels second, and each channel's mean and biased variance, from the definition."""
    x = channels_first(x, layout)
    values = x.movedim(1, 0).flatten(1)
    mean = values.sum(1) / values.shape[1]
    return x, mean, ((values - mean[:, None]) ** 2).sum(1) / values.shape[1]


@pytest.mark.parametrize("offset", [0.0, 1e3])
@pytest.mark.parametrize("layout", SHAPES)
@pytest.mark.parametrize("name", ["batchnorm", "batchnorm-no-affine", "batchnorm-after"])
def test_batch_norm_in_training(name, layout, offset):
    """Training normalizes each channel by the batch's mean and biased variance, eps inside the root."""
    layer = normbench.layer(name, channels=4, layout=layout, eps=1e-3).double()
    x = sample(layout, offset)

    found = channels_first(layer(x), layout)

    first, mean, var = batch_statistics(x, layout)
    expected = (first - per_channel(mean, first)) / per_channel((var + 1e-3).sqrt(), first)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("layout", SHAPES)
def test_batch_norm_in_evaluation(layout):
    """Evaluation uses running averages of the mean and the unbiased variance, where momentum weighs the new batch."""
    layer = normbench.layer("batchnorm", channels=4, layout=layout, momentum=0.3).double()
    x = sample(layout)
    layer(x)
    layer.eval()

    found = channels_first(layer(x), layout)

    first, mean, var = batch_statistics(x, layout)
    count = first.numel() // 4
    running_mean, running_var = 0.3 * mean, 0.7 + 0.3 * var * count / (count - 1)
    expected = (first - per_channel(running_mean, first)) / per_channel((running_var + 1e-5).sqrt(), first)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("layout", SHAPES)
def test_batch_norms_gradient(layout):
    """The input gradient is gamma r (g - mean(g) - x_hat mean(g x_hat)): Ioffe & Szegedy 2015, worked out."""
    layer = normbench.layer("batchnorm", channels=4, layout=layout).double()
    for name, parameter in layer.named_parameters():
        torch.nn.init.uniform_(parameter, 0.5, 1.5, generator=torch.Generator().manual_seed(len(name)))
    gamma = next(parameter for name, parameter in layer.named_parameters() if name.endswith("weight"))
    x = sample(layout).requires_grad_()
    gradient = torch.randn(x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(9))

    layer(x).backward(gradient)

    first, mean, var = batch_statistics(x.detach(), layout)
    g = channels_first(gradient, layout)
    over = [axis for axis in range(first.dim()) if axis != 1]
    r = per_channel((var + 1e-5).rsqrt(), first)
    hat = (first - per_channel(mean, first)) * r
    expected = per_channel(gamma.detach(), first) * r
    expected = expected * (g - g.mean(over, keepdim=True) - hat * (g * hat).mean(over, keepdim=True))
    torch.testing.assert_close(channels_first(x.grad, layout), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "params", "expected"),
    [
        ("batchnorm", {}, 8),
        ("batchnorm-no-affine", {}, 0),
        ("batchnorm-after", {}, 8),
        ("batchnorm-after", {"affine": False}, 0),
        ("layer-norm", {}, 8),
        ("none", {}, 0),
    ],
)
def test_gamma_and_beta_are_one_a_channel_where_there_are_any(name, params, expected):
    """With gamma and beta a layer has two parameters a channel, without none."""
    layer = normbench.layer(name, channels=4, layout="NCHW", **params)

    assert expected == sum(parameter.numel() for parameter in layer.parameters())


@pytest.mark.parametrize("layout", SHAPES)
def test_layer_norm(layout):
    """One sample is normalized over channels and space together; for tokens, each token over its channels."""
    layer = normbench.layer("layer-norm", channels=4, layout=layout, eps=1e-3).double()
    x = sample(layout, offset=10.0)

    found = layer(x)

    over = (-1,) if layout == "NLC" else tuple(range(1, x.dim()))
    mean, var = x.mean(over, keepdim=True), x.var(over, unbiased=False, keepdim=True)
    torch.testing.assert_close(found, (x - mean) / (var + 1e-3).sqrt(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("layout", SHAPES)
@pytest.mark.parametrize("name", ["batchnorm", "batchnorm-no-affine", "batchnorm-after", "layer-norm", "none"])
def test_traits_are_true(name, layout):
    """What a built-in norm claims of centring, scale and dependence on the batch is what it does."""
    from normbench import plugins

    traits = plugins.load().norm(name).traits_with({})
    layer = normbench.layer(name, channels=4, layout=layout, eps=1e-12) if name != "none" else torch.nn.Identity()
    layer, x = layer.double(), sample(layout)
    shift = torch.zeros_like(x)
    channels_first(shift, layout)[:, 1] = 3.0
    other = x.clone()
    other[1:] *= 2

    def same(changed):
        return torch.allclose(layer(x), layer(changed), rtol=1e-6, atol=1e-6)

    assert traits.centres == same(x + shift)
    assert traits.scale_invariant == same(5 * x)
    assert traits.batch_dependent != torch.allclose(layer(x)[0], layer(other)[0], rtol=1e-6, atol=1e-6)
    trained = layer(x)
    assert traits.eval_differs != torch.allclose(trained, layer.eval()(x), rtol=1e-6, atol=1e-6)
    assert set(traits.state) == {buffer.rpartition(".")[2] for buffer, _ in layer.named_buffers()}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("offset", [0.0, 30.0])
@pytest.mark.parametrize("name", FOR_IMAGES)
def test_no_memory_format_changes_a_result_by_more_than_rounding(name, offset, training):
    """In float32, far from zero too, an image norm gives what it gives in float64, however the input lies in memory."""
    layer = normbench.layer(name, channels=16, layout="NCHW").train(training)
    generator = torch.Generator().manual_seed(3)
    x = offset + 0.1 * torch.randn(8, 16, 24, 24, dtype=torch.float64, generator=generator)
    expected = copy.deepcopy(layer).double()(x)

    for memory_format in (torch.contiguous_format, torch.channels_last):
        found = copy.deepcopy(layer)(x.float().contiguous(memory_format=memory_format))
        torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("layout", SHAPES)
@pytest.mark.parametrize("name", FOR_IMAGES)
def test_a_batch_without_a_sample_changes_nothing(name, layout, training):
    """As of torch's batch norm, the output is as empty as the input, no state moves, and gamma's gradient is 0."""
    layer = normbench.layer(name, channels=4, layout=layout).train(training)
    empty = torch.zeros(0, *SHAPES[layout][1:], requires_grad=True)
    before = {key: value.clone() for key, value in layer.named_buffers() if "num_batches" not in key}

    found = layer(empty)
    found.sum().backward()

    assert empty.shape == found.shape == empty.grad.shape
    for key, value in before.items():
        assert torch.equal(value, layer.get_buffer(key))
    assert all(not parameter.grad.any() for parameter in layer.parameters() if parameter.grad is not None)

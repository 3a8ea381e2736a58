"""What no check knows of batch renorm: its own gradient, where its statistics move, its limits and their schedule."""

import copy
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call, stack_module_state, vmap

import normbench
from normbench_plugins.layers.batch_renorm import BatchRenorm

SHAPES = {"NC": (6, 4), "NCL": (6, 4, 5), "NCHW": (6, 4, 5, 3), "NLC": (6, 5, 4)}
# Scale and offset of the batches of a training: some corrections are clipped, some are not.
BATCHES = ((1.0, 0.0), (4.0, -3.0), (0.3, 2.0), (2.0, 8.0))
LIMITS = [(1.0, 0.0), (1.5, 0.5), (3.0, 5.0), (1024.0, 1024.0)]


class Definition:
    """The backward of Ioffe 2017, algorithm 1, for values (m, C), where r and d are constants."""

    def __init__(self, r_max, momentum, eps):
        self.r_max, self.momentum, self.eps = r_max, momentum, eps
        self.mean, self.std = np.zeros(4), np.ones(4)

    def step(self, x, gradient, gamma):
        """Return the gradient of x, and move the statistics."""
        mean = x.mean(0)
        std = np.sqrt(((x - mean) ** 2).mean(0) + self.eps)
        r = np.clip(std / self.std, 1 / self.r_max, self.r_max)
        hat = (x - mean) / std
        inner = gradient - gradient.mean(0) - hat * (gradient * hat).mean(0)
        self.mean = self.mean + self.momentum * (mean - self.mean)
        self.std = self.std + self.momentum * (std - self.std)
        return gamma * r / std * inner


def build(layout="NCHW", **params):
    """Return the layer in float64 with gamma and beta drawn, and the module of it that has the state."""
    layer = normbench.layer("batch-renorm", channels=4, layout=layout, **params).double()
    renorm = next(module for module in layer.modules() if isinstance(module, BatchRenorm))
    generator = torch.Generator().manual_seed(5)
    for parameter in renorm.parameters():
        nn.init.uniform_(parameter, 0.5, 1.5, generator=generator)
    return layer, renorm


def draw(seed, layout="NCHW", scale=1.0, offset=0.0):
    generator = torch.Generator().manual_seed(seed)
    return offset + scale * torch.randn(SHAPES[layout], dtype=torch.float64, generator=generator)


def training(layout="NCHW"):
    """Yield the batches of a short training, each with the gradient of its outputs."""
    for i, (scale, offset) in enumerate(BATCHES):
        yield draw(i, layout, scale, offset), draw(100 + i, layout)


def rows(x, layout="NCHW"):
    """Return values (m, C) as NumPy."""
    return (x if layout == "NLC" else x.movedim(1, -1)).reshape(-1, 4).detach().double().numpy()


def assert_close(expected, actual, tolerance=1e-10):
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize(("r_max", "d_max"), LIMITS)
@pytest.mark.parametrize("layout", ["NCHW", "NLC"])
def test_gradients_and_statistics_are_the_definitions(layout, r_max, d_max, affine):
    """Batch after batch; no gradient flows through r and d."""
    layer, renorm = build(layout, r_max=r_max, d_max=d_max, momentum=0.25, eps=1e-3, affine=affine)
    definition = Definition(r_max, 0.25, 1e-3)
    gamma = renorm.weight.detach().numpy() if affine else np.ones(4)

    for x, gradient in training(layout):
        layer(x.requires_grad_()).backward(gradient)

        assert_close(definition.step(rows(x, layout), rows(gradient, layout), gamma), rows(x.grad, layout))
        assert_close(definition.mean, renorm.running_mean.numpy())
        assert_close(definition.std, renorm.running_std.numpy())


@pytest.mark.parametrize(("r_max", "d_max"), LIMITS)
def test_training_is_kerass(monkeypatch, r_max, d_max):
    """Keras 3, which computes in float32 here whatever its dtype, gives the same outputs, gradients and statistics."""
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    monkeypatch.setenv("KERAS_TORCH_DEVICE", "cpu")
    keras = pytest.importorskip("keras", minversion="3.14", reason="Keras has batch renorm since 3.14")
    if keras.backend.backend() != "torch":
        pytest.skip("Keras runs on another backend")
    layer, renorm = build(r_max=r_max, d_max=d_max, momentum=0.25, eps=1e-3)
    clips = {"rmax": r_max, "rmin": 1 / r_max, "dmax": d_max}
    other = keras.layers.BatchNormalization(
        axis=1, epsilon=1e-3, renorm=True, renorm_clipping=clips, renorm_momentum=0.75
    )
    other.build((None, *SHAPES["NCHW"][1:]))
    other.gamma.assign(renorm.weight.detach())
    other.beta.assign(renorm.bias.detach())

    for x, gradient in training():
        renorm.zero_grad()
        other.zero_grad()
        theirs = x.float().requires_grad_()
        found, expected = layer(x.requires_grad_()), other(theirs, training=True)
        found.backward(gradient)
        expected.backward(gradient.float())

        assert_close(rows(expected), rows(found), 2e-5)
        assert_close(rows(theirs.grad), rows(x.grad), 2e-5)
        assert_close(other.gamma.value.grad.numpy(), renorm.weight.grad.numpy(), 2e-5)
        assert_close(other.beta.value.grad.numpy(), renorm.bias.grad.numpy(), 2e-5)
        assert_close(other.renorm_mean.numpy(), renorm.running_mean.numpy(), 2e-5)
        assert_close(other.renorm_stddev.numpy(), renorm.running_std.numpy(), 2e-5)


def test_closed_clips_are_batch_norm():
    """At r_max = 1 and d_max = 0 the output and the gradients are those of torch's batch norm, bit for bit."""
    layer, _ = build(r_max=1.0, d_max=0.0)
    batch_norm = normbench.layer("batchnorm", channels=4, layout="NCHW").double()
    batch_norm.load_state_dict(dict(layer.named_parameters()), strict=False)

    for x, gradient in training():
        mine, its = x.clone().requires_grad_(), x.clone().requires_grad_()
        layer.zero_grad()
        batch_norm.zero_grad()
        found, expected = layer(mine), batch_norm(its)
        found.backward(gradient)
        expected.backward(gradient)

        assert torch.equal(expected, found)
        assert torch.equal(its.grad, mine.grad)
        for wanted, parameter in zip(batch_norm.parameters(), layer.parameters(), strict=True):
            assert torch.equal(wanted.grad, parameter.grad)


def test_open_clips_train_on_what_evaluation_computes():
    """Where nothing is clipped, training gives the output of evaluation before the update."""
    layer, _ = build(r_max=1024.0, d_max=1024.0)
    x = draw(0, scale=3.0, offset=2.0)
    expected = copy.deepcopy(layer).eval()(x)

    found = layer(x)

    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_a_layer_outside_a_run_has_its_full_limits():
    """Before any on_step the limits are r_max and d_max, the running mean 0 and the running standard deviation 1."""
    _, renorm = build(r_max=2.0, d_max=0.5)

    state = {name: buffer.unique().tolist() for name, buffer in renorm.named_buffers()}

    assert {"running_mean": [0.0], "running_std": [1.0], "r_limit": [2.0], "d_limit": [0.5]} == state


@pytest.mark.parametrize(
    ("params", "step", "expected"),
    [
        ({}, 0, (1.0, 0.0)),
        ({}, 2, (1.0, 0.0)),
        ({}, 6, (1 + 2 * 2 / 7, 2.5)),
        ({}, 10, (1 + 2 * 4 / 7, 5.0)),
        ({}, 15, (1 + 2 * 13 / 14, 5.0)),
        ({"r_max": 1.0, "d_max": 0.0}, 15, (1.0, 0.0)),
        ({"warmup": 0.5, "r_ramp": 0.5, "d_ramp": 0.5}, 7, (1.0, 0.0)),
        ({"warmup": 0.5, "r_ramp": 0.5, "d_ramp": 0.5}, 8, (3.0, 5.0)),
        ({"warmup": 0.0, "r_ramp": 0.0, "d_ramp": 0.0}, 0, (3.0, 5.0)),
        ({"warmup": 1.0, "r_ramp": 1.0, "d_ramp": 1.0}, 15, (1.0, 0.0)),
    ],
)
def test_the_schedule(params, step, expected):
    """The limits are 1 and 0 until warmup, then grow linearly to r_max at r_ramp and to d_max at d_ramp, in place."""
    _, renorm = build(**params)
    places = renorm.r_limit.data_ptr(), renorm.d_limit.data_ptr()

    renorm.on_step(step, 16)

    assert pytest.approx(expected) == (renorm.r_limit.item(), renorm.d_limit.item())
    assert places == (renorm.r_limit.data_ptr(), renorm.d_limit.data_ptr())


def test_the_schedule_clips():
    """What on_step sets is what the next training step is clipped by."""
    layer, renorm = build(r_max=3.0, d_max=5.0, warmup=0.0, r_ramp=1.0, d_ramp=1.0)
    fixed, _ = build(r_max=2.0, d_max=2.5)
    x = draw(0, scale=9.0, offset=30.0)

    renorm.on_step(8, 16)

    assert torch.equal(fixed(x), layer(x))


@pytest.mark.parametrize(
    ("params", "rule"),
    [
        ({"r_ramp": 0.1}, r"r_ramp is 0\.1; it is a share of the run, from warmup \(0\.125\) to 1"),
        ({"d_ramp": 0.1}, r"d_ramp is 0\.1; it is a share of the run, from warmup \(0\.125\) to 1"),
    ],
)
def test_a_ramp_that_ends_before_the_warmup_is_refused(params, rule):
    """The message has the parameter, its value and the rule."""
    with pytest.raises(ValueError, match=rule):
        build(**params)


def test_lanes_are_computed_at_once():
    """Under vmap nothing falls back to one lane after another."""
    layers, x = [build()[0] for _ in range(2)], draw(0)

    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="There is a performance drop")
        vmap(lambda *state: functional_call(layers[0], state, (x,)))(*stack_module_state(layers))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_gpu_computes_the_same_and_is_never_waited_for():
    """Steps on a GPU agree with those on the CPU, and none of them synchronizes."""
    layer, renorm = build()
    twin = copy.deepcopy(layer).cuda()
    given = [(x, x.cuda().requires_grad_(), gradient, gradient.cuda()) for x, gradient in training()]
    torch.cuda.synchronize()

    for step, (x, there, gradient, gradient_there) in enumerate(given):
        layer.on_step(4 * step, 16)
        expected = layer(x.requires_grad_())
        expected.backward(gradient)
        torch.cuda.set_sync_debug_mode("error")
        try:
            twin.on_step(4 * step, 16)
            found = twin(there)
            found.backward(gradient_there)
        finally:
            torch.cuda.set_sync_debug_mode("default")

        torch.testing.assert_close(found.cpu(), expected, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(there.grad.cpu(), x.grad, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(twin.running_std.cpu(), renorm.running_std, rtol=1e-10, atol=1e-10)

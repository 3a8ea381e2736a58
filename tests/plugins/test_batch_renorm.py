"""Batch renorm against its definition in float64 NumPy, against Keras 3, and, with closed clips, against batch norm."""

import copy
import inspect
import shutil
import warnings
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call, stack_module_state, vmap

import normbench
from normbench import plugins
from normbench.contract import function
from normbench_plugins.layers.batch_renorm import BatchRenorm

SHAPES = {"NC": (6, 4), "NCL": (6, 4, 5), "NCHW": (6, 4, 5, 3), "NLC": (6, 5, 4)}
# Scale and offset of the batches of a training: some corrections are clipped, some are not.
BATCHES = ((1.0, 0.0), (4.0, -3.0), (0.3, 2.0), (2.0, 8.0))
NEEDS_COMPILER = pytest.mark.skipif(
    not shutil.which("c++") or find_spec("setuptools") is None,
    reason="needs a C++ compiler, and setuptools, by which older torch finds it",
)
LIMITS = [(1.0, 0.0), (1.5, 0.5), (3.0, 5.0), (1024.0, 1024.0)]


class Definition:
    """Ioffe 2017, algorithm 1, for values (m, C), with the gradient worked out where r and d are constants."""

    def __init__(self, r_max, d_max, momentum, eps):
        self.r_max, self.d_max, self.momentum, self.eps = r_max, d_max, momentum, eps
        self.mean, self.std = np.zeros(4), np.ones(4)

    def step(self, x, gradient, gamma, beta):
        """Return the output and the gradients of x, gamma and beta, and move the statistics."""
        mean = x.mean(0)
        std = np.sqrt(((x - mean) ** 2).mean(0) + self.eps)
        r = np.clip(std / self.std, 1 / self.r_max, self.r_max)
        d = np.clip((mean - self.mean) / self.std, -self.d_max, self.d_max)
        hat = (x - mean) / std
        renormalized = hat * r + d
        inner = gradient - gradient.mean(0) - hat * (gradient * hat).mean(0)
        self.mean = self.mean + self.momentum * (mean - self.mean)
        self.std = self.std + self.momentum * (std - self.std)
        return (
            gamma * renormalized + beta,
            gamma * r / std * inner,
            (gradient * renormalized).sum(0),
            gradient.sum(0),
        )


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
@pytest.mark.parametrize("layout", SHAPES)
def test_training_is_the_definition(layout, r_max, d_max, affine):
    """Outputs, all gradients and the running statistics are the definition's, batch after batch."""
    layer, renorm = build(layout, r_max=r_max, d_max=d_max, momentum=0.25, eps=1e-3, affine=affine)
    definition = Definition(r_max, d_max, 0.25, 1e-3)
    gamma, beta = (p.detach().numpy() for p in renorm.parameters()) if affine else (np.ones(4), np.zeros(4))

    for x, gradient in training(layout):
        renorm.zero_grad()
        found = layer(x.requires_grad_())
        found.backward(gradient)

        expected = definition.step(rows(x, layout), rows(gradient, layout), gamma, beta)
        assert_close(expected[0], rows(found, layout))
        assert_close(expected[1], rows(x.grad, layout))
        for wanted, parameter in zip(expected[2:] if affine else (), renorm.parameters(), strict=True):
            assert_close(wanted, parameter.grad.numpy())
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


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("layout", SHAPES)
def test_evaluation_uses_the_running_statistics(layout, affine):
    """Evaluation gives gamma (x - mu) / sigma + beta, eps no second time, and leaves the state."""
    layer, renorm = build(layout, momentum=0.25, eps=0.5, affine=affine)
    for x, _ in training(layout):
        layer(x)
    state, x = copy.deepcopy(renorm.state_dict()), draw(9, layout)

    found = layer.eval()(x)

    gamma, beta = (p.detach().numpy() for p in renorm.parameters()) if affine else (1.0, 0.0)
    expected = gamma * (rows(x, layout) - state["running_mean"].numpy()) / state["running_std"].numpy() + beta
    assert_close(expected, rows(found, layout))
    assert all(torch.equal(state[name], value) for name, value in renorm.state_dict().items())


@pytest.mark.parametrize("layout", SHAPES)
def test_closed_clips_are_batch_norm(layout):
    """At r_max = 1 and d_max = 0 the output and the gradients are those of torch's batch norm, bit for bit."""
    layer, _ = build(layout, r_max=1.0, d_max=0.0)
    batch_norm = normbench.layer("batchnorm", channels=4, layout=layout).double()
    batch_norm.load_state_dict(dict(layer.named_parameters()), strict=False)

    for x, gradient in training(layout):
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
        ({"r_max": 0.5}, r"r_max is 0\.5; it is 1 or more"),
        ({"d_max": -1.0}, r"d_max is -1\.0; it is 0 or more"),
        ({"momentum": 0.0}, r"momentum is 0\.0; it is above 0"),
        ({"momentum": 1.5}, r"momentum is 1\.5; it is above 0"),
        ({"eps": 0.0}, r"eps is 0\.0; it is above 0"),
        ({"warmup": -0.1}, r"warmup is -0\.1; it is a share of the run"),
        ({"warmup": 1.5}, r"warmup is 1\.5; it is a share of the run"),
        ({"r_ramp": 1.5}, r"r_ramp is 1\.5; it is a share of the run, from warmup \(0\.125\) to 1"),
        ({"r_ramp": 0.1}, r"r_ramp is 0\.1; it is a share of the run, from warmup \(0\.125\) to 1"),
        ({"d_ramp": 0.1}, r"d_ramp is 0\.1; it is a share of the run, from warmup \(0\.125\) to 1"),
    ],
)
def test_a_value_out_of_range_is_refused(params, rule):
    """The message has the parameter, its value and the rule."""
    with pytest.raises(ValueError, match=rule):
        build(**params)


def test_one_value_a_channel_is_refused():
    """In training such a batch is refused as torch refuses it, and leaves the state; evaluation takes it."""
    layer, renorm = build()
    x = draw(0)[:1, :, :1, :1]
    before = copy.deepcopy(renorm.state_dict())

    with pytest.raises(ValueError, match="Expected more than 1 value per channel when training"):
        layer(x)

    assert all(torch.equal(before[name], value) for name, value in renorm.state_dict().items())
    assert x.shape == layer.eval()(x).shape


def test_a_mean_far_from_zero():
    """In float32, at a mean of a thousand standard deviations, the error is that of the input's last digits."""
    layer, renorm = build(r_max=1024.0, d_max=1024.0)
    layer.float()
    definition = Definition(1024.0, 1024.0, 0.01, 1e-5)
    x = draw(0, offset=1e3).float()

    found = layer(x)

    gamma, beta = (p.detach().double().numpy() for p in renorm.parameters())
    expected, *_ = definition.step(rows(x), np.zeros_like(rows(x)), gamma, beta)
    np.testing.assert_allclose(rows(found), expected, rtol=1e-6, atol=1e-3)
    np.testing.assert_allclose(renorm.running_std.numpy(), definition.std, rtol=1e-6)


def test_a_step_under_no_grad_moves_the_state():
    """Training mode moves the statistics whether or not gradients are asked for."""
    layer, renorm = build()
    other, expected = build()
    x = draw(0, offset=1.0)

    with torch.no_grad():
        layer(x)
    other(x)

    assert torch.equal(expected.running_mean, renorm.running_mean)
    assert torch.equal(expected.running_std, renorm.running_std)
    assert renorm.running_mean.abs().min() > 0


def test_a_loaded_state_goes_on_with_the_same_step():
    """In the middle of a training the state has all that the next step depends on."""
    layer, renorm = build()
    renorm.on_step(7, 16)
    layer(draw(0, offset=2.0))
    loaded, _ = build()

    loaded.load_state_dict(layer.state_dict())

    x = draw(1, scale=4.0)
    assert torch.equal(layer(x), loaded(x))


def test_a_deep_copy_has_a_state_of_its_own():
    """Training a copy leaves what it was copied from."""
    layer, renorm = build()
    before = copy.deepcopy(renorm.state_dict())
    twin = copy.deepcopy(layer)

    twin.on_step(0, 16)
    twin(draw(0))

    assert all(torch.equal(before[name], value) for name, value in renorm.state_dict().items())


def test_mixed_precision_keeps_the_statistics_in_float32():
    """Under autocast a bfloat16 input gives a bfloat16 output and gradient, from statistics computed in float32."""
    layer, renorm = build(momentum=1.0)
    layer.float()
    x = draw(0, offset=100.0).bfloat16().requires_grad_()

    with torch.autocast("cpu", torch.bfloat16):
        found = layer(x)
    found.sum().backward()

    mean = rows(x).mean(0)
    assert (torch.bfloat16, torch.bfloat16) == (found.dtype, x.grad.dtype)
    np.testing.assert_allclose(renorm.running_mean.numpy(), mean, rtol=1e-6)


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_channels_last_stays(mode):
    """The memory format of the output is that of the input."""
    layer, _ = build()
    x = draw(0).contiguous(memory_format=torch.channels_last)

    found = getattr(layer, mode)()(x)

    assert found.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("affine", [True, False])
def test_lanes_are_a_loop(affine, shared):
    """Three layers stacked under vmap, on inputs of their own or a shared one, train as they do one by one."""
    layers = [build(affine=affine)[0] for _ in range(3)]
    for i, layer in enumerate(layers):
        layer.on_step(5 * i, 16)
        layer(draw(10 + i, offset=i))
    parameters, buffers = stack_module_state(layers)
    x = draw(0, offset=1.0) if shared else torch.stack([draw(i, scale=1.0 + i) for i in range(3)])
    gradient = torch.stack([draw(20 + i) for i in range(3)])
    base = copy.deepcopy(layers[0]).to("meta")
    stacked = x.clone().requires_grad_()

    def lane(own, state, x):
        return functional_call(base, (own, state), (x,))

    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="There is a performance drop")
        found = vmap(lane, in_dims=(0, 0, None if shared else 0))(parameters, buffers, stacked)
    found.backward(gradient)

    single = x.clone().requires_grad_()
    for i, layer in enumerate(layers):
        expected = layer(single if shared else single[i])
        expected.backward(gradient[i])
        torch.testing.assert_close(found[i], expected, rtol=0, atol=1e-12)
        for name, parameter in layer.named_parameters():
            torch.testing.assert_close(parameters[name].grad[i], parameter.grad, rtol=0, atol=1e-12)
        for name, buffer in layer.named_buffers():
            torch.testing.assert_close(buffers[name][i], buffer, rtol=0, atol=1e-12)
    torch.testing.assert_close(stacked.grad, single.grad, rtol=0, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=NEEDS_COMPILER)])
def test_one_compilation_for_every_step(backend):
    """It compiles as one graph, which no step of the schedule compiles anew, and gives what it gives uncompiled."""
    torch.compiler.reset()
    layer, _ = build()
    twin = copy.deepcopy(layer)
    compiled = torch.compile(twin, fullgraph=True, backend=backend)
    compiled(draw(0))
    layer(draw(0))

    with torch.compiler.set_stance("fail_on_recompile"):
        for step, (x, _) in enumerate(training()):
            layer.on_step(4 * step, 16)
            twin.on_step(4 * step, 16)
            torch.testing.assert_close(compiled(x), layer(x), rtol=1e-10, atol=1e-10)

    torch.testing.assert_close(twin.state_dict(), layer.state_dict(), rtol=1e-10, atol=1e-10)


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


def test_the_description_declares_the_layers_parameters():
    """What `normbench list` shows are the parameters and defaults of the function that builds the layer."""
    norm = plugins.load().norm("batch-renorm")

    _, *own = inspect.signature(function(norm.layer)).parameters.values()

    assert dict(norm.params) == {parameter.name: parameter.default for parameter in own}


def test_traits_are_true():
    """It has this state, passes no gradient to a bias before it, and is batch norm first; open, it sees the scale."""
    traits = plugins.load().norm("batch-renorm").traits_with({})
    layer, renorm = build()
    x = draw(0).requires_grad_()
    other = x.detach().clone()
    other[1:] *= 2

    def output(x):
        return copy.deepcopy(layer)(x)

    assert traits.scale_invariant == torch.allclose(output(x), output(2 * x))
    renorm.on_step(0, 16)
    assert traits.batch_dependent != torch.allclose(output(x)[0], output(other)[0])
    assert traits.eval_differs != torch.allclose(output(x), copy.deepcopy(layer).eval()(x))
    output(x).backward(draw(1))
    through_bias = x.grad.sum((0, 2, 3))
    assert traits.centres == torch.allclose(through_bias, torch.zeros_like(through_bias), atol=1e-12)
    assert set(traits.state) == {name for name, _ in renorm.named_buffers()}


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_module_in_half_precision_takes_its_statistics_in_float32(dtype, affine):
    """A module cast to half precision gives what float32 gives, rounded; its state stays in float32, as steps need."""
    layer = normbench.layer("batch-renorm", channels=4, layout="NCHW", affine=affine)
    half = copy.deepcopy(layer).to(dtype)
    x = draw(0, offset=100.0).to(dtype)

    for mode in (True, False):
        found, expected = half.train(mode)(x), layer.train(mode)(x.float())

        assert dtype == found.dtype
        assert torch.equal(expected.to(dtype), found)
    assert dict(layer.named_buffers()).keys() == dict(half.named_buffers()).keys()
    for name, value in half.named_buffers():
        assert torch.equal(value, layer.get_buffer(name))

"""What no check knows of online norm: its own gradient, and its state, against a loop over samples in float64 NumPy.

The definition is Chiley et al. 2019, equations 8 to 12.
"""

import copy

import numpy as np
import pytest
import torch
from torch.func import functional_call, grad, stack_module_state, vmap

from normbench_plugins.layers.online_norm import OnlineNorm

COMPENSATIONS = ("layer-scaling", "clamp", "none")
STATE = ("running_mean", "running_var", "u", "v")
SHAPES = {"NC": (6, 4), "NCL": (6, 4, 5), "NCHW": (6, 4, 5, 3), "NLC": (6, 5, 4)}
# Decays at which a batch matters, and a bound that some values reach.
PARAMS = {"alpha_forward": 0.9, "alpha_backward": 0.8, "clamp": 1.0}
NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


class Definition:
    """The definition, sample by sample, for inputs (N, C, S); it starts with the state and parameters of a layer."""

    def __init__(self, layer):
        self.compensation, self.bound, self.eps = layer.constants.compensation, layer.constants.clamp, 1e-5
        self.forward_keep, self.backward_keep = layer.constants.alpha_forward, layer.constants.alpha_backward
        self.mean, self.var, self.u, self.v = (numpy(getattr(layer, name)) for name in STATE)
        self.gamma = np.ones_like(self.mean) if layer.weight is None else numpy(layer.weight)
        self.beta = np.zeros_like(self.mean) if layer.bias is None else numpy(layer.bias)

    def forward(self, x):
        """Return z, and what the backward needs: q, y and p of each sample."""
        kept = []
        for sample in x:
            q = np.sqrt(self.var + self.eps)[:, None]
            y = (sample - self.mean[:, None]) / q
            keep, mean = self.forward_keep, sample.mean(1)
            var, step = ((sample - mean[:, None]) ** 2).mean(1), mean - self.mean
            self.var = keep * self.var + (1 - keep) * var + keep * (1 - keep) * step**2
            self.mean = self.mean + (1 - keep) * step
            kept.append((q, y, self.gamma[:, None] * y + self.beta[:, None]))
        return np.stack([self.compensated(p) for _, _, p in kept]), kept

    def compensated(self, p):
        if self.compensation == "layer-scaling":
            return p / np.sqrt((p**2).mean() + 1e-5)
        return np.clip(p, -self.bound, self.bound) if self.compensation == "clamp" else p

    def through_compensation(self, gradient, p):
        if self.compensation == "layer-scaling":
            z = self.compensated(p)
            return (gradient - z * (gradient * z).mean()) / np.sqrt((p**2).mean() + 1e-5)
        return np.where(np.abs(p) < self.bound, gradient, 0) if self.compensation == "clamp" else gradient

    def backward(self, gradient, kept):
        """Return the gradients of x, gamma and beta."""
        dx, dgamma, dbeta = [], np.zeros_like(self.gamma), np.zeros_like(self.beta)
        for of_output, (q, y, p) in zip(gradient, kept, strict=True):
            g = self.through_compensation(of_output, p)
            dgamma, dbeta = dgamma + (g * y).sum(1), dbeta + g.sum(1)
            a = self.gamma[:, None] * g - (1 - self.backward_keep) * self.v[:, None] * y
            self.v = self.v + (a * y).mean(1)
            b = a / q - (1 - self.backward_keep) * self.u[:, None]
            self.u = self.u + b.mean(1)
            dx.append(b)
        return np.stack(dx), dgamma, dbeta

    def step(self, x, gradient):
        z, kept = self.forward(x)
        return z, *self.backward(gradient, kept)

    @property
    def state(self):
        return self.mean, self.var, self.u, self.v


def numpy(tensor):
    return tensor.detach().double().cpu().numpy().copy()


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).to(dtype)


def build(channels=4, layout="NCL", **params):
    """Return the layer in float64, with gamma and beta drawn."""
    layer = OnlineNorm(channels, layout, **{**PARAMS, **params}).double()
    with torch.no_grad():
        for seed, parameter in enumerate(layer.parameters()):
            parameter.copy_(1 - seed + 0.5 * draw(channels, seed=90 + seed))
    return layer


def step(layer, x, gradient):
    """Return the layer's output and the gradients of x, gamma and beta."""
    x = x.detach().requires_grad_()
    layer.zero_grad()
    z = layer(x)
    z.backward(gradient)
    return z.detach(), x.grad, layer.weight.grad, layer.bias.grad


def state(layer):
    return [getattr(layer, name).clone() for name in STATE]


def assert_agree(found, expected, tolerance=1e-10):
    """Check that each is finite, and equal relative to its largest number."""
    for one, other in zip(found, expected, strict=True):
        one, other = torch.as_tensor(one).double().cpu(), torch.as_tensor(other).double().cpu()
        assert one.shape == other.shape
        assert torch.isfinite(other).all()
        assert (one - other).abs().max() <= tolerance * other.abs().max()


@pytest.mark.parametrize("shape", [(1, 4, 1), (1, 4, 7), (2, 1, 7), (5, 4, 1), (7, 3, 6), (64, 2, 4), (65, 2, 1)])
@pytest.mark.parametrize("compensation", COMPENSATIONS)
def test_outputs_gradients_and_state_are_those_of_the_definition(compensation, shape):
    """Over successive batches of one shape, all is what the loop over samples gives."""
    layer = build(shape[1], compensation=compensation)
    definition = Definition(layer)
    for batch in range(4):
        x, gradient = 0.3 * batch + draw(*shape, seed=batch), draw(*shape, seed=10 + batch)

        found = step(layer, x, gradient)

        assert_agree(found, definition.step(numpy(x), numpy(gradient)))
        assert_agree(state(layer), definition.state)


@pytest.mark.parametrize("offset", [0.0, 1e3])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("compensation", COMPENSATIONS)
def test_tiny_and_large_activations(compensation, scale, offset):
    """With statistics that have followed them, activations of any scale and offset give what the definition gives."""
    layer = build(compensation=compensation)
    layer.running_mean.fill_(offset * scale)
    layer.running_var.fill_(scale**2)
    definition = Definition(layer)
    for batch in range(3):
        x, gradient = scale * (offset + draw(6, 4, 5, seed=batch)), draw(6, 4, 5, seed=10 + batch)

        found = step(layer, x, gradient)

        assert_agree(found, definition.step(numpy(x), numpy(gradient)), 1e-9 if offset else 1e-10)
        assert_agree(state(layer), definition.state, 1e-9 if offset else 1e-10)


def test_outliers_within_a_batch():
    """Single samples far outside, where the controller alone would diverge, are no trouble among others."""
    layer = build(alpha_backward=0.99, compensation="none")
    definition = Definition(layer)
    x, gradient = draw(64, 4, 5), draw(64, 4, 5, seed=1)
    x[[3, 20, 40]] *= 300

    found = step(layer, x, gradient)

    assert_agree(found, definition.step(numpy(x), numpy(gradient)))
    assert_agree(state(layer), definition.state)


@pytest.mark.parametrize("layout", SHAPES)
@pytest.mark.parametrize("compensation", COMPENSATIONS)
def test_layouts(compensation, layout):
    """In every layout, what is neither sample nor channel is a sample's space; in NLC, its tokens."""
    layer = build(layout=layout, compensation=compensation)
    definition = Definition(layer)
    x, gradient = draw(*SHAPES[layout]), draw(*SHAPES[layout], seed=1)

    def rows(tensor):
        return numpy((tensor.movedim(-1, 1) if layout == "NLC" else tensor).reshape(6, 4, -1))

    z, dx, *parameters = step(layer, x, gradient)

    assert_agree([rows(z), rows(dx), *parameters], definition.step(rows(x), rows(gradient)))
    assert_agree(state(layer), definition.state)


@pytest.mark.parametrize("compensation", COMPENSATIONS)
def test_without_gamma_and_beta(compensation):
    """Without `affine` there are no parameters, and gamma is 1 and beta 0."""
    layer = build(affine=False, compensation=compensation)
    definition = Definition(layer)
    x, gradient = draw(6, 4, 5).requires_grad_(), draw(6, 4, 5, seed=1)

    z = layer(x)
    z.backward(gradient)

    assert [] == list(layer.parameters())
    assert_agree([z.detach(), x.grad], definition.step(numpy(x), numpy(gradient))[:2])


def test_products_that_underflow():
    """Factors of the recurrence of v whose product is below the smallest float64 leave v as the definition has it."""
    layer = build(1, alpha_forward=1 - 1e-9, alpha_backward=0.0, compensation="none")
    definition = Definition(layer)
    x, gradient = (1 + 1e-4 * draw(200, 1, 1)), draw(200, 1, 1, seed=1)

    found = step(layer, x, gradient)

    assert 0 == np.prod(1 - numpy(x) ** 2)
    assert_agree(found, definition.step(numpy(x), numpy(gradient)))
    assert_agree(state(layer), definition.state)


@pytest.mark.parametrize("gradient", [0.0, 1.0])
def test_overflow_is_the_definitions(gradient):
    """Where the definition overflows, so does the layer; where a gradient of 0 saves it, nothing happens."""
    layer = build(1, alpha_forward=1 - 1e-9, compensation="none")
    definition = Definition(layer)
    x, gradient = torch.full((128, 1, 1), 1e3, dtype=torch.float64), torch.full((128, 1, 1), gradient).double()

    with np.errstate(all="ignore"):
        _, expected, *_ = definition.step(numpy(x), numpy(gradient))
    _, found, *_ = step(layer, x, gradient)

    assert np.isfinite(expected).all() == torch.isfinite(found).all()
    assert np.isfinite(definition.v).all() == torch.isfinite(layer.v).all()


@pytest.mark.parametrize("size", [1, 4])
def test_batches_only_cut_the_stream(size):
    """A stream gives the same outputs, gradients and state in batches of any size."""
    layer, other = build(), build()
    x, gradient = draw(12, 4, 5), draw(12, 4, 5, seed=1)
    z, dx, *_ = step(layer, x, gradient)

    parts = [step(other, *part)[:2] for part in zip(x.split(size), gradient.split(size), strict=True)]

    assert_agree([torch.cat(part) for part in zip(*parts, strict=True)], [z, dx])
    assert_agree(state(other), state(layer))


def test_the_gradient_has_no_mean_and_no_part_along_y_in_the_long_run():
    """What the control is for: it takes off what batch norm's gradient doesn't have either."""
    layer = build(1, alpha_forward=0.99, alpha_backward=0.99, compensation="none", affine=False)
    x = draw(20_000, 1, 4).requires_grad_()
    gradient = 0.7 + 0.3 * x.detach() + draw(20_000, 1, 4, seed=1)

    layer(x).backward(gradient)

    late = slice(2000, None)
    assert x.grad[late].mean().abs() < 0.01
    assert (x.grad * x.detach())[late].mean().abs() < 0.01


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_two_forwards_before_their_backwards(order):
    """The forward's state moves in the order of the forwards, that of the backward in the order of the backwards."""
    layer = build()
    definition = Definition(layer)
    inputs = [draw(5, 4, 3, seed=seed).requires_grad_() for seed in (0, 1)]
    gradients = [draw(5, 4, 3, seed=seed) for seed in (2, 3)]

    outputs = [layer(x) for x in inputs]
    for index in order:
        outputs[index].backward(gradients[index])

    kept = [definition.forward(numpy(x))[1] for x in inputs]
    expected = {index: definition.backward(numpy(gradients[index]), kept[index])[0] for index in order}
    assert_agree([x.grad for x in inputs], [expected[0], expected[1]])
    assert_agree(state(layer), definition.state)


def test_a_repeated_backward_moves_u_and_v_again():
    """With `retain_graph` a second backward goes on where the first left u and v."""
    layer = build()
    definition = Definition(layer)
    x, gradient = draw(5, 4, 3), draw(5, 4, 3, seed=1)

    z = layer(x)
    z.backward(gradient, retain_graph=True)
    z.backward(gradient)

    _, kept = definition.forward(numpy(x))
    definition.backward(numpy(gradient), kept)
    definition.backward(numpy(gradient), kept)
    assert_agree(state(layer), definition.state)


def test_a_second_derivative_is_refused():
    """A gradient of the gradient raises, as the control is no derivative of anything."""
    layer = build()
    x = draw(5, 4, 3).requires_grad_()

    (first,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)

    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


@pytest.mark.parametrize("compensation", COMPENSATIONS)
def test_evaluation_has_an_ordinary_gradient(compensation):
    """It is the derivative of the output."""
    layer = build(compensation=compensation, clamp=0.7).eval()

    assert torch.autograd.gradcheck(layer, draw(6, 4, 5).requires_grad_())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("share", "expected"), [(1.0, 0), (1.5, 0), (0.999, 12)])
def test_the_gradient_of_the_clamp(training, share, expected):
    """No gradient passes a value at the bound or beyond it; all of it passes below."""
    layer = build(compensation="clamp").train(training)
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.fill_(-share)

    _, _, _, found = step(layer, draw(4, 4, 3), torch.ones(4, 4, 3).double())

    assert [expected] * 4 == found.tolist()


def lanes(layout, compensation, count=3):
    """Return layers for lanes, and three batches of (inputs, gradients), each with the lanes first."""
    layers = [build(layout=layout, compensation=compensation) for _ in range(count)]
    for seed, layer in enumerate(layers):
        with torch.no_grad():
            layer.weight.add_(0.3 * draw(4, seed=50 + seed))
    batches = [[draw(count, *SHAPES[layout], seed=10 * kind + batch) for kind in (0, 1)] for batch in range(3)]
    return layers, batches


def one_by_one(layers, batches):
    """Train each lane alone; return the last batch's gradients of gamma and beta, and the state, lanes stacked."""
    alone = copy.deepcopy(layers)
    for x, gradient in batches:
        found = [step(layer, *lane)[2:] for layer, *lane in zip(alone, x, gradient, strict=True)]
    return [torch.stack(tensors) for tensors in (*zip(*found, strict=True), *zip(*map(state, alone), strict=True))]


@pytest.mark.parametrize("layout", SHAPES)
@pytest.mark.parametrize("compensation", COMPENSATIONS)
def test_lanes_by_vmap_of_grad(compensation, layout):
    """Under vmap(grad(...)) stacked layers train as each would alone, in state and gradients."""
    layers, batches = lanes(layout, compensation)
    params, buffers = stack_module_state(layers)

    def loss(params, buffers, x, gradient):
        return (functional_call(layers[0], (params, buffers), (x,)) * gradient).sum()

    for batch in batches:
        found = vmap(grad(loss))(params, buffers, *batch)

    found = [found["weight"], found["bias"], *(buffers[name] for name in STATE)]
    assert_agree(found, one_by_one(layers, batches), 1e-12)


def test_lanes_need_a_state_each():
    """A state that the lanes share is refused: each would move it."""
    layer = build()

    with pytest.raises(ValueError, match="has to be stacked"):
        vmap(layer)(draw(3, 5, 4, 2))


@pytest.mark.gpu
@NEEDS_GPU
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("compensation", COMPENSATIONS)
def test_on_a_gpu(compensation, memory_format):
    """On a GPU the layer does what it does on a CPU, and never waits for the device."""
    layer = build(layout="NCHW", compensation=compensation)
    other = copy.deepcopy(layer).cuda()
    for batch in range(3):
        x, gradient = draw(7, 4, 3, 5, seed=batch), draw(7, 4, 3, 5, seed=10 + batch)
        on_gpu = [tensor.cuda().contiguous(memory_format=memory_format) for tensor in (x, gradient)]

        torch.cuda.set_sync_debug_mode("error")
        try:
            found = step(other, *on_gpu)
        finally:
            torch.cuda.set_sync_debug_mode("default")

        assert_agree(found, step(layer, x, gradient))
        assert_agree(state(other), state(layer))
        assert all(tensor.is_contiguous(memory_format=memory_format) for tensor in found[:2])


@pytest.mark.gpu
@pytest.mark.slow
@NEEDS_GPU
@pytest.mark.parametrize("compensation", COMPENSATIONS)
def test_compiled_on_a_gpu(compensation):
    """Compiled for a GPU, the layer does what it does eagerly on a CPU."""
    torch.compiler.reset()
    layer = build(layout="NCHW", compensation=compensation)
    other = copy.deepcopy(layer).cuda()
    compiled = torch.compile(other, fullgraph=True)
    for batch in range(3):
        x, gradient = draw(7, 4, 3, 5, seed=batch), draw(7, 4, 3, 5, seed=10 + batch)

        found = step(compiled, x.cuda(), gradient.cuda())

        assert_agree(found, step(layer, x, gradient))
        assert_agree(state(other), state(layer))


@pytest.mark.gpu
@NEEDS_GPU
def test_autocast_on_a_gpu():
    """On a GPU, under autocast and with TF32 allowed, the statistics are as exact as without."""
    layer = build().float().cuda()
    other = copy.deepcopy(layer)
    x, gradient = (draw(64, 4, 5, seed=seed, dtype=torch.float32).cuda() for seed in (0, 1))
    precision = torch.get_float32_matmul_precision()

    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cuda", dtype=torch.bfloat16):
            found = step(layer, x, gradient)
    finally:
        torch.set_float32_matmul_precision(precision)

    assert_agree(found, step(other, x, gradient), 1e-6)
    assert_agree(state(layer), state(other), 1e-6)

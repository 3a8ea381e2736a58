"""Online normalization (Chiley et al. 2019, arXiv 1905.05894), exact, and vectorised over the batch.

The samples of a batch are a stream, in their order. Sample t is normalized by exponentially weighted statistics of the
samples before it, y = (x - mean) / sqrt(var + eps); then mean and var move (equations 8a-c). Autograd through that
would give g / sqrt(var + eps). Here two errors a channel, accumulated in the backward, correct it, so that in the long
run the gradient has, like batch norm's, no part along y (v, equations 11a-b) and no mean (u, equations 12a-b). Where a
sample has several values a channel, their mean and variance take part in all this; nothing is averaged over samples.

All that is sequential concerns numbers of the shape (N, C), one a sample and channel, and is computed in float64, so
that neither autocast nor TF32 can touch it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import batch_norm, hardtanh

import normbench
from normbench_plugins.layers.affine import add_affine
from normbench_plugins.layers.recurrences import linear_recurrence, moving_averages
from normbench_plugins.layers.rows import at_least_float32, check_shape, from_rows, to_rows
from normbench_plugins.layers.state import Float32State

#: What layer scaling adds to the mean square, in the paper's code.
SCALING_EPS = 1e-5


class Constants(NamedTuple):
    """The parameters of a layer, beside `affine`."""

    alpha_forward: float
    alpha_backward: float
    eps: float
    compensation: str
    clamp: float


class OnlineNorm(Float32State):
    """Online normalization with gamma and beta, and with a compensation E of the error that the stale statistics leave.

    Input and output have the shape that `layout` says: (N, C), (N, C, L), (N, C, H, W) or (N, L, C). A sample is what
    belongs to one index along N; in NLC its L tokens are its space, as pixels are, and share their statistics.

    The output is E(gamma y + beta). E(p) is p / sqrt(mean(p^2) + 1e-5), the mean over all features of a sample
    ("layer-scaling", as in the paper); or p clipped to [-clamp, clamp], with gradient 0 at the bounds and beyond
    ("clamp"); or p ("none"). It is the same in evaluation, which uses the last mean and variance and moves nothing.

    A forward in training moves `running_mean` and `running_var`, under `no_grad` too. A backward moves `u` and `v`, so
    several forwards before a backward move them in the order of the backwards, and a backward that is repeated
    (`retain_graph`) moves them again. Activation checkpointing repeats the forward, which then counts the batch twice:
    don't wrap this layer in it. There is no double backward.

    Input gradients stay bounded as long as the mean of y^2 over a sample is below 2 / (1 - alpha_backward), apart from
    outliers.

    Raises ValueError for an input of another shape than the layout's.
    """

    weight: nn.Parameter | None
    bias: nn.Parameter | None
    running_mean: Tensor
    running_var: Tensor
    u: Tensor
    v: Tensor

    def __init__(
        self,
        channels: int,
        layout: str = "NCHW",
        *,
        alpha_forward: float = 0.999,
        alpha_backward: float = 0.99,
        eps: float = 1e-5,
        affine: bool = True,
        compensation: str = "layer-scaling",
        clamp: float = 5.0,
    ) -> None:
        super().__init__()
        self.channels, self.layout = channels, layout
        self.constants = Constants(alpha_forward, alpha_backward, eps, compensation, clamp)
        add_affine(self, channels, affine)
        # In the paper: mu, sigma^2, epsilon^(1) and epsilon^(y).
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.register_buffer("u", torch.zeros(channels))
        self.register_buffer("v", torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalized input, in its shape and dtype."""
        check_shape(x, self.layout, self.channels)
        return self._train(x) if self.training else self._evaluate(x)

    def _train(self, x: Tensor) -> Tensor:
        rows, space = to_rows(x, self.layout)
        state = (self.running_mean, self.running_var, self.u, self.v)
        if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
            z, mean, var, *_ = OnlineNormalization.apply(rows, self.weight, self.bias, *state, self.constants, space, 1)
            self.running_mean.copy_(mean)
            self.running_var.copy_(var)
        else:
            z = _Eager.apply(rows, self.weight, self.bias, state, self.constants, space)
        return from_rows(z, space, self.layout, x.shape)

    def _evaluate(self, x: Tensor) -> Tensor:
        constants, values = self.constants, at_least_float32(x)
        # Batch norm's channels come before the space.
        tokens = values.flatten(0, 1) if self.layout == "NLC" else values
        mean, var = self.running_mean.to(values.dtype), self.running_var.to(values.dtype)
        gamma, beta = (None if one is None else one.to(values.dtype) for one in (self.weight, self.bias))
        p = batch_norm(tokens, mean, var, gamma, beta, eps=constants.eps).view_as(values)
        if constants.compensation == "layer-scaling":
            norm = torch.linalg.vector_norm(p, dim=tuple(range(1, p.dim())), keepdim=True)
            p = p * torch.rsqrt(norm.square() * (len(p) / max(p.numel(), 1)) + SCALING_EPS)
        elif constants.compensation == "clamp":
            p = hardtanh(p, -constants.clamp, constants.clamp)
        return p.to(x.dtype)

    def extra_repr(self) -> str:
        """Return what the layer is made with."""
        values = {"layout": self.layout, **self.constants._asdict(), "affine": self.weight is not None}
        return ", ".join([str(self.channels), *(f"{name}={value!r}" for name, value in values.items())])


class Samples(NamedTuple):
    """What the backward needs of the samples of a batch, (N, C) each: y = scale * (x - centre) + mean.

    `mean` is that of y over a sample's space, and p = gamma * mean + beta. `gain` is what layer scaling multiplies a
    sample by: 1 / sqrt(mean(p^2) + eps), for each channel where there are lanes, or else (N, 1); 1 without it. Where a
    sample has one value a channel, `centre`, the mean of x over the space, and `var`, the variance of y, are left out.
    """

    scale: Tensor
    mean: Tensor
    p: Tensor
    gain: Tensor
    centre: Tensor | None = None
    var: Tensor | None = None


class OnlineNormalization(torch.autograd.Function):
    """What `OnlineNorm` does in training, from the state before a batch to the state after it, as vmap can take it.

    It takes x as (N, C, S) or (N, S, C), gamma and beta or None, the four tensors of state, each (C,), the constants,
    the axis of S, and how many lanes, layers of the same constants, lie side by side in the channels. The forward
    changes none of them; the backward writes to u and v, which `vmap` gives it as (lanes, C).
    """

    @staticmethod
    def forward(
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        mean: Tensor,
        var: Tensor,
        u: Tensor,  # noqa: ARG004 - the backward's
        v: Tensor,  # noqa: ARG004 - the backward's
        constants: Constants,
        space: int,
        lanes: int,
    ) -> tuple[Tensor, ...]:
        """Return z, the mean and variance after the batch, and the samples."""
        z, mean, var, samples = _forward(x, weight, bias, mean.flatten(), var.flatten(), constants, space, lanes)
        return z, mean, var, *[tensor for tensor in samples if tensor is not None]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Keep what the backward needs; u and v on `ctx`, as a saved tensor may not change before its backward."""
        x, weight, bias, _, _, ctx.u, ctx.v, *ctx.others = inputs
        ctx.save_for_backward(x, weight, bias, *output[3:])
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: None) -> tuple[Tensor | None, ...]:
        """Return the controlled gradient of x, and those of gamma and beta, which the control doesn't touch."""
        x, weight, bias, *samples = ctx.saved_tensors
        return *_backward(grad, x, weight, bias, Samples(*samples), ctx.u, ctx.v, *ctx.others), *[None] * 7

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[Any, ...],
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        *others: Any,
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        """Compute all lanes at once, side by side in the channels."""
        *state, constants, space, inner = others
        state_dims = in_dims[3:7]
        if None in state_dims:
            raise ValueError("the state is shared by all lanes; it has to be stacked: torch.func.stack_module_state")
        lanes, channels = info.batch_size, 3 - space
        outputs = OnlineNormalization.apply(
            _lanes_first(x, in_dims[0], lanes).movedim(0, channels).flatten(channels, channels + 1),
            None if weight is None else _lanes_first(weight, in_dims[1], lanes).flatten(),
            None if bias is None else _lanes_first(bias, in_dims[2], lanes).flatten(),
            # Not flattened, which could copy: the backward writes to u and v.
            *(_lanes_first(tensor, dim, lanes) for tensor, dim in zip(state, state_dims, strict=True)),
            constants,
            space,
            lanes * inner,
        )
        dims = (channels, 0, 0, *[1] * (len(outputs) - 3))
        return tuple(output.unflatten(dim, (lanes, -1)) for output, dim in zip(outputs, dims, strict=True)), dims


class _Eager(torch.autograd.Function):
    """The same for one layer. Its calls are cheaper than those of a function that vmap can take, by half a batch norm.

    The forward moves the mean and the variance itself.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        state: tuple[Tensor, Tensor, Tensor, Tensor],
        constants: Constants,
        space: int,
    ) -> Tensor:
        """Return z."""
        running_mean, running_var, ctx.u, ctx.v = state
        z, mean, var, samples = _forward(x, weight, bias, running_mean, running_var, constants, space, 1)
        running_mean.copy_(mean)
        running_var.copy_(var)
        ctx.others = constants, space, 1
        ctx.save_for_backward(x, weight, bias, *samples)
        return z

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of x, gamma and beta."""
        x, weight, bias, *samples = ctx.saved_tensors
        return *_backward(grad, x, weight, bias, Samples(*samples), ctx.u, ctx.v, *ctx.others), None, None, None


def _forward(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    var: Tensor,
    constants: Constants,
    space: int,
    lanes: int,
) -> tuple[Tensor, Tensor, Tensor, Samples]:
    """Return z, the mean and variance after the batch, and the samples.

    From one sample to the next, with m and w the mean and the variance of x over the space of the sample, the state is

        mean <- keep * mean + (1 - keep) * m      var <- keep * var + (1 - keep) * (w + keep * (m - mean)^2)

    where keep is alpha_forward and the mean in the second is that before the sample.
    """
    values = at_least_float32(x)
    keep, size = constants.alpha_forward, x.shape[space]
    if size == 1:
        centre, variance = values.squeeze(space), values.new_zeros(())
    else:
        centre = values.mean(space)
        z = values - centre.unsqueeze(space)
        variance = torch.linalg.vector_norm(z, dim=space).square() / size
    means, mean = moving_averages(keep, mean, centre)
    difference = centre.double() - means
    variances, var = moving_averages(keep, var, torch.addcmul(variance.double(), difference, difference, value=keep))
    scale = (variances + constants.eps).to(values.dtype).rsqrt_()
    y = difference.to(values.dtype) * scale
    gamma, beta = _affine(weight, bias, like=y)
    p = torch.addcmul(beta, y, gamma)
    spread = () if size == 1 else (centre, variance * scale.square())
    if constants.compensation == "layer-scaling":
        square = torch.addcmul(p.square(), spread[1], gamma.square()) if spread else p.square()
        gain = _over_features(square, lanes).add_(SCALING_EPS).rsqrt_()
        scaled = p * gain
    else:
        gain, scaled = torch.ones_like(p), p
    z = _line_(z, gamma * scale * gain, scaled, space) if spread else scaled.unsqueeze(space)
    if constants.compensation == "clamp":
        z = hardtanh(z, -constants.clamp, constants.clamp)
    return z.to(x.dtype), mean, var, Samples(scale, y, p, gain, *spread)


def _backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    samples: Samples,
    u: Tensor,
    v: Tensor,
    constants: Constants,
    space: int,
    lanes: int,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Return the gradients of x, gamma and beta; move u and v."""
    scale, y, p, gain, centre, var = samples
    gamma, _ = _affine(weight, bias, like=y)
    g = at_least_float32(grad)
    # The mean over the space of the gradient, and how it varies with y there.
    if var is None or centre is None:
        if constants.compensation == "clamp":
            g = torch.ops.aten.hardtanh_backward(g, p.unsqueeze(space), -constants.clamp, constants.clamp)
        g_mean, along_y = g.squeeze(space), None
    else:
        # x - centre is made again in the same buffer: on a CPU, to allocate another takes longer than to compute it.
        buffer = at_least_float32(x) - centre.unsqueeze(space)
        if constants.compensation == "clamp":
            bounded = _line_(buffer, gamma * scale, p, space)
            g = torch.ops.aten.hardtanh_backward(g, bounded, -constants.clamp, constants.clamp)
            buffer.copy_(x).sub_(centre.unsqueeze(space))
        g_mean, along_y = g.mean(space), buffer.mul_(g).mean(space) * scale

    mean, pull = g_mean, None
    if constants.compensation == "layer-scaling":
        # The gradient of p is gain * g - pull * p.
        product = g_mean * p if along_y is None else torch.addcmul(g_mean * p, along_y, gamma)
        pull = _over_features(product, lanes) * gain**3
        mean = (g_mean * gain).addcmul_(p, pull, value=-1)
        if along_y is not None and var is not None:
            along_y = along_y * gain - pull * gamma * var
    gy = mean * y if along_y is None else torch.addcmul(along_y, mean, y)
    yy = y.square() if var is None else torch.addcmul(var, y, y)

    along, dx = _control(scale, y, mean * gamma, gy, yy, gamma, u, v, constants)
    dweight = None if weight is None else (gy.sum(0) * x.shape[space]).to(weight.dtype)
    dbias = None if bias is None else (mean.sum(0) * x.shape[space]).to(bias.dtype)
    if centre is None:
        return dx.unsqueeze(space).to(x.dtype), dweight, dbias
    # dx is the mean over the space so far.
    slope = gamma * gain * scale
    turn = -scale.square() * (along if pull is None else torch.addcmul(along, pull, gamma.square()))
    line = _line_(buffer.copy_(x).sub_(centre.unsqueeze(space)), turn, dx - slope * g_mean, space)
    return line.addcmul_(g, slope.unsqueeze(space)).to(x.dtype), dweight, dbias


def _control(
    scale: Tensor,
    y: Tensor,
    g: Tensor,
    gy: Tensor,
    yy: Tensor,
    gamma: Tensor,
    u: Tensor,
    v: Tensor,
    constants: Constants,
) -> tuple[Tensor, Tensor]:
    """Return what times y a gradient of y loses, and the mean of the gradient of x; move u and v.

    All that is given is a mean over the space: y, the gradient g of y, gamma * gy that of g y, and that of y^2. With
    keep = alpha_backward, the definition is, from one sample to the next,

        a = g - (1 - keep) v y                v <- v + mean(a y)
        dx = scale * a - (1 - keep) u         u <- u + mean(dx)

    where v and u are those before the sample. Written out, v is a linear recurrence, and (1 - keep) u a moving average.
    """
    keep = constants.alpha_backward
    rate = 1 - keep
    factors = yy.to(torch.float64, copy=True).mul_(-rate).add_(1)
    errors, last = linear_recurrence(factors, v.double().flatten() * rate, (gy * (gamma * rate)).double())
    v.copy_((last / rate).view_as(v))
    along = errors.to(y.dtype)
    a = g.addcmul(along, y, value=-1).mul_(scale)
    constant, last = moving_averages(keep, u.double().flatten() * rate, a)
    u.copy_((last / rate).view_as(u))
    return along, a.sub_(constant.to(a.dtype))


def _affine(weight: Tensor | None, bias: Tensor | None, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return gamma and beta in the type of `like`; 1 and 0 where there are none."""
    gamma = like.new_ones(()) if weight is None else weight.to(like.dtype)
    return gamma, like.new_zeros(()) if bias is None else bias.to(like.dtype)


def _over_features(table: Tensor, lanes: int) -> Tensor:
    """Return the means over the channels, (N, 1); where there are lanes over each one's, for each of them, (N, C)."""
    if lanes == 1:
        return table.mean(1, keepdim=True)
    by_lane = table.reshape(len(table), lanes, table.shape[1] // lanes)  # not -1: there may be no sample
    return by_lane.mean(-1, keepdim=True).expand_as(by_lane).flatten(1)


def _line_(values: Tensor, slope: Tensor, intercept: Tensor, space: int) -> Tensor:
    """Return slope * values + intercept, in place; slope and intercept are (N, C)."""
    return values.mul_(slope.unsqueeze(space)).add_(intercept.unsqueeze(space))


def _lanes_first(tensor: Tensor, dim: int | None, lanes: int) -> Tensor:
    """Return a view with the lanes as its first axis; a tensor without lanes is repeated."""
    return tensor.expand(lanes, *tensor.shape) if dim is None else tensor.movedim(dim, 0)


def layer(
    site: normbench.Site,
    alpha_forward: float = 0.999,
    alpha_backward: float = 0.99,
    eps: float = 1e-5,
    affine: bool = True,
    compensation: str = "layer-scaling",
    clamp: float = 5.0,
) -> nn.Module:
    """Return online norm; the decays count samples, whatever the batch size."""
    return OnlineNorm(
        site.channels,
        site.layout,
        alpha_forward=alpha_forward,
        alpha_backward=alpha_backward,
        eps=eps,
        affine=affine,
        compensation=compensation,
        clamp=clamp,
    )

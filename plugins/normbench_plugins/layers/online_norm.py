"""Online normalization (Chiley et al. 2019, arXiv 1905.05894), exact, and vectorised over the batch.

The samples of a batch are a stream, in their order. Sample t is normalized by exponentially weighted statistics of the
samples before it, y = (x - mean) / sqrt(var + eps); then mean and var move (equations 8a-c). Autograd through that
would give g / sqrt(var + eps). Here two errors a channel, accumulated in the backward, correct it, so that in the long
run the gradient has, like batch norm's, no part along y (v, equations 11a-b) and no mean (u, equations 12a-b). Where a
sample has several values a channel, their mean and variance take part in all this; nothing is averaged over samples.

All that is sequential concerns numbers of the shape (N, C), one a sample and channel. They are computed in float64:
that costs little, and neither autocast nor TF32 can touch it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import hardtanh, hardtanh_

import normbench
from normbench_plugins.layers.layer_scaling import layer_scaled
from normbench_plugins.layers.recurrences import decayed_sums, linear_recurrence
from normbench_plugins.layers.rows import at_least_float32, check_shape, from_rows, per_channel, to_rows
from normbench_plugins.layers.state import Float32State

COMPENSATIONS = ("layer-scaling", "clamp", "none")

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

    Raises ValueError for a parameter out of its range, and for an input of another shape than the layout's.
    """

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
        self.constants = _checked(Constants(alpha_forward, alpha_backward, eps, compensation, clamp))
        self.weight = nn.Parameter(torch.ones(channels)) if affine else None
        self.bias = nn.Parameter(torch.zeros(channels)) if affine else None
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
        z, mean, var, *_ = OnlineNormalization.apply(rows, self.weight, self.bias, *state, self.constants, space, 1)
        self.running_mean.copy_(mean)
        self.running_var.copy_(var)
        return from_rows(z, space, self.layout, x.shape)

    def _evaluate(self, x: Tensor) -> Tensor:
        constants = self.constants
        slope = torch.rsqrt(self.running_var + constants.eps)
        if self.weight is not None:
            slope = slope * self.weight
        p = (at_least_float32(x) - per_channel(self.running_mean, self.layout)) * per_channel(slope, self.layout)
        if self.bias is not None:
            p = p + per_channel(self.bias, self.layout)
        if constants.compensation == "layer-scaling":
            p = layer_scaled(p, SCALING_EPS)
        elif constants.compensation == "clamp":
            p = hardtanh(p, -constants.clamp, constants.clamp)
        return p.to(x.dtype)

    def extra_repr(self) -> str:
        """Return what the layer is made with."""
        values = {"layout": self.layout, **self.constants._asdict(), "affine": self.weight is not None}
        return ", ".join([str(self.channels), *(f"{name}={value!r}" for name, value in values.items())])


class Samples(NamedTuple):
    """The samples of a batch in each channel, (N, C) each: y = scale * (x - centre) + mean, and y's variance is var.

    `centre` is the mean of x over a sample's space, in the dtype of the values; `mean` and `var` are y's over it.
    """

    centre: Tensor
    scale: Tensor
    mean: Tensor
    var: Tensor


class OnlineNormalization(torch.autograd.Function):
    """What `OnlineNorm` does in training, from the state before a batch to the state after it.

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
        """Return z, the mean and variance after the batch, and the samples' statistics."""
        values = at_least_float32(x)
        centre = values.mean(space)
        z = values - centre.unsqueeze(space)
        variance = torch.linalg.vector_norm(z, dim=space).double().square() / x.shape[space]
        samples, mean, var = _stream(centre, variance, mean.double().flatten(), var.double().flatten(), constants)
        gamma, beta = _affine(weight, bias, like=mean)
        gain = _gain(samples, gamma, beta, constants, lanes)
        _line_(z, gamma * samples.scale * gain, (gamma * samples.mean + beta) * gain, space)
        if constants.compensation == "clamp":
            hardtanh_(z, -constants.clamp, constants.clamp)
        return z.to(x.dtype), mean, var, *samples

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Keep what the backward needs; u and v on `ctx`, as a saved tensor may not change before its backward."""
        x, weight, bias, _, _, ctx.u, ctx.v, ctx.constants, ctx.space, ctx.lanes = inputs
        _, mean, var, *samples = output
        ctx.save_for_backward(x, weight, bias, *samples)
        ctx.mark_non_differentiable(mean, var, *samples)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        """Return the controlled gradient of x, and those of gamma and beta, which the control doesn't touch."""
        x, weight, bias, *saved = ctx.saved_tensors
        samples, constants, space, lanes = Samples(*saved), ctx.constants, ctx.space, ctx.lanes
        gamma, beta = _affine(weight, bias, like=samples.scale)
        # x - centre is made again in the same buffer: on a CPU, to allocate another takes longer than to compute it.
        centre = samples.centre.unsqueeze(space)
        buffer = at_least_float32(x) - centre
        g = at_least_float32(grad)
        if constants.compensation == "clamp":
            p = _line_(buffer, gamma * samples.scale, gamma * samples.mean + beta, space)
            g = torch.ops.aten.hardtanh_backward(g, p, -constants.clamp, constants.clamp)
            buffer.copy_(x).sub_(centre)
        # Means over the space of g, g y and y^2.
        g_mean = g.mean(space).double()
        gy_mean = buffer.mul_(g).mean(space).double() * samples.scale + g_mean * samples.mean
        yy_mean = samples.var + samples.mean.square()

        # The gradient of p = gamma y + beta is gain * g - pull * p; without layer scaling, g.
        gain = _gain(samples, gamma, beta, constants, lanes)
        pull = torch.zeros_like(gain)
        if constants.compensation == "layer-scaling":
            pull = _over_features(gamma * gy_mean + beta * g_mean, lanes) * gain**3
        g_mean = gain * g_mean - pull * (gamma * samples.mean + beta)
        gy_mean = gain * gy_mean - pull * (gamma * yy_mean + beta * samples.mean)

        along, constant = _control(samples, gamma * g_mean, gamma * gy_mean, yy_mean, ctx.u, ctx.v, constants)
        slope = -(pull * gamma.square() + along) * samples.scale
        intercept = slope * samples.mean - pull * gamma * beta * samples.scale - constant
        line = _line_(buffer.copy_(x).sub_(centre), slope * samples.scale, intercept, space)
        dx = torch.addcmul(line, g, (gamma * gain * samples.scale).unsqueeze(space).to(g.dtype)).to(x.dtype)
        if weight is None or bias is None:
            return dx, *[None] * 9
        size = x.shape[space]
        return dx, (size * gy_mean.sum(0)).to(weight.dtype), (size * g_mean.sum(0)).to(bias.dtype), *[None] * 7

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
        dims = (channels, 0, 0, 1, 1, 1, 1)
        return tuple(output.unflatten(dim, (lanes, -1)) for output, dim in zip(outputs, dims, strict=True)), dims


def _control(
    samples: Samples, g_mean: Tensor, gy_mean: Tensor, yy_mean: Tensor, u: Tensor, v: Tensor, constants: Constants
) -> tuple[Tensor, Tensor]:
    """Return what a sample's gradient loses: along * y in the gradient of y, and a constant in that of x; move u and v.

    With g the gradient of y and keep = alpha_backward, the definition is, from one sample to the next,

        a = g - (1 - keep) v y                v <- v + mean(a y)
        dx = scale * a - (1 - keep) u         u <- u + mean(dx)

    where v and u are those before the sample. Written out, both are linear recurrences of the samples' means.
    """
    keep = constants.alpha_backward
    errors = linear_recurrence(1 - (1 - keep) * yy_mean, v.double().flatten(), gy_mean)
    along = (1 - keep) * errors[:-1]
    v.copy_(errors[-1].view_as(v))
    errors = decayed_sums(keep, u.double().flatten(), (g_mean - along * samples.mean) * samples.scale)
    u.copy_(errors[-1].view_as(u))
    return along, (1 - keep) * errors[:-1]


def _stream(
    centre: Tensor, variance: Tensor, mean: Tensor, var: Tensor, constants: Constants
) -> tuple[Samples, Tensor, Tensor]:
    """Return the samples as the state before each normalizes them, and the mean and variance after the last.

    `centre` and `variance` are those of x over the space of a sample. From one sample to the next, the definition is

        mean <- mean + (1 - keep) d      var <- keep * var + (1 - keep) * (variance + keep * d^2)

    with d = centre - mean and keep = alpha_forward.
    """
    keep = constants.alpha_forward
    # From the mean before the batch on, so that a large one takes no digits from the differences.
    offset = centre.double() - mean
    drift = decayed_sums(keep, torch.zeros_like(mean), (1 - keep) * offset)
    difference = offset - drift[:-1]
    variances = decayed_sums(keep, var, (1 - keep) * (variance + keep * difference.square()))
    scale = torch.rsqrt(variances[:-1] + constants.eps)
    samples = Samples(centre, scale, difference * scale, variance * scale.square())
    return samples, mean + drift[-1], variances[-1]


def _affine(weight: Tensor | None, bias: Tensor | None, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return gamma and beta in float64; 1 and 0 where there are none."""
    channels = like.shape[-1]
    if weight is None or bias is None:
        return like.new_ones(channels), like.new_zeros(channels)
    return weight.double(), bias.double()


def _gain(samples: Samples, gamma: Tensor, beta: Tensor, constants: Constants, lanes: int) -> Tensor:
    """Return what layer scaling multiplies a sample by, 1 / sqrt(mean(p^2) + eps), for each channel; or else 1."""
    if constants.compensation != "layer-scaling":
        return torch.ones_like(samples.scale)
    square = gamma.square() * samples.var + (gamma * samples.mean + beta).square()
    return torch.rsqrt(_over_features(square, lanes) + SCALING_EPS)


def _over_features(table: Tensor, lanes: int) -> Tensor:
    """Return the means over the channels of each lane, repeated for each of them: (N, C) as given."""
    by_lane = table.reshape(len(table), lanes, table.shape[1] // lanes)  # not -1: there may be no sample
    return by_lane.mean(-1, keepdim=True).expand_as(by_lane).flatten(1)


def _line_(values: Tensor, slope: Tensor, intercept: Tensor, space: int) -> Tensor:
    """Return slope * values + intercept, in place; slope and intercept are (N, C)."""
    return values.mul_(slope.unsqueeze(space).to(values.dtype)).add_(intercept.unsqueeze(space).to(values.dtype))


def _lanes_first(tensor: Tensor, dim: int | None, lanes: int) -> Tensor:
    """Return a view with the lanes as its first axis; a tensor without lanes is repeated."""
    return tensor.expand(lanes, *tensor.shape) if dim is None else tensor.movedim(dim, 0)


def _checked(constants: Constants) -> Constants:
    """Return the constants. Raises ValueError for one out of its range."""
    for name in ("alpha_forward", "alpha_backward"):
        if not 0 <= getattr(constants, name) < 1:
            raise ValueError(f"{name} is {getattr(constants, name)}; it is at least 0 and below 1")
    for name in ("eps", "clamp"):
        if not getattr(constants, name) > 0:
            raise ValueError(f"{name} is {getattr(constants, name)}; it is above 0")
    if constants.compensation not in COMPENSATIONS:
        raise ValueError(f"compensation is {constants.compensation!r}; it is one of {', '.join(COMPENSATIONS)}")
    return constants


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

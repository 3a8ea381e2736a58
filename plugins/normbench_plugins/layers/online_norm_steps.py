"""The forward and backward of online normalization, on x as (N, C), (N, C, S) or (N, S, C): see `online_norm`."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import batch_norm, hardtanh

from normbench_plugins.layers.recurrences import deviations, linear_recurrence, moving_averages
from normbench_plugins.layers.rows import at_least_float32

#: What layer scaling adds to the mean square, in the paper's code.
SCALING_EPS = 1e-5


class Constants(NamedTuple):
    """The parameters of a layer, beside `affine`."""

    alpha_forward: float
    alpha_backward: float
    eps: float
    compensation: str
    clamp: float


class Samples(NamedTuple):
    """What the backward needs of the samples of a batch, (N, C) each: y = scale * (x - centre) + mean.

    `mean` is that of y over a sample's space, as a table of `recurrences` with zeros in its first row; p is
    gamma * mean + beta. `gain` is what layer scaling multiplies a
    sample by: 1 / sqrt(mean(p^2) + eps), for each channel where there are lanes, or else (N, 1); 1 without it. Where a
    sample has one value a channel, `centre`, the mean of x over the space, and `var`, the variance of y, are left out.
    """

    scale: Tensor
    mean: Tensor
    p: Tensor
    gain: Tensor
    centre: Tensor | None = None
    var: Tensor | None = None


def forward(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    var: Tensor,
    fast: bool,
    constants: Constants,
    space: int,
    lanes: int,
) -> tuple[Tensor, Tensor, Tensor, Samples]:
    """Return z, the mean and variance after the batch, and the samples.

    From one sample to the next, with m and w the mean and the variance of x over the space of the sample, the state is

        mean <- keep * mean + (1 - keep) * m      var <- keep * var + (1 - keep) * (w + keep * (m - mean)^2)

    where keep is alpha_forward and the mean in the second is that before the sample. With `fast`, which is for numbers
    on a CPU, that is computed in the type of the values, else in float64.
    """
    values = at_least_float32(x)
    keep, dtype, centre = constants.alpha_forward, values.dtype if fast else torch.float64, values
    if x.dim() == 3:
        centre = values.mean(space)
        z = values - centre.unsqueeze(space)
        variance = torch.linalg.vector_norm(z, dim=space).square() / x.shape[space]
    table = deviations(keep, mean.to(dtype), centre.to(dtype))
    mean = mean + table[0]
    table[0].zero_()
    var = var.to(dtype)
    moves = torch.addcmul(-var, table, table, value=keep)
    if x.dim() == 3:
        moves[1:].add_(variance)
    variances = moving_averages(keep, var, moves)
    scale = (variances + constants.eps).to(values.dtype).rsqrt_()
    table = table.to(values.dtype).mul_(scale)
    scale, y = scale[1:], table[1:]
    gamma, beta = _affine(weight, bias, like=y)
    p = torch.addcmul(beta, y, gamma)
    spread = (centre, variance * scale.square()) if x.dim() == 3 else ()
    if constants.compensation == "layer-scaling":
        square = torch.addcmul(p.square(), spread[1], gamma.square()) if spread else p.square()
        gain = _over_features(square, lanes).add_(SCALING_EPS).rsqrt_()
    else:
        gain = torch.ones_like(p)
    z = _line_(z, gamma * scale * gain, p * gain, space) if spread else p * gain
    if constants.compensation == "clamp":
        z = hardtanh(z, -constants.clamp, constants.clamp)
    return z.to(x.dtype), mean, variances[0], Samples(scale, table, p, gain, *spread)


def backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    samples: Samples,
    u: Tensor,
    v: Tensor,
    fast: bool,
    constants: Constants,
    space: int,
    lanes: int,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Return the gradients of x, gamma and beta; move u and v, in the type of y if `fast`, else in float64."""
    scale, table, p, gain, centre, var = samples
    y = table[1:]
    gamma, _ = _affine(weight, bias, like=y)
    g = at_least_float32(grad)
    if constants.compensation == "clamp":
        bounded = (
            p if centre is None else _line_(at_least_float32(x) - centre.unsqueeze(space), gamma * scale, p, space)
        )
        g = torch.ops.aten.hardtanh_backward(g, bounded, -constants.clamp, constants.clamp)
    # The mean over the space of the gradient, and how it varies with y there.
    g_mean, along_y = g, None
    if centre is not None:
        g_mean, along_x = _means(g, x, centre, space, fast)
        along_y = along_x * scale

    mean, pull = g_mean, None
    if constants.compensation == "layer-scaling":
        # The gradient of p is gain * g - pull * p.
        product = g_mean * p if along_y is None else torch.addcmul(g_mean * p, along_y, gamma)
        share = _over_features(product, lanes) * gain.square()
        mean = torch.addcmul(g_mean, p, share, value=-1).mul_(gain)
        if along_y is not None and var is not None:
            pull = share * gain
            along_y = along_y * gain - pull * gamma * var
    gy = mean * y if along_y is None else torch.addcmul(along_y, mean, y)

    along, dx = _control(scale, table, mean * gamma, gy * gamma, var, u, v, constants, fast)
    if centre is not None:
        gy, mean = gy * x.shape[space], mean * x.shape[space]
    dweight = None if weight is None else gy.sum(0).to(weight.dtype)
    dbias = None if bias is None else mean.sum(0).to(bias.dtype)
    if centre is None:
        return dx.to(x.dtype), dweight, dbias
    # dx is the mean over the space so far.
    slope = gamma * gain * scale
    along = along * (1 - constants.alpha_backward)
    turn = -scale.square() * (along if pull is None else torch.addcmul(along, pull, gamma.square()))
    line = _line(x, centre, turn, dx - slope * g_mean, space, fast)
    slope = slope.unsqueeze(space)
    # In place vmap would compute it lane by lane.
    dx = line.addcmul_(g, slope) if fast else torch.addcmul(line, g, slope)
    return dx.to(x.dtype), dweight, dbias


def _control(
    scale: Tensor,
    y: Tensor,
    g: Tensor,
    gy: Tensor,
    var: Tensor | None,
    u: Tensor,
    v: Tensor,
    constants: Constants,
    fast: bool,
) -> tuple[Tensor, Tensor]:
    """Return v before each sample, and the mean of the gradient of x; move u and v.

    All that is given is over the space: the means y (as in `Samples`), g of the gradient of y, and gy of g y, and the
    variance of y. With keep = alpha_backward, the definition is, from one sample to the next,

        a = g - (1 - keep) v y                v <- v + mean(a y)
        dx = scale * a - (1 - keep) u         u <- u + mean(dx)

    where v and u are those before the sample. Written out, v is a linear recurrence, and (1 - keep) u a moving average.
    """
    keep, dtype = constants.alpha_backward, y.dtype if fast else torch.float64
    rate, exact = 1 - keep, y.to(dtype)
    factors = torch.addcmul(exact.new_ones(()), exact, exact, value=-rate)
    if var is not None:
        factors[1:].sub_(var, alpha=rate)
    errors = linear_recurrence(factors, torch.cat([v.reshape(1, -1).to(dtype), gy.to(dtype)]), fast)
    v.copy_(errors[-1].view_as(v))
    errors = errors[:-1].to(y.dtype)
    a = torch.addcmul(g, errors, y[1:], value=-rate).mul_(scale)
    dx = deviations(keep, u.flatten().to(dtype) * rate, a.to(dtype))
    u.add_(dx[0].view_as(u), alpha=1 / rate)
    return errors, dx[1:].to(y.dtype)


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


def _line(x: Tensor, centre: Tensor, slope: Tensor, intercept: Tensor, space: int, fast: bool) -> Tensor:
    """Return slope * (x - centre) + intercept; these three are (N, C)."""
    values = at_least_float32(x)
    if fast and space == 2:
        # Batch norm with a channel for each sample and channel is one pass over x.
        rows, one = values.reshape(1, centre.numel(), x.shape[2]), torch.ones_like(centre).flatten()
        return batch_norm(rows, centre.flatten(), one, slope.flatten(), intercept.flatten(), eps=0).view(x.shape)
    return _line_(values - centre.unsqueeze(space), slope, intercept, space)


def _line_(values: Tensor, slope: Tensor, intercept: Tensor, space: int) -> Tensor:
    """Return slope * values + intercept, in place; slope and intercept are (N, C)."""
    return values.mul_(slope.unsqueeze(space)).add_(intercept.unsqueeze(space))


def _means(g: Tensor, x: Tensor, centre: Tensor, space: int, fast: bool) -> tuple[Tensor, Tensor]:
    """Return the means of g and of g * (x - centre) over the space, (N, C)."""
    values, size = at_least_float32(x), x.shape[space]
    if fast and space == 2:
        shape, one = (1, centre.numel(), size), torch.ones_like(centre).flatten()
        tensors = (g.reshape(shape), values.reshape(shape), one, None, None, centre.flatten(), one)
        _, along, total = torch.ops.aten.native_batch_norm_backward(*tensors, True, 0, [False, True, True])
        return total.div_(size).view_as(centre), along.div_(size).view_as(centre)
    return g.mean(space), (values - centre.unsqueeze(space)).mul_(g).mean(space)

"""The forward and backward of online normalization, on x as (N, C, S) or (N, S, C): see `online_norm`."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import hardtanh

from normbench_plugins.layers.recurrences import linear_recurrence, moving_averages
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


def forward(
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


def backward(
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

"""Streaming normalization (Liao, Kawaguchi & Poggio 2016, arXiv 1610.06160), as in the first author's later code.

The input is normalized by statistics that are a mix of long-term and short-term averages, and so is the gradient of
these statistics, before it goes on to the input. Short-term is since the last update of the weights, over the current
batch and all others that were accumulated for one update; at the update, which `after_step` tells of, the long-term
averages take in the short-term ones.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

import normbench
from normbench_plugins.layers.affine import add_affine
from normbench_plugins.layers.moments import moments
from normbench_plugins.layers.state import Float32State
from normbench_plugins.layers.tokens import OverTokens

#: A scale that is divided by is at least this: below it float32 has no room for the quotient.
TINY = 1e-20


class Stream(Float32State):
    """The averages of two values per channel, (2, C): one since the last weight update, and a long-term one of these.

    The first is sum / count. Until the first update it also stands for the long-term one, and `started`, 1 from then
    on, is 0.
    """

    sum: Tensor
    count: Tensor
    long_term: Tensor
    started: Tensor

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.register_buffer("sum", torch.zeros_like(start))
        self.register_buffer("count", torch.zeros(1, 1))
        self.register_buffer("long_term", start)
        self.register_buffer("started", torch.zeros(1, 1))

    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the state as `mixed` takes it."""
        return self.sum, self.count, self.long_term, self.started

    def update(self, kappa: float) -> None:
        """Move the long-term average to the other by the share `kappa`, and begin that anew; without values nothing."""
        any_came = self.count > 0
        short = self.sum / self.count
        moved = torch.where(self.started > 0, torch.lerp(self.long_term, short, kappa), short)
        self.long_term.copy_(torch.where(any_came, moved, self.long_term))
        self.started.masked_fill_(any_came, 1)
        self.sum.zero_()
        self.count.zero_()


def mixed(
    new: Tensor,
    total: Tensor,
    count: Tensor,
    long_term: Tensor,
    started: Tensor,
    *,
    of_long: float,
    of_new: float = 0.0,
) -> Tensor:
    """Add new values to a stream; return the mix of its long-term average, the new values and, for the rest, the other.

    `of_long` and `of_new` are shares. The tensors of the stream may have lanes as their first axis.
    """
    total.add_(new)
    count.add_(1)
    short = total / count
    mix = torch.addcmul(short, long_term - short, started, value=of_long)
    return torch.add(mix, new - short, alpha=of_new) if of_new else mix


class Constants(NamedTuple):
    """The parameters of a layer, beside `affine`."""

    p: int
    alpha: float
    beta: float
    own: float
    kappa: float
    eps: float


class StreamingNormalization(torch.autograd.Function):
    """What `StreamingNorm` does in training, once it has moved the statistics.

    It takes the input (N, C, ...), gamma and beta or None, the batch's own mean and scale and the streamed ones, (2, C)
    each, the stream of their gradients, which the backward writes to, and the constants. Where `vmap` calls it the
    lanes lie side by side in the channels, but in the stream, (2, lanes, C).
    """

    @staticmethod
    def forward(
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        measured: Tensor,  # noqa: ARG004 - the backward's, as the stream
        statistics: Tensor,
        *others: Any,
    ) -> Tensor:
        """Return gamma (x - mean) / (scale + eps) + beta by the streamed statistics."""
        return _normalized(x, weight, bias, statistics, others[-1].eps)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG004 - torch's signature
        """Keep what the backward needs; the stream on `ctx`, as a saved tensor may not change before its backward."""
        x, weight, bias, measured, statistics, *ctx.stream, ctx.constants = inputs
        ctx.save_for_backward(x, weight, bias, measured, statistics)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradient of x, with that of the statistics streamed, and those of gamma and beta."""
        x, weight, bias, measured, statistics = ctx.saved_tensors
        constants = ctx.constants
        mean, scale = statistics.unbind()
        inverse = (scale + constants.eps).reciprocal()
        slope = inverse if weight is None else weight.to(x.dtype) * inverse
        # With a deviation of 1, the sums are of grad (x - mean) and of grad.
        one, mask = torch.ones_like(mean), [True, True, True]
        dx, along, total = torch.ops.aten.native_batch_norm_backward(
            grad, x, slope, mean, one, None, None, False, 0.0, mask
        )
        along = along * inverse
        of_statistics = torch.stack([total, along]).mul_(-slope)
        of_statistics = of_statistics.view_as(ctx.stream[0])
        streamed = mixed(of_statistics, *ctx.stream, of_long=constants.beta, of_new=constants.own).flatten(1)
        columns = [2, 1, -1, *[1] * (x.dim() - 2)]
        of_mean, of_scale = (streamed * (mean.numel() / x.numel())).view(columns).unbind()
        mean, scale = measured.view(columns).unbind()
        deviation = x - mean
        if constants.p == 1:
            deviation.sign_()
            of_mean = of_mean - of_scale * deviation.mean([0, *range(2, x.dim())], keepdim=True)
        else:
            # Where all values are equal the deviation is 0, and so is the gradient.
            of_scale = of_scale / scale.clamp(min=TINY)
        dx.addcmul_(deviation, of_scale).add_(of_mean)
        return (
            dx,
            None if weight is None else along.to(weight.dtype),
            None if bias is None else total.to(bias.dtype),
            *[None] * 7,
        )

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> tuple[Tensor, int]:
        """Compute all lanes at once, side by side in the channels."""
        first, second = (partial(_lanes_at, axis, info.batch_size) for axis in (0, 1))
        x, weight, bias, measured, statistics, *stream, constants = inputs
        of_x, of_weight, of_bias, of_measured, of_statistics, *of_stream = in_dims[:-1]
        y = StreamingNormalization.apply(
            second(x, of_x).flatten(1, 2),
            None if weight is None else first(weight, of_weight).flatten(),
            None if bias is None else first(bias, of_bias).flatten(),
            second(measured, of_measured).flatten(1),
            second(statistics, of_statistics).flatten(1),
            # Not flattened, which could copy: the backward writes to them.
            *map(second, stream, of_stream),
            constants,
        )
        return y.unflatten(1, (info.batch_size, -1)), 1


class StreamingNorm(Float32State):
    """Streaming norm of inputs (N, C), (N, C, L) or (N, C, H, W), with statistics of each channel over batch and space.

    Of a batch they are its mean and its scale, (mean |x - mean|^p)^(1/p). Training, with `mean` and `scale` the mix of
    the share `alpha` of their long-term averages and, for the rest, of those since the last weight update:

        y = gamma (x - mean) / (scale + eps) + beta

    The gradients of mean and scale are mixed likewise: the share `beta` long-term, the share `own` of this backward,
    the rest since the last update; the mix is taken for the gradient of the batch's own mean and scale. `kappa` is the
    weight of the new in long-term averages. Evaluation takes the long-term statistics, 0 and 1 until an update.

    A forward in training moves the statistics, under `no_grad` too, and a backward the gradients. Both are computed in
    the type of the state, which is never half precision. Raises ValueError where beta and own are above 1 together, and
    in training for a batch with one value a channel, which has no scale.
    """

    weight: nn.Parameter | None
    bias: nn.Parameter | None

    def __init__(self, channels: int, constants: Constants, *, affine: bool) -> None:
        super().__init__()
        if constants.beta + constants.own > 1:
            raise ValueError(
                f"beta is {constants.beta} and own is {constants.own}; they are shares of one mix, at most 1 together"
            )
        self.constants = constants
        add_affine(self, channels, affine)
        self.statistics = Stream(torch.stack([torch.zeros(channels), torch.ones(channels)]))
        self.gradients = Stream(torch.zeros(2, channels))

    def after_step(self, step: int, steps: int) -> None:  # noqa: ARG002 - the contract's signature
        """Take in what has come since the last weight update."""
        self.statistics.update(self.constants.kappa)
        self.gradients.update(self.constants.kappa)

    def forward(self, x: Tensor) -> Tensor:
        """Return x normalized, with its shape, type and memory format."""
        values = x.to(self.statistics.long_term.dtype)
        return (self._train(values) if self.training and x.numel() else self._evaluate(values)).to(x.dtype)

    def _train(self, x: Tensor) -> Tensor:
        if x.numel() == x.shape[1]:
            raise ValueError(f"Expected more than 1 value per channel when training, got input size {tuple(x.shape)}")
        with torch.no_grad():
            measured = _measured(x, self.constants.p)
            statistics = mixed(measured, *self.statistics.tensors(), of_long=self.constants.alpha)
        y: Tensor = StreamingNormalization.apply(
            x, self.weight, self.bias, measured, statistics, *self.gradients.tensors(), self.constants
        )
        return y

    def _evaluate(self, x: Tensor) -> Tensor:
        return _normalized(x, self.weight, self.bias, self.statistics.long_term, self.constants.eps)


def _measured(x: Tensor, p: int) -> Tensor:
    """Return mean and scale of each channel, (2, C)."""
    over = [0, *range(2, x.dim())]
    if p == 2:
        mean, var = moments(x, over)
        scale = var.sqrt()
    else:
        mean = x.mean(over, keepdim=True)
        scale = (x - mean).abs().mean(over, keepdim=True)
    return torch.stack([mean.flatten(), scale.flatten()])


def _normalized(x: Tensor, weight: Tensor | None, bias: Tensor | None, statistics: Tensor, eps: float) -> Tensor:
    """Return gamma (x - mean) / (scale + eps) + beta."""
    mean, scale = statistics.unbind()
    scale = scale + eps
    slope = scale.reciprocal() if weight is None else weight.to(x.dtype) / scale
    intercept = None if bias is None else bias.to(x.dtype)
    # Not the scale as a deviation: squared, it could be 0.
    return functional.batch_norm(x, mean, torch.ones_like(mean), slope, intercept, eps=0.0)


def _lanes_at(axis: int, lanes: int, tensor: Tensor, dim: int | None) -> Tensor:
    """Return a view with the lanes as the given axis; a tensor without lanes is repeated."""
    return (tensor.expand(lanes, *tensor.shape) if dim is None else tensor.movedim(dim, 0)).movedim(0, axis)


def layer(
    site: normbench.Site,
    p: int = 2,
    alpha: float = 0.5,
    beta: float = 0.5,
    own: float = 0.0,
    kappa: float = 0.3,
    eps: float = 1e-5,
    affine: bool = True,
) -> nn.Module:
    """Return streaming norm; in NLC over all tokens of the batch."""
    built = StreamingNorm(site.channels, Constants(p, alpha, beta, own, kappa, eps), affine=affine)
    return OverTokens(built) if site.layout == "NLC" else built

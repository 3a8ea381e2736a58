"""Streaming normalization (Liao, Kawaguchi & Poggio 2016, arXiv 1610.06160), as in the first author's later code.

The input is normalized by statistics that are a mix of long-term and short-term averages, and so is the gradient of
these statistics, before it goes on to the input. Short-term is since the last update of the weights, over the current
batch and all others that were accumulated for one update; at the update, which `after_step` tells of, the long-term
averages take in the short-term ones.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

import normbench
from normbench_plugins.layers.affine import add_affine
from normbench_plugins.layers.moments import moments
from normbench_plugins.layers.state import Float32State
from normbench_plugins.layers.tokens import OverTokens


class Stream(Float32State):
    """The averages of two values per channel, (2, C): one since the last weight update, and a long-term one of these.

    The first is sum / count. Until the first update, where `started` is False, it also stands for the long-term one.
    """

    sum: Tensor
    count: Tensor
    long_term: Tensor
    started: Tensor

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.register_buffer("sum", torch.zeros_like(start))
        self.register_buffer("count", torch.zeros(1, 1, dtype=torch.long))
        self.register_buffer("long_term", start)
        self.register_buffer("started", torch.zeros(1, 1, dtype=torch.bool))

    def tensors(self) -> tuple[Tensor, ...]:
        """Return the state as `mixed` takes it."""
        return self.sum, self.count, self.long_term, self.started

    def update(self, kappa: float) -> None:
        """Move the long-term average to the other by the share `kappa`, and begin that anew; without values nothing."""
        short = self.sum / self.count
        moved = torch.where(self.started, torch.lerp(self.long_term, short, kappa), short)
        self.long_term.copy_(torch.where(self.count > 0, moved, self.long_term))
        self.started.logical_or_(self.count > 0)
        self.sum.zero_()
        self.count.zero_()


def mixed(
    new: Tensor, total: Tensor, count: Tensor, long_term: Tensor, started: Tensor, of_long: float, of_new: float = 0.0
) -> Tensor:
    """Add new values to a stream; return the mix of its long-term average, the new values and, for the rest, the other.

    `of_long` and `of_new` are shares. The tensors of the stream may have lanes as their first axis.
    """
    total.add_(new)
    count.add_(1)
    short = total / count
    mix = short + of_long * started * (long_term - short)
    return mix + of_new * (new - short) if of_new else mix


class Streamed(torch.autograd.Function):
    """The streamed statistics (2, C), as a function of the input, whose gradient is streamed as well.

    It takes the input (N, C, ...), its own mean and scale and the streamed ones, (2, C) each, the gradient's stream, p,
    the shares of the long-term and of the own gradient, and the number of the input's axes behind C. Each tensor may
    have lanes as its first axis. The backward writes to the stream.
    """

    @staticmethod
    def forward(
        x: Tensor,  # noqa: ARG004 - the backward's, as all the others
        measured: Tensor,  # noqa: ARG004
        statistics: Tensor,
        *others: Any,  # noqa: ARG004
    ) -> Tensor:
        """Return the streamed statistics."""
        return statistics.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG004 - torch's signature
        """Keep what the backward needs; the stream on `ctx`, as a saved tensor may not change before its backward."""
        x, measured, _, *ctx.stream, ctx.p, ctx.beta, ctx.own, ctx.space = inputs
        ctx.save_for_backward(x, measured)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the streamed gradient of mean and scale, times their derivatives by each value of the input."""
        x, measured = ctx.saved_tensors
        over = [-2 - ctx.space, *range(-ctx.space, 0)]
        size = x.numel() // measured[..., 0, :].numel()
        columns = (..., None, slice(None), *[None] * ctx.space)
        streamed = mixed(grad, *ctx.stream, ctx.beta, ctx.own) / size
        of_mean, of_scale = (streamed[..., row, :][columns] for row in (0, 1))
        mean, scale = (measured[..., row, :][columns] for row in (0, 1))
        if ctx.p == 1:
            sign = (x - mean).sign()
            dx = torch.addcmul(of_mean - of_scale * sign.mean(over, keepdim=True), sign, of_scale)
        else:
            # Where all values are equal the scale has no derivative: 0, of those that it could have.
            dx = torch.addcmul(of_mean, x - mean, torch.where(scale > 0, of_scale / scale, 0))
        return dx, *[None] * 10

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> tuple[Tensor, int]:
        """Compute all lanes at once, with the lanes as the first axis."""
        lanes_first = (
            one if not isinstance(one, Tensor) else one.movedim(dim, 0) if dim is not None else one.expand(info.batch_size, *one.shape)
            for one, dim in zip(inputs, in_dims, strict=True)
        )
        return Streamed.apply(*lanes_first), 0


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

    def __init__(
        self,
        channels: int,
        *,
        p: int,
        alpha: float,
        beta: float,
        own: float,
        kappa: float,
        eps: float,
        affine: bool,
    ) -> None:
        super().__init__()
        if beta + own > 1:
            raise ValueError(f"beta is {beta} and own is {own}; they are shares of one mix, at most 1 together")
        self.p, self.alpha, self.beta, self.own, self.kappa, self.eps = p, alpha, beta, own, kappa, eps
        add_affine(self, channels, affine)
        self.statistics = Stream(torch.stack([torch.zeros(channels), torch.ones(channels)]))
        self.gradients = Stream(torch.zeros(2, channels))

    def after_step(self, step: int, steps: int) -> None:  # noqa: ARG002 - the contract's signature
        """Take in what has come since the last weight update."""
        self.statistics.update(self.kappa)
        self.gradients.update(self.kappa)

    def forward(self, x: Tensor) -> Tensor:
        """Return x normalized, with its shape, type and memory format."""
        values = x.to(self.statistics.long_term.dtype)
        statistics = self._streamed(values) if self.training and x.numel() else self.statistics.long_term
        mean, scale = statistics.unbind()
        slope = 1 / (scale + self.eps) if self.weight is None else self.weight.to(values.dtype) / (scale + self.eps)
        # batch_norm takes the mean for a constant: its gradient comes by the intercept.
        intercept = (mean.detach() - mean) * slope
        if self.bias is not None:
            intercept = intercept + self.bias.to(values.dtype)
        one = torch.ones_like(scale)
        return functional.batch_norm(values, mean.detach(), one, slope, intercept, eps=0.0).to(x.dtype)

    def _streamed(self, x: Tensor) -> Tensor:
        """Return the statistics that normalize a batch in training, (2, C), after it has moved them."""
        if x.numel() == x.shape[1]:
            raise ValueError(f"Expected more than 1 value per channel when training, got input size {tuple(x.shape)}")
        with torch.no_grad():
            measured = _measured(x, self.p)
            statistics = mixed(measured, *self.statistics.tensors(), self.alpha)
        streamed: Tensor = Streamed.apply(
            x, measured, statistics, *self.gradients.tensors(), self.p, self.beta, self.own, x.dim() - 2
        )
        return streamed


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
    built = StreamingNorm(
        site.channels, p=p, alpha=alpha, beta=beta, own=own, kappa=kappa, eps=eps, affine=affine
    )
    return OverTokens(built) if site.layout == "NLC" else built

"""Batch renormalization (Ioffe 2017, arXiv 1702.03275), with its clips on a schedule."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

import normbench
from normbench_plugins.layers.moments import moments
from normbench_plugins.layers.over_batch import OverBatch
from normbench_plugins.layers.state import move
from normbench_plugins.layers.tokens import OverTokens


class BatchRenorm(OverBatch):
    """Batch renorm of inputs (N, C), (N, C, L) or (N, C, H, W): batch norm, corrected towards its running statistics.

    Training, with mu_B and sigma_B = sqrt(var_B + eps) of each channel over the batch and space, biased:

        r = clip(sigma_B / sigma, 1 / r_limit, r_limit)
        d = clip((mu_B - mu) / sigma, -d_limit, d_limit)
        y = gamma (r (x - mu_B) / sigma_B + d) + beta

    where no gradient flows through r and d. After that mu and sigma, `running_mean` and `running_std`, move to mu_B and
    sigma_B by the share `momentum`: sigma is an average of standard deviations. Evaluation:
    y = gamma (x - mu) / sigma + beta.

    The limits are r_max and d_max until `on_step` says otherwise. They are part of the state, so that a training that
    is loaded goes on with the step it would have made. Statistics are computed in the type of the state, which is never
    half precision. A batch without a sample moves nothing. Raises ValueError for a parameter out of its range, and in
    training for a batch with one value a channel, where every gradient would be 0.
    """

    running_std: Tensor
    r_limit: Tensor
    d_limit: Tensor

    def __init__(
        self,
        channels: int,
        *,
        r_max: float,
        d_max: float,
        momentum: float,
        eps: float,
        affine: bool,
        warmup: float,
        r_ramp: float,
        d_ramp: float,
    ) -> None:
        super().__init__(channels, eps=eps, momentum=momentum, affine=affine, spread="running_std")
        for name, end in {"r_ramp": r_ramp, "d_ramp": d_ramp}.items():
            if end < warmup:
                raise ValueError(f"{name} is {end}; it is a share of the run, from warmup ({warmup}) to 1")
        self.r_max, self.d_max = r_max, d_max
        self.warmup, self.r_ramp, self.d_ramp = warmup, r_ramp, d_ramp
        self.register_buffer("r_limit", torch.tensor(float(r_max)))
        self.register_buffer("d_limit", torch.tensor(float(d_max)))

    def on_step(self, step: int, steps: int) -> None:
        """Set the limits for a step, counted from 0, out of `steps`.

        They are 1 and 0, which is batch norm, until `warmup` of the run, and then grow linearly: to r_max at `r_ramp`,
        to d_max at `d_ramp`, all three counted from the start of the run.
        """
        at = step / steps
        self.r_limit.fill_(1 + (self.r_max - 1) * _ramp(at, self.warmup, self.r_ramp))
        self.d_limit.fill_(self.d_max * _ramp(at, self.warmup, self.d_ramp))

    def train_on(self, x: Tensor) -> Tensor:
        """Return x by its own mean and deviation, corrected towards the running ones."""
        if x.numel() == x.shape[1]:
            raise ValueError(f"Expected more than 1 value per channel when training, got input size {tuple(x.shape)}")
        with torch.no_grad():
            mean, var = (one.flatten() for one in moments(x, [0, *range(2, x.dim())]))
            std = (var + self.eps).sqrt()
            r = (std / self.running_std).clamp(1 / self.r_limit, self.r_limit)
            d = ((mean - self.running_mean) / self.running_std).clamp(-self.d_limit, self.d_limit)
            move(self.running_mean, mean, self.momentum)
            move(self.running_std, std, self.momentum)
        weight, bias = self.affine(x)
        if weight is None or bias is None:
            weight, bias = r, d
        else:
            weight, bias = weight * r, torch.addcmul(bias, weight, d)
        return functional.batch_norm(x, None, None, weight, bias, training=True, eps=self.eps)

    def evaluate(self, x: Tensor) -> Tensor:
        """Return x by the running averages."""
        # batch_norm adds eps to the variance; running_std has it in it.
        var = self.running_std.square() - self.eps
        return functional.batch_norm(x, self.running_mean, var, *self.affine(x), eps=self.eps)


def layer(
    site: normbench.Site,
    r_max: float = 3.0,
    d_max: float = 5.0,
    momentum: float = 0.01,
    eps: float = 1e-5,
    affine: bool = True,
    warmup: float = 0.125,
    r_ramp: float = 1.0,
    d_ramp: float = 0.625,
) -> nn.Module:
    """Return batch renorm; in NLC over all tokens of the batch."""
    built = BatchRenorm(
        site.channels,
        r_max=r_max,
        d_max=d_max,
        momentum=momentum,
        eps=eps,
        affine=affine,
        warmup=warmup,
        r_ramp=r_ramp,
        d_ramp=d_ramp,
    )
    return OverTokens(built) if site.layout == "NLC" else built


def _ramp(at: float, start: float, end: float) -> float:
    """Return how far `at` is on the way from start to end, from 0 to 1; where they are one point, 1 from there on."""
    if at >= end:
        return 1.0
    return (at - start) / (end - start) if at > start else 0.0

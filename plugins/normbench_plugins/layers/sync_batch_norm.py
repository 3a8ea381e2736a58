"""Batch normalization whose statistics are those of the whole batch, wherever its samples are computed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.autograd.function import once_differentiable
from torch.nn import functional

# nn.SyncBatchNorm itself is refused by DDP on a CPU.
from torch.nn.modules._functions import SyncBatchNorm as OnCuda

import normbench
from normbench_plugins.layers.rows import at_least_float32, per_channel
from normbench_plugins.layers.tokens import OverTokens


class SyncBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch norm of inputs (N, C), (N, C, L) or (N, C, H, W), with statistics over the batches of a group's ranks.

    In training the mean and the biased variance of a channel are over all samples and positions on all ranks of
    `group`, a torch.distributed process group, and gradients flow through both; running averages take the unbiased
    variance over them all. The ranks may have different numbers of samples. The gradients of gamma and beta are those
    of this rank's samples: DDP reduces them. In evaluation nothing is sent.

    On CUDA it computes as torch.nn.SyncBatchNorm does, elsewhere by all-reduces. Raises ValueError in training for a
    batch with one value a channel, all ranks taken together.
    """

    def __init__(self, channels: int, *, eps: float, momentum: float, group: Any) -> None:
        super().__init__(channels, eps=eps, momentum=momentum)
        self.group = group

    def forward(self, x: Tensor) -> Tensor:
        """Return x normalized, with its shape and type."""
        mean, var = self.running_mean, self.running_var
        if not self.training:
            return functional.batch_norm(x, mean, var, self.weight, self.bias, eps=self.eps)
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        normalized: Tensor = self._on_cuda(x) if x.is_cuda else self._reduced(x)
        return normalized

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _on_cuda(self, x: Tensor) -> Any:
        mean, var, ranks = self.running_mean, self.running_var, dist.get_world_size(self.group)
        return OnCuda.apply(x, self.weight, self.bias, mean, var, self.eps, self.momentum, self.group, ranks)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _reduced(self, given: Tensor) -> Tensor:
        """Normalize with the mean first, and the squares around it: their difference would lose digits."""
        x = at_least_float32(given)
        over = [0, *range(2, x.dim())]
        local = x.new_tensor([x.numel() // x.shape[1]])
        sums: Tensor = _Sum.apply(torch.cat([x.sum(over), local]), self.group)
        mean, count = sums[:-1] / sums[-1], sums[-1].detach()
        if count <= 1:
            raise ValueError(f"Expected more than 1 value per channel when training, got input size {tuple(x.shape)}")
        centred = x - per_channel(mean, "NCHW"[: x.dim()])
        var: Tensor = _Sum.apply(centred.square().sum(over), self.group) / count
        self._follow(mean.detach(), var.detach() * count / (count - 1))
        scale = self.weight * (var + self.eps).rsqrt()
        layout = "NCHW"[: x.dim()]
        return (centred * per_channel(scale, layout) + per_channel(self.bias, layout)).to(given.dtype)

    def _follow(self, mean: Tensor, var: Tensor) -> None:
        """Move the running averages."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.momentum is not None
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
        self.running_var.lerp_(var.to(self.running_var.dtype), self.momentum)


class _Sum(torch.autograd.Function):
    """The sum over a group's ranks; its gradient is the sum of theirs, as each rank's loss depends on every term."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, group: Any) -> Tensor:
        ctx.group = group
        total = values.clone()
        dist.all_reduce(total, group=group)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        total = gradient.clone()
        dist.all_reduce(total, group=ctx.group)
        return total, None


def layer(site: normbench.Site, eps: float = 1e-5, momentum: float = 0.1) -> nn.Module:
    """Return batch norm over the ranks of the site's group, in NLC over all their tokens; alone, torch's batch norm."""
    built: nn.Module
    if site.group is not None:
        built = SyncBatchNorm(site.channels, eps=eps, momentum=momentum, group=site.group)
    else:
        kind = nn.BatchNorm2d if site.layout == "NCHW" else nn.BatchNorm1d
        built = kind(site.channels, eps=eps, momentum=momentum)
    return OverTokens(built) if site.layout == "NLC" else built

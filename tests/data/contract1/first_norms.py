"""A norm of every placement, as docs/plugins.md of the contract's first version has them."""

import torch
from torch import nn

import normbench


class Blend(nn.Module):
    """(1 - share) x + share norm(x), where share goes from 0 to 1 over the first half of training."""

    def __init__(self, groups, channels, eps):
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, eps)
        self.register_buffer("share", torch.zeros(()))

    def on_step(self, step, steps):
        self.share.fill_(min(1.0, 2 * step / steps))

    def forward(self, x):
        return (1 - self.share) * x + self.share * self.norm(x)


def blend(site, groups=1, eps=1e-5):
    if site.channels % groups:
        raise normbench.Unsupported(f"{site.channels} channels don't divide into {groups} groups")
    return Blend(groups, site.channels, eps)


class RunningScale(nn.Module):
    """x divided by the root mean square of its channel over the batch; in evaluation, by a running one."""

    def __init__(self, channels, momentum):
        super().__init__()
        self.momentum = momentum
        self.register_buffer("running_square", torch.ones(channels))

    def forward(self, x):
        axes = [axis for axis in range(x.dim()) if axis != 1]
        square = self.running_square
        if self.training:
            square = x.square().mean(axes)
            self.running_square.lerp_(square.detach(), self.momentum)
        return x * (square + 1e-5).rsqrt().view(-1, *[1] * (x.dim() - 2))


class NormAndActivation(nn.Module):
    def __init__(self, channels, activation):
        super().__init__()
        self.norm = nn.GroupNorm(1, channels)
        self.activation = {"relu": nn.ReLU(), "tanh": nn.Tanh(), None: nn.Identity()}[activation]

    def forward(self, x):
        return self.activation(self.norm(x))


class Centred(nn.Module):
    """A linear or a convolution whose weights have mean 0 for each output."""

    def __init__(self, module, share):
        super().__init__()
        self.module, self.share = module, share

    def forward(self, x):
        weight = self.module.weight
        weight = weight - self.share * weight.mean(dim=tuple(range(1, weight.dim())), keepdim=True)
        if isinstance(self.module, nn.Linear):
            return nn.functional.linear(x, weight, self.module.bias)
        return nn.functional.conv2d(x, weight, self.module.bias, self.module.stride, self.module.padding)


@normbench.hookimpl
def normbench_norms():
    maps = {"NC", "NCL", "NCHW"}
    yield normbench.Norm(
        "first-blend",
        blend,
        summary="Fades group norm in",
        layouts=maps,
        traits=lambda groups, eps: normbench.Traits(scale_invariant=eps == 0, batch_size_1="spatial"),
    )
    yield normbench.Norm(
        "first-running",
        lambda site, momentum=0.1: RunningScale(site.channels, momentum),
        summary="Divides by the root mean square over the batch",
        layouts=maps,
        placement="after",
        traits=normbench.Traits(
            batch_dependent=True,
            rank_dependent=True,
            state=("running_square",),
            scale_invariant=True,
            eval_differs=True,
        ),
        paper="Nowhere",
    )
    yield normbench.Norm(
        "first-fused",
        lambda site: NormAndActivation(site.channels, site.activation),
        summary="Layer norm and its activation",
        layouts=maps,
        placement="fused",
    )
    yield normbench.Norm(
        "first-weight",
        lambda site, module, share=1.0: Centred(module, share),
        summary="Centres weights",
        placement="weight",
        traits=normbench.Traits(),
    )

"""A plugin with sound layers of other people: torch's, timm's and x-transformers'. No check may fail one of them.

What is declared as expected to fail is what these layers are known to do; each has its reason.
"""

import warnings

import torch
from torch import nn
from torch.nn.utils import parametrizations

import normbench
from normbench import Traits

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # they decorate functions with torch.jit.script, which is deprecated
    import timm.layers as timm
    import x_transformers.x_transformers as xt
    from timm.layers.grn import GlobalResponseNorm

BATCH = {"batch_dependent": True, "rank_dependent": True, "batch_size_1": "spatial", "eval_differs": True}
STATE = ("running_mean", "running_var", "num_batches_tracked")


def norm(name, layer, *layouts, placement="before", expected=None, **traits):
    described = {"summary": "a sound layer", "layouts": set(layouts), "placement": placement}
    return normbench.Norm(name, layer, **described, traits=Traits(**traits), expected=expected or {})


def fused(kind, **params):
    """Return a layer of timm's that includes its activation, or leaves it out where the site has none."""
    return lambda site: kind(site.channels, apply_act=site.activation is not None, **params)


def halves(site):
    """Return two groups, where the channels divide."""
    return 1 + (site.channels % 2 == 0)


def evonorm_s0(site):
    return timm.EvoNorm2dS0(site.channels, groups=halves(site), apply_act=site.activation is not None)


def standardized(kind):
    """Return timm's convolution with standardized weights in the place of a convolution."""

    def layer(site, module):
        made = kind(module.in_channels, module.out_channels, module.kernel_size, padding=module.padding, bias=True)
        with torch.no_grad():
            made.weight.copy_(module.weight)
            made.bias.copy_(torch.zeros(module.out_channels) if module.bias is None else module.bias)
        return made

    return layer


@normbench.hookimpl
def normbench_norms():
    yield norm(
        "torch-batchnorm-2d", lambda site: nn.BatchNorm2d(site.channels), "NCHW",
        state=STATE, centres=True, scale_invariant=True, **BATCH,
    )  # fmt: skip
    yield norm(
        "torch-batchnorm-1d", lambda site: nn.BatchNorm1d(site.channels), "NC", "NCL",
        state=STATE, centres=True, scale_invariant=True, **BATCH,
    )  # fmt: skip
    yield norm(
        "torch-group-norm", lambda site: nn.GroupNorm(halves(site), site.channels), "NCL", "NCHW", scale_invariant=True,
        expected={"moments": "torch takes E[x^2] - E[x]^2 of what is channels last, on a CPU"},
    )  # fmt: skip
    yield norm("torch-layer-norm", lambda site: nn.LayerNorm(site.channels), "NC", "NLC", scale_invariant=True)
    yield norm(
        "torch-instance-norm", lambda site: nn.InstanceNorm2d(site.channels), "NCHW",
        centres=True, scale_invariant=True,
    )  # fmt: skip
    yield norm("torch-rms-norm", lambda site: nn.RMSNorm(site.channels, eps=1e-6), "NC", "NLC", scale_invariant=True)
    yield norm(
        "torch-weight-norm", lambda site, module: parametrizations.weight_norm(module), "NC", "NCHW", placement="weight"
    )
    yield norm("timm-layer-norm-2d", lambda site: timm.LayerNorm2d(site.channels), "NCHW", scale_invariant=True)
    yield norm("timm-rms-norm-2d", lambda site: timm.RmsNorm2d(site.channels), "NCHW", scale_invariant=True)
    yield norm("timm-evonorm-s0", evonorm_s0, "NCHW", placement="fused")
    yield norm(
        "timm-evonorm-b0", fused(timm.EvoNorm2dB0), "NCHW", placement="fused",
        state=("running_var",), scale_invariant=True, **BATCH,
        expected={"few values": "an empty batch makes its running variance nan"},
    )  # fmt: skip
    yield norm("timm-frn-tlu", fused(timm.FilterResponseNormTlu2d), "NCHW", placement="fused", scale_invariant=True)
    yield norm(
        "timm-batchnorm-act", fused(timm.BatchNormAct2d), "NCHW", placement="fused",
        state=STATE, centres=True, scale_invariant=True, **BATCH,
    )  # fmt: skip
    yield norm("timm-std-conv", standardized(timm.StdConv2d), "NCHW", placement="weight", scale_invariant=True)
    yield norm("timm-grn", lambda site: GlobalResponseNorm(site.channels, channels_last=False), "NCHW")
    yield norm("xt-dynamic-tanh", lambda site: xt.DynamicTanh(site.channels), "NC", "NLC")
    yield norm("xt-derf", lambda site: xt.Derf(site.channels), "NC", "NLC")
    yield norm("xt-rms-norm", lambda site: xt.RMSNorm(site.channels), "NC", "NLC", scale_invariant=True)
    yield norm("xt-scale-norm", lambda site: xt.ScaleNorm(site.channels), "NC", "NLC", scale_invariant=True)

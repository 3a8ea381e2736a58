"""Batch normalization (Ioffe & Szegedy 2015, arXiv 1502.03167), with torch's layers.

Training: y = gamma (x - mean) / sqrt(var + eps) + beta, with the mean and the biased variance of each channel over the
batch and space. Evaluation uses running averages, of the unbiased variance; `momentum` is the weight of the new batch.
"""

from __future__ import annotations

from torch import nn

import normbench
from normbench_plugins.layers.tokens import OverTokens


def layer(site: normbench.Site, eps: float = 1e-5, momentum: float = 0.1) -> nn.Module:
    """Return batch norm with gamma and beta; in NLC over all tokens of the batch."""
    return _layer(site, eps, momentum, affine=True)


def no_affine(site: normbench.Site, eps: float = 1e-5, momentum: float = 0.1) -> nn.Module:
    """Return batch norm without gamma and beta."""
    return _layer(site, eps, momentum, affine=False)


def after(site: normbench.Site, eps: float = 1e-5, momentum: float = 0.1, affine: bool = True) -> nn.Module:
    """Return batch norm for a place after the activation."""
    return _layer(site, eps, momentum, affine)


def _layer(site: normbench.Site, eps: float, momentum: float, affine: bool) -> nn.Module:
    kind = nn.BatchNorm2d if site.layout == "NCHW" else nn.BatchNorm1d
    built = kind(site.channels, eps=eps, momentum=momentum, affine=affine)
    return OverTokens(built) if site.layout == "NLC" else built

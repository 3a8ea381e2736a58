"""Lp batch norm (Hoffer et al. 2018, arXiv 1803.01814, section 4), also with the norm taken before the mean is off."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

import normbench
from normbench_plugins.definitions.state import State, over_batch


def lp_batchnorm(
    x: Tensor,
    site: normbench.Site,
    state: Mapping[str, Tensor],
    p: str,
    centred: bool,
    constant: bool,
    eps: float,
    training: bool,
) -> Tensor:
    """Return gamma (x - mean) / s + beta: of the batch in training, else of the running averages."""
    own, over = State(state, site), over_batch(site)
    if not training:
        return own.affine((x - own["running_mean"]) / own["running_scale"])
    mean = x.mean(over, keepdim=True)
    sizes = (x - mean if centred else x).abs()
    values = math.prod(x.shape) / site.channels
    if p == "1":
        d = sizes.mean(over, keepdim=True)
        normal = (math.pi / 2) ** 0.5
    elif p == "2":
        d = sizes.pow(2).mean(over, keepdim=True).sqrt()
        normal = 1.0
    else:
        d = sizes.amax(over, keepdim=True)
        normal = (1 + (math.pi * math.log(4)) ** 0.5) / 2 / (2 * math.log(values)) ** 0.5
    d = normal * d if constant else d
    return own.affine((x - mean) / (d.square() + eps).sqrt())

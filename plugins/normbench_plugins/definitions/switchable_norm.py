"""Switchable norm (Luo et al. 2018, arXiv 1806.10779)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

import normbench
from normbench_plugins.definitions.state import State, moments, over_batch, over_sample


def switchable_norm(x: Tensor, site: normbench.Site, state: Mapping[str, Tensor], eps: float, training: bool) -> Tensor:
    """Return gamma (x - mean) / sqrt(var + eps) + beta, with moments of instance, layer and batch, each weighted."""
    own = State(state, site)
    space = list(range(2, x.dim()))
    found = [moments(x, over) for over in (space, over_sample(site), over_batch(site))]
    if not training:
        found[2] = own["running_mean"], own["running_var"]
    of_mean, of_var = (state[name].double().softmax(0) for name in ("mean_logits", "var_logits"))
    mean = sum(weight * one for weight, (one, _) in zip(of_mean, found, strict=True))
    var = sum(weight * one for weight, (_, one) in zip(of_var, found, strict=True))
    return own.affine((x - mean) / (var + eps) ** 0.5)

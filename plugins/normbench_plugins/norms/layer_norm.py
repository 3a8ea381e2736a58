"""Layer normalization (Ba, Kiros & Hinton 2016, arXiv 1607.06450).

The flavour is named because there are several: the mean and the biased variance are taken over channels and space of
one sample, gamma and beta belong to channels (GroupNorm with one group). For tokens (NLC), over a token's channels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import normbench

if TYPE_CHECKING:
    from torch import nn


def layer(site: normbench.Site, eps: float = 1e-5) -> nn.Module:
    """Return layer norm over channels and space of a sample, with gamma and beta a channel."""
    from torch import nn

    if site.layout == "NLC":
        return nn.LayerNorm(site.channels, eps=eps)
    return nn.GroupNorm(1, site.channels, eps=eps)


NORMS = [
    normbench.Norm(
        "layer-norm",
        "normbench_plugins.norms.layer_norm:layer",
        summary="Layer norm over channels and space of a sample, gamma and beta per channel",
        params={"eps": 1e-5},
        traits=normbench.Traits(scale_invariant=True),
        paper="Ba, Kiros & Hinton 2016, arXiv 1607.06450",
    )
]

"""Layer scaling alone: the control that shows what online norm's compensation does without online norm.

gamma x + beta, divided by its root mean square over all features of a sample (Chiley et al. 2019, arXiv 1905.05894).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import normbench

if TYPE_CHECKING:
    from torch import nn


def layer(site: normbench.Site, eps: float = 1e-5, affine: bool = True) -> nn.Module:
    """Return layer scaling; in NLC over all tokens of a sample, as in online norm."""
    from normbench_plugins.layers.layer_scaling import LayerScaling

    return LayerScaling(site.channels, site.layout, eps=eps, affine=affine)


def traits(eps: float, affine: bool) -> normbench.Traits:  # noqa: ARG001 - traits take every parameter
    """Return the traits: beta is added before the scaling, and doesn't grow with the input."""
    return normbench.Traits(scale_invariant=not affine)


NORMS = [
    normbench.Norm(
        "layer-scaling",
        "normbench_plugins.norms.layer_scaling:layer",
        summary="A sample by its root mean square over all features: the control of online norm's compensation",
        params={"eps": 1e-5, "affine": True},
        traits=traits,
        paper="Chiley et al. 2019, arXiv 1905.05894",
    )
]

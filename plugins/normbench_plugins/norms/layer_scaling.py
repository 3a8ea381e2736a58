"""Layer scaling alone: the control that shows what online norm's compensation does without online norm.

gamma x + beta, divided by its root mean square over all features of a sample (Chiley et al. 2019, arXiv 1905.05894).
"""

from __future__ import annotations

import normbench
from normbench_plugins.limits import Positive


def traits(eps: float, affine: bool) -> normbench.Traits:  # noqa: ARG001 - traits take every parameter
    """Return the traits: beta is added before the scaling, and doesn't grow with the input."""
    return normbench.Traits(scale_invariant=not affine, mixes_positions=True)


NORMS = [
    normbench.Norm(
        "layer-scaling",
        "normbench_plugins.layers.layer_scaling:layer",
        summary="A sample by its root mean square over all features: the control of online norm's compensation",
        types={"eps": Positive},
        traits=traits,
        reference="normbench_plugins.definitions.online_norm:layer_scaling",
        paper="Chiley et al. 2019, arXiv 1905.05894",
    )
]

"""Group normalization (Wu & He 2018, arXiv 1803.08494)."""

from __future__ import annotations

import normbench
from normbench_plugins.limits import Count, Positive

NORMS = [
    normbench.Norm(
        "group-norm",
        "normbench_plugins.layers.group_norm:layer",
        summary="Group norm: groups of a sample's channels, gamma and beta per channel",
        types={"groups": Count, "eps": Positive},
        traits=normbench.Traits(scale_invariant=True),
        reference="normbench_plugins.definitions.group_norm:group_norm",
        paper="Wu & He 2018, arXiv 1803.08494",
    )
]

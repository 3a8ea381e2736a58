"""Filter response normalization with the thresholded linear unit (Singh & Krishnan 2019, arXiv 1911.09737)."""

from __future__ import annotations

import normbench
from normbench_plugins.limits import Positive

NORMS = [
    normbench.Norm(
        "frn-tlu",
        "normbench_plugins.layers.frn_tlu:layer",
        summary="Filter response norm: each channel of a sample by its root mean square; a learned threshold for relu",
        placement="fused",
        types={"eps": Positive},
        # Not scale_invariant: with one value per channel of a sample eps is learned, and need not stay small.
        traits=normbench.Traits(mixes_positions=True),
        reference="normbench_plugins.definitions.frn_tlu:frn_tlu",
        paper="Singh & Krishnan 2019, arXiv 1911.09737",
    )
]

"""Layer norm scaling (Sun et al. 2025, arXiv 2502.05795)."""

from __future__ import annotations

from typing import Literal

import normbench
from normbench_plugins.limits import Positive

NORMS = [
    normbench.Norm(
        "layer-norm-scaling",
        "normbench_plugins.layers.layer_norm_scaling:layer",
        summary="Layer norm (or RMS norm) divided by the square root of the number of its residual block",
        types={"eps": Positive, "of": Literal["layer", "rms"]},
        traits=normbench.Traits(scale_invariant=True),
        reference="normbench_plugins.definitions.layer_norm:layer_norm_scaling",
        paper="Sun et al. 2025, arXiv 2502.05795",
        source="lmsdss/LayerNorm-Scaling",
        licence="Apache-2.0",
    )
]

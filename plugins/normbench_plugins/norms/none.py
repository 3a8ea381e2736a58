"""No normalization: what every norm is measured against."""

from __future__ import annotations

import normbench

NORMS = [
    normbench.Norm(
        "none",
        "normbench_plugins.layers.none:layer",
        summary="No normalization; every linear keeps its bias",
        reference="normbench_plugins.definitions.none:none",
        traits=normbench.Traits(identity=True),
    )
]

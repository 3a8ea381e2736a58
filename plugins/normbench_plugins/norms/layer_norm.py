"""Layer normalization (Ba, Kiros & Hinton 2016, arXiv 1607.06450), over channels and space of a sample."""

from __future__ import annotations

import normbench
from normbench_plugins.limits import Positive

NORMS = [
    normbench.Norm(
        "layer-norm",
        "normbench_plugins.layers.layer_norm:layer",
        summary="Layer norm over channels and space of a sample, gamma and beta per channel",
        types={"eps": Positive},
        traits=normbench.Traits(scale_invariant=True),
        reference="normbench_plugins.definitions.layer_norm:layer_norm",
        paper="Ba, Kiros & Hinton 2016, arXiv 1607.06450",
    )
]

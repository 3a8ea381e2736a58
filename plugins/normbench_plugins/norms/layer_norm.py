"""Layer normalization (Ba, Kiros & Hinton 2016, arXiv 1607.06450), in its flavours."""

from __future__ import annotations

from typing import Literal

import normbench
from normbench_plugins.limits import Positive

NORMS = [
    normbench.Norm(
        "layer-norm",
        "normbench_plugins.layers.layer_norm:layer",
        summary="Layer norm over channels and space of a sample, gamma and beta per channel",
        types={"eps": Positive, "over": Literal["sample", "channels"], "affine": bool | Literal["element"]},
        traits=normbench.Traits(scale_invariant=True),
        reference="normbench_plugins.definitions.layer_norm:layer_norm",
        paper="Ba, Kiros & Hinton 2016, arXiv 1607.06450",
    )
]

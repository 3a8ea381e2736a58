"""Instance normalization (Ulyanov, Vedaldi & Lempitsky 2016, arXiv 1607.08022)."""

from __future__ import annotations

import normbench
from normbench_plugins.limits import Positive

NORMS = [
    normbench.Norm(
        "instance-norm",
        "normbench_plugins.layers.instance_norm:layer",
        summary="Instance norm: each channel of a sample over space, gamma and beta per channel",
        layouts={"NCL", "NCHW", "NLC"},
        types={"eps": Positive},
        traits=normbench.Traits(centres=True, scale_invariant=True, mixes_positions=True),
        reference="normbench_plugins.definitions.group_norm:instance_norm",
        paper="Ulyanov, Vedaldi & Lempitsky 2016, arXiv 1607.08022",
    )
]

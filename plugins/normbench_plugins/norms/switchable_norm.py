"""Switchable normalization (Luo et al. 2018, arXiv 1806.10779)."""

from __future__ import annotations

import normbench
from normbench_plugins.limits import Momentum, Positive

NORMS = [
    normbench.Norm(
        "switchable-norm",
        "normbench_plugins.layers.switchable_norm:layer",
        summary="Switchable norm: a learned mix of the moments of instance, layer and batch norm",
        # Not NC, where an instance is one value; not NLC, where layer norm is over the channels of a token, whose
        # moments are not those of a sample's channels taken together.
        layouts={"NCL", "NCHW"},
        types={"eps": Positive, "momentum": Momentum},
        traits=normbench.Traits(
            batch_dependent=True,
            rank_dependent=True,
            state=("running_mean", "running_var"),
            batch_size_1="spatial",
            scale_invariant=True,
            eval_differs=True,
        ),
        reference="normbench_plugins.definitions.switchable_norm:switchable_norm",
        paper="Luo et al. 2018, arXiv 1806.10779",
    )
]

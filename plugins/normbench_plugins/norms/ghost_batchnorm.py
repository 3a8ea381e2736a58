"""Ghost batch normalization (Hoffer, Hubara & Soudry 2017, arXiv 1705.08741)."""

from __future__ import annotations

import normbench
from normbench_plugins.limits import Count, Momentum, Positive

NORMS = [
    normbench.Norm(
        "ghost-batchnorm",
        "normbench_plugins.layers.ghost_batchnorm:layer",
        summary="Ghost batch norm: batch norm of each few samples of a batch",
        traits=normbench.Traits(
            batch_dependent=True,
            order_dependent=True,
            rank_dependent=True,
            state=("running_mean", "running_var"),
            batch_size_1="spatial",
            centres=True,
            scale_invariant=True,
            eval_differs=True,
            mixes_positions=True,
        ),
        types={"ghost": Count, "eps": Positive, "momentum": Momentum},
        paper="Hoffer, Hubara & Soudry 2017, arXiv 1705.08741",
        reference="normbench_plugins.definitions.ghost_batchnorm:ghost_batchnorm",
    )
]

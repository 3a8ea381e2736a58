"""Batch normalization (Ioffe & Szegedy 2015, arXiv 1502.03167): before the activation, without affine, and after."""

from __future__ import annotations

import normbench
from normbench_plugins.limits import Momentum, Positive

PAPER = "Ioffe & Szegedy 2015, arXiv 1502.03167"
TYPES = {"eps": Positive, "momentum": Momentum}
REFERENCE = "normbench_plugins.definitions.batchnorm:batchnorm"
TRAITS = normbench.Traits(
    batch_dependent=True,
    rank_dependent=True,
    state=("running_mean", "running_var", "num_batches_tracked"),
    batch_size_1="spatial",
    centres=True,
    scale_invariant=True,
    eval_differs=True,
    mixes_positions=True,
)

NORMS = [
    normbench.Norm(
        "batchnorm",
        "normbench_plugins.layers.batchnorm:layer",
        summary="Batch norm before the activation, with gamma and beta",
        types=TYPES,
        traits=TRAITS,
        paper=PAPER,
        reference=REFERENCE,
    ),
    normbench.Norm(
        "batchnorm-no-affine",
        "normbench_plugins.layers.batchnorm:no_affine",
        summary="Batch norm without gamma and beta",
        types=TYPES,
        traits=TRAITS,
        paper=PAPER,
        reference=REFERENCE,
    ),
    normbench.Norm(
        "batchnorm-after",
        "normbench_plugins.layers.batchnorm:after",
        summary="Batch norm after the activation",
        placement="after",
        types=TYPES,
        traits=TRAITS,
        paper=PAPER,
        reference=REFERENCE,
    ),
]

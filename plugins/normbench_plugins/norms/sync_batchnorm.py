"""Batch normalization over the batch of several devices: what `batchnorm` is on one.

The numerics are in `normbench_plugins.layers.sync_batch_norm`; this file only describes them, and imports no torch.
"""

from __future__ import annotations

import normbench
from normbench_plugins.limits import Momentum, Positive

NORMS = [
    normbench.Norm(
        "sync-batchnorm",
        "normbench_plugins.layers.sync_batch_norm:layer",
        summary="Batch norm whose statistics are those of the batches of all devices together",
        types={"eps": Positive, "momentum": Momentum},
        traits=normbench.Traits(
            batch_dependent=True,
            state=("running_mean", "running_var", "num_batches_tracked"),
            batch_size_1="spatial",
            centres=True,
            scale_invariant=True,
            eval_differs=True,
            mixes_positions=True,
        ),
        paper="Ioffe & Szegedy 2015, arXiv 1502.03167",
        reference="normbench_plugins.definitions.batchnorm:batchnorm",
    )
]

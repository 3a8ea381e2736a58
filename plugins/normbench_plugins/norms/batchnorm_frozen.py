"""Batch norm (Ioffe & Szegedy 2015, arXiv 1502.03167) that freezes its statistics in the course of training.

What it has of `batchnorm` late in a run is gamma and beta alone: it does not centre and is not scale-invariant, so that
a linear before it keeps its bias.
"""

from __future__ import annotations

import normbench
from normbench_plugins.limits import Momentum, Positive, Share


def expected(after: float, affine: bool, **others: object) -> dict[str, str]:  # noqa: ARG001 - it takes every parameter
    """Return what checks find that is meant. Other forms than the default may pass."""
    why = "at the rate of batch norm, statistics that are frozen after one epoch no longer hold the activations' scale"
    return {"trains": why} if affine and after == 0.5 else {}


NORMS = [
    normbench.Norm(
        "batchnorm-frozen",
        "normbench_plugins.layers.batchnorm_frozen:layer",
        summary="Batch norm that goes on by its running averages, as constants, after a share of the run",
        traits=normbench.Traits(
            batch_dependent=True,
            rank_dependent=True,
            state=("running_mean", "running_var", "frozen"),
            batch_size_1="spatial",
            eval_differs=True,
            mixes_positions=True,
        ),
        types={"after": Share, "eps": Positive, "momentum": Momentum},
        expected=expected,
        paper="Ioffe & Szegedy 2015, arXiv 1502.03167",
        reference="normbench_plugins.definitions.batchnorm_frozen:batchnorm_frozen",
    )
]

"""Batch renormalization (Ioffe 2017, arXiv 1702.03275).

Batch norm whose output is rescaled by r and shifted by d towards what the running statistics would give, both clipped.
The paper opens the clips in the course of training: r = 1, d = 0 (batch norm) for 5,000 steps, then gradually to
|d| <= 5 at 25,000 steps and r <= 3 at 40,000. `warmup`, `d_ramp` and `r_ramp` are these three points, as shares of the
run, each counted from its start. Ours are two readings: "gradually" is linearly, and the 40,000 steps are the whole
run (5 / 40, 25 / 40, 40 / 40), though the paper's runs go on after them. At momentum 0.01 the running statistics need
hundreds of steps to forget where they started, which is most of a short run; clips that open before that harm it.
"""

from __future__ import annotations

import normbench
from normbench_plugins.limits import AtLeastOne, Momentum, NotNegative, Positive, Share


def expected(d_max: float, **others: object) -> dict[str, str]:  # noqa: ARG001 - it takes every parameter
    """Return what checks find that is meant: with d closed, nothing."""
    why = (
        "no gradient passes a bias before it; but once the clips are open, d shows a bias until running_mean has "
        "followed it"
    )
    return {"invariance": why} if d_max else {}


NORMS = [
    normbench.Norm(
        "batch-renorm",
        "normbench_plugins.layers.batch_renorm:layer",
        summary="Batch renorm: batch norm corrected towards its running statistics, within clips that open",
        # centres: see `expected`; a bias before the layer would get no gradient, so that it is dropped.
        # Not scale_invariant: r measures the input's scale against running_std.
        traits=normbench.Traits(
            batch_dependent=True,
            rank_dependent=True,
            state=("running_mean", "running_std", "r_limit", "d_limit"),
            batch_size_1="spatial",
            centres=True,
            eval_differs=True,
            mixes_positions=True,
            gradient="own",
        ),
        types={
            "r_max": AtLeastOne,
            "d_max": NotNegative,
            "momentum": Momentum,
            "eps": Positive,
            "warmup": Share,
            "r_ramp": Share,
            "d_ramp": Share,
        },
        expected=expected,
        paper="Ioffe 2017, arXiv 1702.03275",
        reference="normbench_plugins.definitions.batchnorm:batch_renorm",
    )
]

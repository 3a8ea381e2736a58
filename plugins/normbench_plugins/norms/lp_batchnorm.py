"""Batch normalization by the first norm, the second or the largest value.

Centred and with the constants of normal numbers it is that of Hoffer, Banner, Golan & Soudry 2018 (arXiv 1803.01814),
whose code is followed where the paper leaves a choice; with neither that of Santurkar, Tsipras, Ilyas & Madry 2018
(arXiv 1805.11604).
"""

from __future__ import annotations

from typing import Literal

import normbench
from normbench_plugins.limits import Momentum, Positive


def traits(centred: bool, **others: object) -> normbench.Traits:  # noqa: ARG001 - it takes every parameter
    """Return the traits: a norm that is taken before the mean is subtracted sees a bias."""
    return normbench.Traits(
        batch_dependent=True,
        rank_dependent=True,
        state=("running_mean", "running_scale"),
        batch_size_1="spatial",
        centres=centred,
        scale_invariant=True,
        eval_differs=True,
        mixes_positions=True,
    )


NORMS = [
    normbench.Norm(
        "lp-batchnorm",
        "normbench_plugins.layers.lp_batchnorm:layer",
        summary="Batch norm by the mean absolute value, the root mean square or the maximum",
        types={"p": Literal["1", "2", "max"], "eps": Positive, "momentum": Momentum},
        traits=traits,
        paper="Hoffer et al. 2018, arXiv 1803.01814; Santurkar et al. 2018, arXiv 1805.11604",
        reference="normbench_plugins.definitions.lp_batchnorm:lp_batchnorm",
    )
]

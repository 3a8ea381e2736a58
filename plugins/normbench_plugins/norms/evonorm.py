"""EvoNorms, norm and activation as one (Liu, Brock, Simonyan & Le 2020, arXiv 2004.02967): B0 and S0."""

from __future__ import annotations

from typing import Any

import normbench
from normbench_plugins.limits import Count, Momentum, Positive

COMMON: dict[str, Any] = {
    "placement": "fused",
    "paper": "Liu, Brock, Simonyan & Le 2020, arXiv 2004.02967",
    "source": "tensorflow/tpu, models/official/resnet/resnet_model.py",
    "licence": "Apache-2.0",
}

# Neither has a form for tokens: where these are normalized no activation follows, and without one an EvoNorm is gamma
# and beta alone.
NORMS = [
    normbench.Norm(
        "evonorm-b0",
        "normbench_plugins.layers.evonorm:b0",
        summary="EvoNorm-B0, norm and activation: x by the larger of two standard deviations, one moved by v x",
        layouts={"NCL", "NCHW"},
        types={"eps": Positive, "momentum": Momentum},
        traits=normbench.Traits(
            batch_dependent=True,
            rank_dependent=True,
            state=("running_var",),
            batch_size_1="spatial",
            scale_invariant=True,
            eval_differs=True,
        ),
        reference="normbench_plugins.definitions.evonorm:b0",
        **COMMON,
    ),
    normbench.Norm(
        "evonorm-s0",
        "normbench_plugins.layers.evonorm:s0",
        summary="EvoNorm-S0, norm and activation: x sigmoid(v x) by the standard deviation of a group of channels",
        layouts={"NC", "NCL", "NCHW"},
        types={"groups": Count, "eps": Positive},
        reference="normbench_plugins.definitions.evonorm:s0",
        **COMMON,
    ),
]

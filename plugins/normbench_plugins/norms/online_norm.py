"""Online normalization (Chiley et al. 2019, arXiv 1905.05894): statistics of the samples so far, none of the batch."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import normbench
from normbench_plugins.limits import Decay, Positive

# Centres is False, and so is scale_invariant: both hold only once the averages have followed the change. Until then a
# constant added to a channel shows in the output; and u takes the mean off a bias's gradient in the long run, not in
# any one step. So a bias before the layer stays, as one that can move.
TRAITS = normbench.Traits(
    batch_dependent=True,
    order_dependent=True,
    rank_dependent=True,
    state=("running_mean", "running_var", "u", "v"),
    eval_differs=True,
    gradient="own",
)


def traits(compensation: str, **others: object) -> normbench.Traits:  # noqa: ARG001 - traits take every parameter
    """Return the traits: layer scaling is over all tokens of a sample."""
    return replace(TRAITS, mixes_positions=compensation == "layer-scaling")


NORMS = [
    normbench.Norm(
        "online-norm",
        "normbench_plugins.layers.online_norm:layer",
        summary="Online norm: each sample by averages over those before it, and a controlled gradient",
        types={
            "alpha_forward": Decay,
            "alpha_backward": Decay,
            "eps": Positive,
            "compensation": Literal["layer-scaling", "clamp", "none"],
            "clamp": Positive,
        },
        traits=traits,
        reference="normbench_plugins.definitions.online_norm:online_norm",
        paper="Chiley et al. 2019, arXiv 1905.05894",
    )
]

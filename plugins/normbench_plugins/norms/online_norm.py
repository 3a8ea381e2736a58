"""Online normalization (Chiley et al. 2019, arXiv 1905.05894): statistics of the samples so far, none of the batch."""

from __future__ import annotations

from typing import Literal

import normbench

NORMS = [
    normbench.Norm(
        "online-norm",
        "normbench_plugins.layers.online_norm:layer",
        summary="Online norm: each sample by averages over those before it, and a controlled gradient",
        types={"compensation": Literal["layer-scaling", "clamp", "none"]},
        # Centres is False, and so is scale_invariant: both hold only once the averages have followed the change. Until
        # then a constant added to a channel shows in the output; and u takes the mean off a bias's gradient in the long
        # run, not in any one step. So a bias before the layer stays, as one that can move.
        # mixes_positions, whatever the compensation: all tokens of a sample are in the averages of those after it.
        traits=normbench.Traits(
            batch_dependent=True,
            order_dependent=True,
            rank_dependent=True,
            state=("running_mean", "running_var", "u", "v"),
            eval_differs=True,
            mixes_positions=True,
            gradient="own",
        ),
        reference="normbench_plugins.definitions.online_norm:online_norm",
        paper="Chiley et al. 2019, arXiv 1905.05894",
    )
]

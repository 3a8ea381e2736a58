"""Online normalization (Chiley et al. 2019, arXiv 1905.05894): statistics of the samples so far, none of the batch.

The numerics are in `normbench_plugins.layers.online_norm`; this file only describes them, and imports no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import normbench

if TYPE_CHECKING:
    from torch import nn


def layer(
    site: normbench.Site,
    alpha_forward: float = 0.999,
    alpha_backward: float = 0.99,
    eps: float = 1e-5,
    affine: bool = True,
    compensation: str = "layer-scaling",
    clamp: float = 5.0,
) -> nn.Module:
    """Return online norm; the decays count samples, whatever the batch size."""
    from normbench_plugins.layers.online_norm import OnlineNorm

    return OnlineNorm(
        site.channels,
        site.layout,
        alpha_forward=alpha_forward,
        alpha_backward=alpha_backward,
        eps=eps,
        affine=affine,
        compensation=compensation,
        clamp=clamp,
    )


NORMS = [
    normbench.Norm(
        "online-norm",
        "normbench_plugins.norms.online_norm:layer",
        summary="Online norm: each sample by averages over those before it, and a controlled gradient",
        params={
            "alpha_forward": 0.999,
            "alpha_backward": 0.99,
            "eps": 1e-5,
            "affine": True,
            "compensation": "layer-scaling",
            "clamp": 5.0,
        },
        # Centres is False, and so is scale_invariant: both hold only once the averages have followed the change. Until
        # then a constant added to a channel shows in the output; and u takes the mean off a bias's gradient in the
        # long run, not in any one step. So a bias before the layer stays, as one that can move.
        traits=normbench.Traits(
            batch_dependent=True,
            order_dependent=True,
            rank_dependent=True,
            state=("running_mean", "running_var", "u", "v"),
            eval_differs=True,
        ),
        paper="Chiley et al. 2019, arXiv 1905.05894",
    )
]

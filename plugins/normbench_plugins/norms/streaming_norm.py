"""Streaming normalization (Liao, Kawaguchi & Poggio 2016, arXiv 1610.06160), as in the first author's later code."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import normbench
from normbench_plugins.limits import Momentum, Positive, Share

TRAITS = normbench.Traits(
    batch_dependent=True,
    rank_dependent=True,
    state=("long_term", "started"),
    batch_size_1="spatial",
    eval_differs=True,
    mixes_positions=True,
    gradient="own",
)


def traits(alpha: float, own: float, **others: object) -> normbench.Traits:  # noqa: ARG001 - it takes every parameter
    """Return the traits: without averages it is batch norm; with long-term ones alone training is as evaluation."""
    batch_norm = alpha == 0 and own == 1
    return replace(TRAITS, centres=batch_norm, scale_invariant=batch_norm, eval_differs=alpha < 1)


NORMS = [
    normbench.Norm(
        "streaming-norm",
        "normbench_plugins.layers.streaming_norm:layer",
        summary="Streaming norm: by long-term and short-term statistics, with gradients streamed alike",
        types={
            "p": Literal[1, 2],
            "alpha": Share,
            "beta": Share,
            "own": Share,
            "kappa": Momentum,
            "eps": Positive,
        },
        traits=traits,
        reference="normbench_plugins.definitions.streaming_norm:streaming_norm",
        paper="Liao, Kawaguchi & Poggio 2016, arXiv 1610.06160",
        source="https://github.com/liaoq/StreamingNorm (the first author's later code)",
        licence="none stated",
    )
]

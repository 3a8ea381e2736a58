"""Batch normalization (Ioffe & Szegedy 2015, arXiv 1502.03167): before the activation, without affine, and after."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import normbench
from normbench_plugins.limits import Affine, Momentum, NotNegative, Positive

PAPER = "Ioffe & Szegedy 2015, arXiv 1502.03167"
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


def traits(evaluation: str, detach: bool, **others: object) -> normbench.Traits:  # noqa: ARG001 - it takes all
    """Return the traits: with statistics outside the graph a bias before the layer has a gradient, so that it stays."""
    found = TRAITS
    if evaluation == "batch":
        found = replace(found, state=(), eval_differs=False, eval_batch_dependent=True)
    return replace(found, gradient="own", centres=False) if detach else found


SIMPLE: dict[str, Any] = {"eps": Positive, "momentum": Momentum}
GAMMA_AND_EVALUATION: dict[str, Any] = {"gamma_std": NotNegative, "evaluation": Literal["running", "batch"]}
COMMON: dict[str, Any] = {
    "types": {**SIMPLE, "affine": Affine, **GAMMA_AND_EVALUATION},
    "traits": traits,
    "paper": PAPER,
    "reference": "normbench_plugins.definitions.batchnorm:batchnorm",
}

NORMS = [
    normbench.Norm(
        "batchnorm",
        "normbench_plugins.layers.batchnorm:layer",
        summary="Batch norm before the activation, with gamma and beta",
        **COMMON,
    ),
    normbench.Norm(
        "batchnorm-no-affine",
        "normbench_plugins.layers.batchnorm:no_affine",
        summary="Batch norm without gamma and beta",
        types=SIMPLE,
        traits=TRAITS,
        paper=PAPER,
        reference="normbench_plugins.definitions.batchnorm:batchnorm",
    ),
    normbench.Norm(
        "batchnorm-after",
        "normbench_plugins.layers.batchnorm:layer",
        summary="Batch norm after the activation",
        placement="after",
        **COMMON,
    ),
]

"""Noisy batch norm, and its noise alone as a control (Santurkar et al. 2018, arXiv 1805.11604)."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal

from msgspec import Meta

import normbench
from normbench_plugins.limits import NotNegative
from normbench_plugins.norms import batchnorm

PAPER = "Santurkar, Tsipras, Ilyas & Madry 2018, arXiv 1805.11604"
TYPES: dict[str, Any] = {
    "form": Literal["scale-and-shift", "additive"],
    "per": Literal["channel", "layer"],
    "shift": NotNegative,
    "scale": NotNegative,
    "spread": NotNegative,
    # One number, or one for each site.
    "mean": float | Annotated[tuple[float, ...], Meta(min_length=1)],
    "std": NotNegative | Annotated[tuple[NotNegative, ...], Meta(min_length=1)],
}


def noisy_traits(evaluation: str, **others: object) -> normbench.Traits:  # noqa: ARG001 - it takes every parameter
    """Return the traits: those of batch norm, and noise in training alone."""
    return replace(batchnorm.traits(evaluation, detach=False), eval_differs=True, draws=True)


NORMS = [
    normbench.Norm(
        "noise",
        "normbench_plugins.layers.noise:noise",
        summary="Noise without a norm: the control of noisy batch norm",
        types=TYPES,
        traits=normbench.Traits(eval_differs=True, draws=True),
        paper=PAPER,
        reference="normbench_plugins.definitions.noise:noise",
    ),
    normbench.Norm(
        "noisy-batchnorm",
        "normbench_plugins.layers.noise:noisy_batchnorm",
        summary="Batch norm with noise after gamma and beta, in training",
        types=batchnorm.SIMPLE | batchnorm.GAMMA_AND_EVALUATION | TYPES,
        traits=noisy_traits,
        paper=PAPER,
        reference="normbench_plugins.definitions.noise:noisy_batchnorm",
    ),
]

"""Norms of weights: weight norm (arXiv 1602.07868), weight standardization (1903.10520), scaled (2101.08692)."""

from __future__ import annotations

import normbench
from normbench_plugins.limits import Positive

NORMS = [
    normbench.Norm(
        "weight-norm",
        "normbench_plugins.layers.weights:weight_norm",
        summary="Weight norm: length and direction of each output unit's weights, learned apart",
        placement="weight",
        reference="normbench_plugins.definitions.weights:weight_norm",
        paper="Salimans & Kingma 2016, arXiv 1602.07868",
    ),
    normbench.Norm(
        "weight-standardization",
        "normbench_plugins.layers.weights:standardization",
        summary="Weight standardization: mean 0 and variance 1 of each output unit's weights; for use with a norm",
        placement="weight",
        types={"eps": Positive},
        traits=normbench.Traits(centres=True, scale_invariant=True),
        reference="normbench_plugins.definitions.weights:standardization",
        paper="Qiao, Wang, Liu, Shen & Yuille 2019, arXiv 1903.10520",
        source="huggingface/pytorch-image-models, timm/layers/std_conv.py",
        licence="Apache-2.0",
    ),
    normbench.Norm(
        "scaled-weight-standardization",
        "normbench_plugins.layers.weights:scaled_standardization",
        summary="Scaled weight standardization: linear and activation keep the variance; a gain per output unit",
        placement="weight",
        types={"eps": Positive, "gamma": Positive | None},
        traits=normbench.Traits(centres=True, scale_invariant=True),
        reference="normbench_plugins.definitions.weights:scaled_standardization",
        paper="Brock, De & Smith 2021, arXiv 2101.08692",
        source="google-deepmind/deepmind-research, nfnets/base.py",
        licence="Apache-2.0",
    ),
]

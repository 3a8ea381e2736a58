"""Global response normalization (Woo et al. 2023, ConvNeXt V2, arXiv 2301.00808)."""

from __future__ import annotations

import normbench
from normbench_plugins.limits import Positive

NORMS = [
    normbench.Norm(
        "grn",
        "normbench_plugins.layers.grn:layer",
        summary="Global response norm of ConvNeXt V2: channels compete by their length; the identity at the start",
        layouts={"NCL", "NCHW", "NLC"},
        types={"eps": Positive},
        traits=normbench.Traits(mixes_positions=True),
        reference="normbench_plugins.definitions.grn:grn",
        paper="Woo et al. 2023, arXiv 2301.00808",
        source="huggingface/pytorch-image-models, timm/layers/grn.py",
        licence="Apache-2.0",
    )
]

"""Root mean square layer normalization (Zhang & Sennrich 2019, arXiv 1910.07467), and its zero-centred form."""

from __future__ import annotations

from typing import Any, Literal

import normbench
from normbench_plugins.limits import Positive

COMMON: dict[str, Any] = {
    "types": {"eps": Positive, "over": Literal["sample", "channels"]},
    "traits": normbench.Traits(scale_invariant=True),
}

NORMS = [
    normbench.Norm(
        "rms-norm",
        "normbench_plugins.layers.rms_norm:layer",
        summary="RMS norm: a sample by its root mean square, no mean taken off, gamma per channel",
        **COMMON,
        reference="normbench_plugins.definitions.rms_norm:rms_norm",
        paper="Zhang & Sennrich 2019, arXiv 1910.07467",
    ),
    normbench.Norm(
        "zero-centred-rms-norm",
        "normbench_plugins.layers.rms_norm:zero_centred",
        summary="RMS norm by 1 + w, as in Gemma: weight decay pulls its gain towards 1",
        **COMMON,
        reference="normbench_plugins.definitions.rms_norm:zero_centred",
        paper="Zhang & Sennrich 2019, arXiv 1910.07467",
    ),
]

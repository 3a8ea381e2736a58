"""Curves in the place of norms, without statistics: DyT (arXiv 2503.10622) and Derf (arXiv 2512.10938)."""

from __future__ import annotations

import normbench
from normbench_plugins.limits import Positive

NORMS = [
    normbench.Norm(
        "dyt",
        "normbench_plugins.layers.pointwise:dyt",
        summary="Dynamic tanh: gamma tanh(alpha x) + beta, alpha learned per layer",
        types={"alpha": Positive},
        paper="Zhu, Chen, He, LeCun & Liu 2025, arXiv 2503.10622",
        reference="normbench_plugins.definitions.pointwise:dyt",
    ),
    normbench.Norm(
        "derf",
        "normbench_plugins.layers.pointwise:derf",
        summary="Dynamic erf: gamma erf(alpha x + s) + beta, alpha and s learned per layer",
        types={"alpha": Positive},
        paper="Stronger Normalization-Free Transformers 2025, arXiv 2512.10938",
        source="https://github.com/zlab-princeton/Derf",
        licence="MIT",
        reference="normbench_plugins.definitions.pointwise:derf",
    ),
]

"""The learning curve within epochs: scores by step, beside the losses that every trial keeps."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import normbench


class Curve:
    """Gives the mean scores of the weights after a step, in evaluation mode."""

    def __init__(self, training: Any, every: int = 50) -> None:  # noqa: ARG002 - the host counts it
        self._training = training

    def after_step(self, step: int) -> dict[str, float]:  # noqa: ARG002 - the same at every step
        """Return the series `validation`, where samples are held out for it, and `test`; Unsupported without a test."""
        scores: dict[str, float] = {}
        with suppress(normbench.Unsupported):
            scores["validation"] = self._training.score("validation")
        scores["test"] = self._training.score("test")
        return scores


PROBES = [
    normbench.Probe(
        "curve",
        "normbench_plugins.probes.curve:Curve",
        summary="Validation and test score by step; the loss by step is kept of every trial without asking",
        params={"every": 50},
    )
]

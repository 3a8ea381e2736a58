"""Streaming norm's forward (Liao, Kawaguchi & Poggio 2016, arXiv 1610.06160), as in the first author's later code.

The gradient is streaming norm's own, and no derivative of this.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

import normbench
from normbench_plugins.definitions.state import State, over_batch


def streaming_norm(
    x: Tensor,
    site: normbench.Site,
    state: Mapping[str, Tensor],
    p: int,
    alpha: float,
    eps: float,
    training: bool,
) -> Tensor:
    """Return gamma (x - mean) / (scale + eps) + beta: streamed in training, else by the long-term statistics."""
    stream = {name.rpartition("statistics.")[2]: value for name, value in state.items() if "statistics." in name}
    batch_mean = x.mean(over_batch(site), keepdim=True)
    batch_scale = (x - batch_mean).abs().pow(p).mean(over_batch(site), keepdim=True) ** (1 / p)
    streamed = []
    for row, batch in enumerate((batch_mean, batch_scale)):
        long = stream["long_term"][row].double().view_as(batch)
        short = (stream["sum"][row].double().view_as(batch) + batch) / (int(stream["count"]) + 1)
        if not training:
            streamed.append(long)
        elif stream["started"]:
            streamed.append(alpha * long + (1 - alpha) * short)
        else:
            streamed.append(short)
    mean, scale = streamed
    return State(state, site).affine((x - mean) / (scale + eps))

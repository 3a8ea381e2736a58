"""What a site says of the layer that stands there."""

from __future__ import annotations

import math

import normbench


def has_activation(site: normbench.Site, *replaced: str) -> bool:
    """Return whether a fused layer that takes the place of certain activations has one here.

    Raises Unsupported for another activation than those.
    """
    if site.activation not in (None, *replaced):
        raise normbench.Unsupported(f"its activation takes the place of {' or '.join(replaced)}, not {site.activation}")
    return site.activation is not None


def has_one_position(site: normbench.Site) -> bool:
    """Return whether each channel of a sample is known to have one value."""
    return site.layout == "NC" or (site.spatial is not None and math.prod(site.spatial) == 1)

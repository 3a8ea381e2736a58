"""No normalization: what every norm is measured against."""

from __future__ import annotations

from typing import TYPE_CHECKING

import normbench

if TYPE_CHECKING:
    from torch import nn


def layer(site: normbench.Site) -> nn.Module:  # noqa: ARG001 - a layer takes its site
    """Return the identity; linears keep their bias."""
    from torch import nn

    return nn.Identity()


NORMS = [
    normbench.Norm(
        "none",
        "normbench_plugins.norms.none:layer",
        summary="No normalization; every linear keeps its bias",
    )
]

"""The activations that a network names at its sites: those of torch that act on each number alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from normbench.errors import unknown

if TYPE_CHECKING:
    from torch import nn

#: Each by its name in torch.nn.functional, and the class in torch.nn, which is made without arguments.
ACTIVATIONS: Final = {
    "celu": "CELU",
    "elu": "ELU",
    "gelu": "GELU",
    "hardshrink": "Hardshrink",
    "hardsigmoid": "Hardsigmoid",
    "hardswish": "Hardswish",
    "hardtanh": "Hardtanh",
    "leaky_relu": "LeakyReLU",
    "logsigmoid": "LogSigmoid",
    "mish": "Mish",
    "prelu": "PReLU",
    "relu": "ReLU",
    "relu6": "ReLU6",
    "rrelu": "RReLU",
    "selu": "SELU",
    "sigmoid": "Sigmoid",
    "silu": "SiLU",
    "softplus": "Softplus",
    "softshrink": "Softshrink",
    "softsign": "Softsign",
    "tanh": "Tanh",
    "tanhshrink": "Tanhshrink",
}


def activation(name: str | None) -> nn.Module:
    """Return an activation by name, as `site.activation` has it; None is the identity.

    Raises ValueError, with the nearest names, for a name that is not known.
    """
    from torch import nn

    if name is None:
        return nn.Identity()
    if name not in ACTIVATIONS:
        raise ValueError(str(unknown("activation", name, ACTIVATIONS)))
    made: nn.Module = getattr(nn, ACTIVATIONS[name])()
    return made

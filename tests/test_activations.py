"""Activations by name: those of torch that act on each number alone."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.modules import activation as of_torch

import normbench
from normbench.activations import ACTIVATIONS


def acts_on_each_number(kind: type[nn.Module]) -> bool:
    """Whether what is made without arguments gives the same of a number wherever it stands."""
    x = torch.linspace(-4, 4, 24, dtype=torch.float64)
    try:
        made = kind().double().eval()
        with torch.no_grad():
            whole, single = made(x.view(4, 6)), torch.stack([made(value.view(1, 1)).view(()) for value in x])
    except (RuntimeError, TypeError, ValueError):
        return False
    return torch.allclose(whole, single.view(4, 6))


@pytest.mark.filterwarnings("ignore:Implicit dimension")
def test_each_elementwise_activation_of_torch_has_a_name():
    """Every class of torch.nn that is made without arguments, and acts on each number, is there, and no other."""
    expected = {name for name in of_torch.__all__ if acts_on_each_number(getattr(nn, name))}

    assert expected == set(ACTIVATIONS.values())
    assert all(callable(getattr(functional, name)) for name in ACTIVATIONS)
    assert all(name.replace("_", "") == made.lower() for name, made in ACTIVATIONS.items())


def test_an_activation_is_made_by_its_name():
    """`normbench.activation` gives the module, and for None what does nothing; a name that is unknown is told."""
    x = torch.randn(3, 4)

    assert torch.equal(functional.mish(x), normbench.activation("mish")(x))
    assert torch.equal(x, normbench.activation(None)(x))
    with pytest.raises(ValueError, match="no activation 'leakyrelu'; did you mean 'leaky_relu'"):
        normbench.activation("leakyrelu")

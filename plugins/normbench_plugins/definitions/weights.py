"""Norms of weights: weight norm, weight standardization and its scaled form, of a linear or convolution."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.func import functional_call

import normbench

WEIGHT = "parametrizations.weight"


def weight_norm(x: Tensor, site: normbench.Site, state: Mapping[str, Tensor], module: nn.Module) -> Tensor:  # noqa: ARG001
    """Return the output with the weights g v / |v| (Salimans & Kingma 2016, arXiv 1602.07868, equation 2)."""
    g, v = (state[f"{WEIGHT}.original{number}"].flatten(1) for number in (0, 1))
    return _output(x, state, module, g * v / v.square().sum(1, keepdim=True).sqrt())


def standardization(
    x: Tensor,
    site: normbench.Site,  # noqa: ARG001
    state: Mapping[str, Tensor],
    module: nn.Module,
    eps: float,
) -> Tensor:
    """Return the output with the weights (w - mean) / sqrt(var + eps) (Qiao et al. 2019, arXiv 1903.10520)."""
    return _output(x, state, module, _standardized(state, eps))


def scaled_standardization(
    x: Tensor,
    site: normbench.Site,
    state: Mapping[str, Tensor],
    module: nn.Module,
    eps: float,
    gamma: float | None,
) -> Tensor:
    """Return the output with the weights gain gamma (w - mean) / sqrt(fan-in (var + eps)) (Brock et al. 2021).

    Without a gamma at a site without an activation, where it is 1.
    """
    assert gamma is not None or site.activation is None
    weight = _standardized(state, eps)
    gain = state[f"{WEIGHT}.0.gain"][:, None]
    return _output(x, state, module, gain * (gamma or 1.0) * weight / weight.shape[1] ** 0.5)


def _standardized(state: Mapping[str, Tensor], eps: float) -> Tensor:
    weight = state[f"{WEIGHT}.original"].flatten(1)
    centred = weight - weight.mean(1, keepdim=True)
    return centred / (centred.square().mean(1, keepdim=True) + eps).sqrt()


def _output(x: Tensor, state: Mapping[str, Tensor], module: nn.Module, weight: Tensor) -> Tensor:
    """Return what the module computes with other weights, one row per output unit, and the layer's bias."""
    shape = module.get_parameter("weight").shape
    output: Tensor = functional_call(module, {"weight": weight.view(shape), "bias": state["bias"]}, (x,))
    return output

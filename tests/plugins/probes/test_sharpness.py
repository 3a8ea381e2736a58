"""`sharpness` against all eigenvalues of a dense Hessian, and the networks that have none."""

import math

import numpy as np
import pytest
import torch
from plain_network import INPUTS, loss, network, tensors
from torch import nn
from watched import trained

from normbench_plugins.probes import sharpness


def eigenvalues(step):
    """Return all eigenvalues of the Hessian of a step's loss, the largest first, and the squared length of weights."""
    weights = tensors(step)
    sizes, shapes = [one.numel() for one in weights], [one.shape for one in weights]
    flat = torch.cat([one.flatten() for one in weights])

    def of_flat(flat):
        return loss([one.view(shape) for one, shape in zip(flat.split(sizes), shapes, strict=True)], step)

    hessian = torch.autograd.functional.hessian(of_flat, flat)
    return torch.linalg.eigvalsh(hessian).flip(0).numpy(), (flat @ flat).item()


@pytest.mark.parametrize("norm", ["batchnorm", "none"])
def test_the_largest_eigenvalues_are_those_of_the_dense_hessian(monkeypatch, norm):
    monkeypatch.setattr(sharpness, "RESIDUAL", 1e-9)
    asked = "sharpness(every=2, count=3, iterations=54)"
    [trace], steps = trained([asked], network, INPUTS, norm, momentum=0.9, accumulate=2)

    series = {name: np.array(points.value) for name, points in trace.series.items()}
    for now, step in enumerate(steps[::2]):
        expected, square = eigenvalues(step)
        np.testing.assert_allclose(series["eigenvalue"][now], expected[:3], rtol=1e-7)
        np.testing.assert_allclose(series["relative"][now], expected[0] * square, rtol=1e-7)


def test_an_eigenvalue_is_as_near_as_the_residual_says():
    """Numbers where one is asked for; a few products with vectors are enough."""
    [trace], steps = trained(["sharpness(every=2)"], network, INPUTS, "batchnorm")

    series = {name: np.array(points.value) for name, points in trace.series.items()}
    for value, residual, step in zip(series["eigenvalue"], series["residual"], steps[::2], strict=True):
        assert 0 < residual <= sharpness.RESIDUAL
        assert np.abs(eigenvalues(step)[0] - value).min() <= residual * value


class Attention(nn.Module):
    """Attention of each sample to itself alone, of one head."""

    def __init__(self, kernel):
        super().__init__()
        self.kernel = kernel

    def forward(self, x):
        return self.kernel(*[x[:, None, None]] * 3).flatten(1)


def fused(*inputs):
    return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(*inputs)[0]


ASYMMETRIC = "the Hessian is not symmetric: a layer has no second derivative"


@pytest.mark.parametrize(
    ("norm", "last", "probe", "reason"),
    [
        ("online-norm", [], "sharpness", f"{ASYMMETRIC}, or a gradient of its own"),
        ("online-norm", [], "sharpness(iterations=1)", f"{ASYMMETRIC}, or a gradient of its own"),
        ("none", [Attention(fused)], "sharpness", "a layer has no second derivative: derivative for aten::_scaled_"),
    ],
)
def test_a_network_without_a_hessian_is_refused(norm, last, probe, reason):
    """Online norm's gradient is its own by intention, and not to be differentiated."""
    [trace], _ = trained([probe], lambda place: nn.Sequential(network(place), *last), INPUTS, norm)

    assert "unsupported" == trace.ended
    assert trace.reason.startswith(reason)


def test_attention_has_a_hessian():
    """Left alone, torch takes a fused kernel for it, which has none."""
    last = Attention(nn.functional.scaled_dot_product_attention)
    [trace], _ = trained(["sharpness"], lambda place: nn.Sequential(network(place), last), INPUTS)

    assert "watched" == trace.ended


def test_equal_eigenvalues_are_found_once_and_the_rest_is_nan():
    start = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)

    values, residuals, asymmetry = sharpness.largest(torch.tensor([5.0, 5.0, 1.0, 1.0]).mul, start, 3, 10)

    np.testing.assert_allclose(values, [5, 1, math.nan])
    np.testing.assert_allclose(residuals, [0, 0, math.nan], atol=1e-12)
    assert asymmetry < 1e-12


def test_rounding_takes_no_vector_out_of_the_basis():
    """Eigenvalues over nine decades in single precision: without a second orthogonalization 1e-4 would be off."""
    every = torch.logspace(-3, 6, 40)

    values, _, asymmetry = sharpness.largest(every.mul, torch.ones(40), 5, 40)

    np.testing.assert_allclose(values, every.flip(0)[:5], rtol=1e-5)
    assert asymmetry < 1e-6


def test_a_network_that_is_lost_has_none():
    values, residuals, _ = sharpness.largest(lambda vector: vector * math.inf, torch.ones(3), 2, 10)

    assert np.isnan([*values, *residuals]).all()

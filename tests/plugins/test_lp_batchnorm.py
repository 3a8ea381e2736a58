"""What no check knows of Lp batch norm: its limits, its constant, and what its running averages are of."""

import pytest
import torch
from torch import nn

import normbench


def test_by_the_second_norm_it_is_batch_norm():
    """Outputs and gradients are torch's in training, eps included; the average is of sqrt(var + eps)."""
    layer = normbench.layer("lp-batchnorm", channels=4, p="2", eps=0.1, momentum=0.3).double()
    torchs = nn.BatchNorm2d(4, eps=0.1, momentum=0.3).double()
    x, gradient = 2 + torch.randn(2, 6, 4, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    both = [one.clone().requires_grad_() for one in (x, x)]

    outputs = [norm(one) for norm, one in zip((layer, torchs), both, strict=True)]
    for output in outputs:
        output.backward(gradient)

    torch.testing.assert_close(*outputs)
    torch.testing.assert_close(both[0].grad, both[1].grad)
    torch.testing.assert_close(layer.running_mean, torchs.running_mean)
    torch.testing.assert_close(layer.running_scale, 0.7 + 0.3 * (x.var((0, 2, 3), correction=0) + 0.1).sqrt())


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("p", ["1", "2", "max"])
def test_evaluation_is_by_what_training_divided_by(p, centred):
    """The averages of a single batch give that batch in evaluation what training gave it."""
    layer = normbench.layer("lp-batchnorm", channels=4, p=p, centred=centred, eps=0.1, momentum=1.0)
    x = 2 + torch.randn(6, 4, 5, 3, generator=torch.Generator().manual_seed(0))

    torch.testing.assert_close(layer(x), layer.eval()(x))


@pytest.mark.parametrize(("p", "least", "most"), [("1", 0.98, 1.02), ("2", 0.98, 1.02), ("max", 1.0, 1.6)])
def test_the_constant_is_that_of_normal_numbers(p, least, most):
    """It makes s their standard deviation, here 3; that of the maximum comes from wide bounds."""
    layer = normbench.layer("lp-batchnorm", channels=8, layout="NC", p=p, momentum=1.0)

    layer(1 + 3 * torch.randn(20_000, 8, generator=torch.Generator().manual_seed(0)))

    assert least < layer.running_scale.mean().item() / 3 < most

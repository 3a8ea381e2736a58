"""What no check knows of batch norm that freezes its statistics: when, and what it computes from then on."""

import pytest
import torch
from torch import nn

import normbench


def test_it_is_batch_norm_then_batch_norm_in_evaluation():
    """It takes the steps of torch's layer that is put into evaluation in the middle: gamma and beta learn on."""
    frozen, torchs = normbench.layer("batchnorm-frozen", channels=4, momentum=0.3), nn.BatchNorm2d(4, momentum=0.3)
    optimizers = [torch.optim.SGD(layer.parameters(), lr=0.1) for layer in (frozen, torchs)]
    generator = torch.Generator().manual_seed(0)

    for step in range(6):
        x, gradient = 2 + torch.randn(2, 6, 4, 5, 3, generator=generator)
        frozen.on_step(step, 6)
        torchs.train(step < 3)
        both = [one.clone().requires_grad_() for one in (x, x)]
        for layer, given, optimizer in zip((frozen, torchs), both, optimizers, strict=True):
            optimizer.zero_grad()
            layer(given).backward(gradient)
            optimizer.step()

        torch.testing.assert_close(both[0].grad, both[1].grad)
        for name in ("weight", "bias", "running_mean", "running_var"):
            torch.testing.assert_close(getattr(frozen, name), getattr(torchs, name))


@pytest.mark.parametrize(("after", "first"), [(0.0, 0), (0.5, 4), (0.51, 5), (1.0, None)])
def test_the_step_that_freezes(after, first):
    """It is the first that has the share of the steps behind it; at 1 there is none."""
    layer = normbench.layer("batchnorm-frozen", channels=4, after=after)

    frozen = [step for step in range(8) if layer.on_step(step, 8) or layer.frozen]

    assert frozen == ([] if first is None else list(range(first, 8)))

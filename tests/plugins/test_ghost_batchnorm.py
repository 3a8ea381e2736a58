"""What no check knows of ghost batch norm: its limits, and how its running averages move."""

import pytest
import torch
from torch import nn

import normbench
from normbench.errors import UsageError


@pytest.mark.parametrize("ghost", [6, 9])
def test_one_ghost_is_batch_norm(ghost):
    """A batch of `ghost` samples, or of fewer, is normalized as torch does it, to the bit, and moves the averages."""
    layer, torchs = normbench.layer("ghost-batchnorm", channels=4, ghost=ghost), nn.BatchNorm2d(4)
    x = 2 + torch.randn(6, 4, 5, 3, generator=torch.Generator().manual_seed(0))

    assert torch.equal(torchs(x), layer(x))
    for name in ("running_mean", "running_var"):
        torch.testing.assert_close(getattr(layer, name), getattr(torchs, name))


@pytest.mark.parametrize("sizes", [[3, 3], [3, 4], [3, 3, 5]])
@pytest.mark.parametrize("layout", ["NC", "NCHW"])
def test_each_ghost_is_a_batch(layout, sizes):
    """Outputs and gradients are torch's of each part, its averages the mean over samples, moved once by momentum."""
    layer = normbench.layer("ghost-batchnorm", channels=4, layout=layout, ghost=3, momentum=0.3).double()
    torchs = [(nn.BatchNorm1d if layout == "NC" else nn.BatchNorm2d)(4, momentum=1.0).double() for _ in sizes]
    shape = (sum(sizes), 4) if layout == "NC" else (sum(sizes), 4, 5, 3)
    x, gradient = torch.randn(2, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    parts = [part.clone().requires_grad_() for part in x.split(sizes)]

    output = layer(x.requires_grad_())
    output.backward(gradient)
    outputs = [norm(part) for norm, part in zip(torchs, parts, strict=True)]
    torch.cat(outputs).backward(gradient)

    torch.testing.assert_close(output, torch.cat(outputs))
    torch.testing.assert_close(x.grad, torch.cat([part.grad for part in parts]))
    torch.testing.assert_close(layer.weight.grad, sum(norm.weight.grad for norm in torchs))
    for name, start in {"running_mean": 0.0, "running_var": 1.0}.items():
        mean = sum(size * getattr(norm, name) for size, norm in zip(sizes, torchs, strict=True)) / sum(sizes)
        torch.testing.assert_close(getattr(layer, name), 0.7 * start + 0.3 * mean)


@pytest.mark.parametrize("site", [normbench.Site(4, "NC"), normbench.Site(4, "NCHW", spatial=(1, 1))])
def test_ghosts_of_one_value_are_unsupported(site):
    """Where a sample has one value per channel, a ghost has at least two."""
    with pytest.raises(UsageError, match=r"^a ghost of one sample has one value per channel here"):
        normbench.layer("ghost-batchnorm", site=site, ghost=1)

"""What no check knows of switchable norm: the norms that it mixes, its running averages, and where it can't stand."""

import re

import pytest
import torch

import normbench
from normbench import plugins
from normbench.contract import Site


def built(name, layout="NCHW"):
    """Return a layer for three channels, in float64."""
    return normbench.layer(name, channels=3, layout=layout).double()


@pytest.mark.parametrize(("layout", "shape"), [("NCL", (4, 3, 5)), ("NCHW", (4, 3, 5, 2))])
@pytest.mark.parametrize(("number", "name"), list(enumerate(["instance-norm", "layer-norm", "batchnorm"])))
def test_one_weight_alone_is_one_norm(number, name, layout, shape):
    """In training; the logits are alike at the start, and here all weight is on one."""
    switchable, other = built("switchable-norm", layout), built(name, layout)
    x = 3 * torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 5
    for logits in (switchable.mean_logits, switchable.var_logits):
        assert [1.0] * 3 == logits.tolist()
        logits.data = torch.full((3,), -1e3, dtype=torch.float64)
        logits.data[number] = 0.0

    torch.testing.assert_close(switchable(x), other(x))


def test_running_averages():
    """They are of the batch's mean and biased variance."""
    layer, x = built("switchable-norm"), torch.randn(4, 3, 5, 2, dtype=torch.float64)

    layer(x)

    torch.testing.assert_close(layer.running_mean, 0.1 * x.mean((0, 2, 3)))
    torch.testing.assert_close(layer.running_var, 0.9 + 0.1 * x.var((0, 2, 3), correction=0))


def test_an_instance_of_one_value_is_refused():
    """As the layer is built, or where only the input shows it."""
    with pytest.raises(normbench.Unsupported, match="one value"):
        plugins.load().norms["switchable-norm"].thing.build(Site(3, "NCHW", spatial=(1, 1)), {})
    with pytest.raises(
        ValueError, match=re.escape("several positions per channel of a sample, got the shape (4, 3, 1, 1)")
    ):
        built("switchable-norm")(torch.zeros(4, 3, 1, 1, dtype=torch.float64))

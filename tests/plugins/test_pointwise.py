"""DyT and Derf against x-transformers."""

import pytest
import torch

import normbench


@pytest.mark.parametrize(("norm", "theirs"), [("dyt", "DynamicTanh"), ("derf", "Derf")])
def test_it_computes_as_x_transformers(norm, theirs):
    """Both begin at the same numbers where alpha is the same."""
    oracle = getattr(pytest.importorskip("x_transformers.x_transformers"), theirs)(4, init_alpha=0.3)
    layer = normbench.layer(norm, channels=4, layout="NLC", alpha=0.3)
    x = 3 * torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0))

    torch.testing.assert_close(layer(x), oracle(x))

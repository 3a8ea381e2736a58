"""Layers that are wrong where a check would not look first: late in a clock, at the first tokens, in a forward."""

import pytest
import torch
from torch import nn

from normbench import Norm, Traits, Unsupported


class WordlessError(Exception):
    def __str__(self):
        raise RuntimeError


class Raises(nn.Module):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def forward(self, x):
        raise self.error


class FirstTwo(nn.Module):
    """Its first token sees the second."""

    def forward(self, x):
        return torch.cat([x[:, :1] + x[:, 1:2], x[:, 1:]], 1)


class Late(nn.Module):
    """Its gradient is that of what it computes at the beginning alone."""

    def __init__(self):
        super().__init__()
        self.register_buffer("share", torch.zeros(()))

    def on_step(self, step, steps):
        self.share.fill_(step / steps)

    def forward(self, x):
        root = x.square().mean(1, keepdim=True).add(1e-5).sqrt()
        return x / (root.detach() * self.share + root * (1 - self.share))


class Seeds(nn.Module):
    def on_step(self, step, steps):
        torch.manual_seed(step)

    def forward(self, x):
        return x


class Wide(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.register_buffer("ones", torch.ones(channels, dtype=torch.float64))

    def forward(self, x):
        return x * self.ones


def norm(layer, *layouts, **described):
    return Norm("mine", layer, summary="Mine", layouts=set(layouts or ("NC",)), **described)


BROKEN = {
    "unsupported in a forward": (
        norm(lambda site: Raises(Unsupported("no"))),
        "builds",
        "its forward raises Unsupported",
    ),
    "what ends a program": (norm(lambda site: Raises(GeneratorExit())), "builds", "raised GeneratorExit"),
    "an error without words": (
        norm(lambda site: Raises(WordlessError())),
        "builds",
        "a WordlessError that can't be shown",
    ),
    "a wider buffer": (norm(lambda site: Wide(site.channels)), "builds", "torch.float64"),
    "an activation left out": (norm(lambda site: nn.Identity(), placement="fused"), "builds", "and without"),
    "the first two tokens": (norm(lambda site: FirstTwo(), "NLC"), "causal", "a later token changed"),
    "a gradient that is late": (norm(lambda site: Late()), "gradient", "gradient"),
    "a clock that seeds": (norm(lambda site: Seeds()), "clock", "on_step draws from torch's generator, or seeds it"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_it_is_found(checked, case):
    """The check of that property fails, whatever the layer raises."""
    broken, check, words = BROKEN[case]

    result = checked(broken, check, sorted(broken.layouts))

    assert "failed" == result.status
    assert words in result.said


def test_a_layer_that_needs_even_sizes_is_checked_at_them(checked):
    """Where it says so as it is built."""

    def layer(site):
        if any(size % 2 for size in site.spatial):
            raise Unsupported("even sizes")
        return nn.BatchNorm2d(site.channels)

    traits = Traits(batch_dependent=True, state=("running_mean", "running_var", "num_batches_tracked"))

    assert "passed" == checked(norm(layer, "NCHW", traits=traits), "builds", ["NCHW"]).status

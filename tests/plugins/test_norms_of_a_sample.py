"""Norms of one sample: what they are to each other and to other people's, and where they can't stand."""

import dataclasses
import math

import pytest
import torch

import normbench
from normbench import plugins
from normbench.contract import Site


def draw(*shape):
    """Return normal numbers far from 0."""
    return 3 * torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 5


def built(name, site, **params):
    """Return the layer of a norm at a site, in float64."""
    return plugins.load().norms[name].thing.build(site, params).double()


@pytest.mark.parametrize(
    ("layout", "shape"), [("NC", (3, 8)), ("NCL", (3, 8, 5)), ("NCHW", (3, 8, 4, 3)), ("NLC", (3, 5, 8))]
)
def test_group_norm_with_one_group_is_layer_norm(layout, shape):
    """In every layout."""
    x = draw(*shape)
    one, layer = (
        built(name, Site(8, layout), **params) for name, params in (("group-norm", {"groups": 1}), ("layer-norm", {}))
    )

    torch.testing.assert_close(one(x), layer(x))


def test_group_norm_with_a_group_per_channel_is_instance_norm():
    """Over the space of each channel."""
    x = draw(3, 8, 4, 3)

    torch.testing.assert_close(
        built("group-norm", Site(8, "NCHW"), groups=8)(x), built("instance-norm", Site(8, "NCHW"))(x)
    )


@pytest.mark.parametrize(("asked", "channels", "groups"), [(8, 64, 8), (8, 12, 6), (8, 7, 7), (32, 4, 4), (4, 10, 2)])
def test_groups_are_the_most_that_divide_the_channels(asked, channels, groups):
    """At most as many as were asked for."""
    layer = normbench.layer("group-norm", channels=channels, layout="NCHW", groups=asked)

    assert groups == layer.num_groups


@pytest.mark.parametrize(
    ("name", "params", "site"),
    [
        ("group-norm", {"groups": 8}, Site(8, "NC")),
        ("group-norm", {"groups": 8}, Site(8, "NLC", spatial=(5,))),
        ("group-norm", {"groups": 8}, Site(8, "NCHW", spatial=(1, 1))),
        ("instance-norm", {}, Site(8, "NCHW", spatial=(1, 1))),
        ("instance-norm", {}, Site(8, "NCL", spatial=(1,))),
        ("layer-norm", {"affine": "element"}, Site(8, "NCHW")),
        ("layer-norm-scaling", {}, Site(8, "NCHW", sites=4, blocks=0)),
    ],
    ids=str,
)
def test_where_it_can_not_stand_it_says_why(name, params, site):
    """In one line, as the layer is built."""
    with pytest.raises(normbench.Unsupported, match=r"^[^\n]+$"):
        built(name, site, **params)


def test_layer_norm_per_element_can_not_be_over_channels():
    """Two parameters that contradict each other are refused."""
    with pytest.raises(ValueError, match="true or false"):
        built("layer-norm", Site(8, "NCHW", spatial=(4, 3)), over="channels", affine="element")


@pytest.mark.parametrize("of", ["layer", "rms"])
def test_layer_norm_scaling_goes_by_the_block(of):
    """By 1 / sqrt(n) in the n-th; not at all outside of blocks."""
    x, site = draw(2, 5, 8), Site(8, "NLC", sites=5, blocks=4)

    free = built("layer-norm-scaling", site, of=of)(x)
    fourth = built("layer-norm-scaling", dataclasses.replace(site, block=3), of=of)(x)

    torch.testing.assert_close(fourth, free / math.sqrt(4))


def test_only_the_zero_centred_gain_is_decayed():
    """Weight decay pulls it towards 1, where RMS norm's would go to 0."""
    assert not hasattr(normbench.layer("rms-norm", channels=4), "decayed")
    layer = normbench.layer("zero-centred-rms-norm", channels=4)
    assert [layer.weight] == layer.decayed()
    assert [0.0] * 4 == layer.weight.tolist()


def test_those_of_timm():
    """Layer norm over channels of each pixel, and global response norm, with gains that are not where they begin."""
    timm, grn = pytest.importorskip("timm.layers"), pytest.importorskip("timm.layers.grn")
    x = draw(3, 8, 4, 3)
    pairs = [
        (built("layer-norm", Site(8, "NCHW"), over="channels"), timm.LayerNorm2d(8, eps=1e-5).double()),
        (built("grn", Site(8, "NCHW")), grn.GlobalResponseNorm(8, channels_last=False).double()),
    ]
    for ours, theirs in pairs:
        values = draw(2, 8)
        for layer in (ours, theirs):
            for parameter, value in zip(layer.parameters(), values, strict=True):
                parameter.data.copy_(value)
        torch.testing.assert_close(ours(x), theirs(x))

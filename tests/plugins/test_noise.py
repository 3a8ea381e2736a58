"""What no check knows of noisy batch norm and its control: what is drawn, when, and that it is batch norm without."""

import pytest
import torch
from torch import nn

import normbench
from normbench.train.recalibrate import recalibrated
from normbench_plugins.layers import noise as layers


def noise(**params):
    """Return the noise alone, for two channels."""
    return normbench.layer("noise", channels=2, layout="NC", **params)


def seeded(call):
    """Return what a call gives from one seed of the global generator."""
    torch.manual_seed(0)
    return call()


NOTHING = [{"shift": 0, "scale": 0, "spread": 0}, {"form": "additive", "mean": 0, "std": 0}]


@pytest.mark.parametrize("params", NOTHING)
@pytest.mark.parametrize(("layout", "shape"), [("NCHW", (4, 3, 2, 2)), ("NLC", (4, 2, 3))])
def test_without_noise_it_is_batch_norm(layout, shape, params):
    """The output, and the running averages."""
    x = torch.randn(shape)
    noisy, plain = (
        normbench.layer(name, channels=3, layout=layout, **given)
        for name, given in (("noisy-batchnorm", params), ("batchnorm", {}))
    )

    torch.testing.assert_close(noisy(x), plain(x), rtol=0, atol=0)
    assert all(map(torch.equal, noisy.buffers(), plain.buffers()))


def test_its_control_has_the_same_noise():
    """From one seed, on the output of batch norm."""
    x = torch.randn(5, 2)
    noisy, plain = (normbench.layer(name, channels=2, layout="NC") for name in ("noisy-batchnorm", "batchnorm"))

    torch.testing.assert_close(seeded(lambda: noisy(x)), seeded(lambda: noise()(plain(x))), rtol=0, atol=0)


@pytest.mark.parametrize(("per", "alike"), [("channel", False), ("layer", True)])
def test_a_forward_has_one_distribution_per_channel_or_per_layer(per, alike):
    """Of zeros only the shifts are left, uniform within `spread` around the mean of the distribution."""
    values = seeded(lambda: noise(per=per)(torch.zeros(2000, 2)))

    middle = (values.amax(0) + values.amin(0)) / 2
    torch.testing.assert_close(values.amax(0) - values.amin(0), torch.tensor([0.2, 0.2]), rtol=0.02, atol=0)
    assert middle.abs().max() < 0.5
    assert alike == torch.allclose(*middle, atol=2e-3)


def test_over_many_forwards_the_distributions_fill_their_ranges():
    """The means are uniform from -0.5 to 0.5, the scales from 1 to 1.25; each value has the scatter of both draws."""
    layer = normbench.layer("noise", channels=4000, layout="NC")
    zeros, ones = (seeded(lambda x=x: layer(x)) for x in (torch.zeros(1, 4000), torch.ones(1, 4000)))
    scales = ones - zeros

    assert 0 == pytest.approx(zeros.mean().item(), abs=0.02)
    assert (1 + 0.2**2) / 12 == pytest.approx(zeros.var().item(), rel=0.05)
    assert 1.125 == pytest.approx(scales.mean().item(), abs=0.01)
    assert 0.25**2 / 12 + 0.1**2 == pytest.approx(scales.var().item(), rel=0.1)


def test_additive_noise_is_normal():
    """Of its mean and standard deviation, whatever the input."""
    added = seeded(lambda: noise(form="additive", mean=0.5, std=2.0)(torch.full((5000, 2), 7.0))) - 7

    assert (0.5, 2.0) == pytest.approx((added.mean().item(), added.std().item()), abs=0.08)


def test_each_site_has_its_own_additive_noise():
    """`mean` and `std` may be lists, with a number for each site in the order of the network."""
    sites = [normbench.Site(2, "NC", index=index, sites=2) for index in range(2)]
    spread = {"form": "additive", "mean": [0.5, -3], "std": [2.0, 0]}

    first, second = (seeded(lambda site=site: layers.noise(site, **spread)(torch.zeros(5000, 2))) for site in sites)

    assert (0.5, 2.0) == pytest.approx((first.mean().item(), first.std().item()), abs=0.08)
    assert torch.equal(second, torch.full_like(second, -3))


@pytest.mark.parametrize("given", [{"mean": [1.0]}, {"std": [1.0, 2.0, 3.0]}])
def test_another_count_than_that_of_the_sites_is_refused(given):
    """A list that is too short, and one that is too long."""
    with pytest.raises(ValueError, match="one number, or one for each of the 2 sites"):
        layers.noise(normbench.Site(2, "NC", index=0, sites=2), form="additive", **given)


def test_averages_taken_anew_have_no_noise_in_them():
    """Recalibration trains batch norms alone: those of two layers become what they are without noise."""
    batches = torch.randn(3, 8, 2)
    noisy, plain = (
        nn.Sequential(*(normbench.layer(name, channels=2, layout="NC") for _ in range(2)))
        for name in ("noisy-batchnorm", "batchnorm")
    )
    noisy(batches[0])  # has moved the averages of the second layer by what the first one drew

    averages = []
    for network in (noisy, plain):
        network.eval()
        with recalibrated(network, iter([lambda x=x, network=network: network(x) for x in batches])):
            averages.append([buffer.clone() for name, buffer in network.named_buffers() if "running" in name])

    for found, expected in zip(*averages, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_each_lane_draws_its_own_noise():
    """Under vmap with randomness = "different"."""
    drawn = torch.func.vmap(noise(), randomness="different")(torch.zeros(2, 3, 2))

    assert not torch.isclose(drawn[0], drawn[1]).any()

"""The task digits-cnn and the suite quick: the data, the network, and the picture that the suite must show."""

from pathlib import Path

import msgspec
import pytest
import torch

from normbench import plugins
from normbench.train import fit
from normbench.train.assemble import network
from normbench.train.data import load
from normbench.trials import Trial


@pytest.fixture(scope="module")
def registry():
    return plugins.load()


def digits(registry, norm, rate, seed=0):
    recipe = msgspec.structs.replace(registry.task("digits-cnn").recipe, rate=rate)
    return Trial(task="digits-cnn", task_version=1, norm=norm, recipe=recipe, seed=seed)


def test_the_split_is_fixed_and_disjoint(registry):
    """1,077 digits to train on, 360 to validate, 360 to test, no image in two, pixels in [0, 1]."""
    task = registry.task("digits-cnn")
    loaded = load(task, {}, task.recipe, Path(), torch.device("cpu"))
    splits = [loaded.train, loaded.validation, loaded.test]

    assert [1077, 360, 360] == [len(split.targets) for split in splits]
    assert all(split.inputs.shape[1:] == (1, 8, 8) for split in splits)
    assert (0.0, 1.0) == (loaded.train.inputs.min().item(), loaded.train.inputs.max().item())
    assert [7, 9, 4, 7, 0, 2] == loaded.test.targets[:6].tolist()
    images = torch.cat([split.inputs for split in splits]).flatten(1)
    assert len(images.unique(dim=0)) == len(images)


@pytest.mark.parametrize(
    ("norm", "expected"), [("none", 7_290), ("batchnorm", 7_354), ("batchnorm-no-affine", 7_226), ("layer-norm", 7_418)]
)
def test_the_network_has_the_parameters_of_its_definition(registry, norm, expected):
    """Four 3 x 3 convolutions of 16 channels and a linear; a bias goes where a norm centres, gamma and beta come."""
    found = sum(parameter.numel() for parameter in network(digits(registry, norm, 0.1), registry).parameters())

    assert expected == found


#: Rates, and what the test accuracy must be there: (above, below).
PICTURE = {
    "none": {0.01: (0, 0.3), 1: (0, 0.3), 3: (0, 0.3), 10: (0, 0.3)},
    "batchnorm": {0.01: (0.9, 1), 0.1: (0.9, 1), 1: (0.9, 1), 10: (0, 0.3)},
    "batchnorm-no-affine": {0.01: (0.9, 1), 3: (0.85, 1), 10: (0.85, 1)},
    "batchnorm-after": {0.01: (0.9, 1), 0.1: (0.9, 1), 3: (0, 0.3), 10: (0, 0.3)},
}


@pytest.mark.slow
@pytest.mark.parametrize(("norm", "rate"), [(norm, rate) for norm, rates in PICTURE.items() for rate in rates])
def test_the_picture_that_quick_shows(registry, norm, rate):
    """Without a norm training is lost at .01 and from 1 up; batch norm holds from .01 to 1, without affine to 10."""
    above, below = PICTURE[norm][rate]

    found = next(fit([digits(registry, norm, rate, seed=2)], registry=registry))

    assert above <= found.score <= below

"""The task mnist-cnn: its network, its length, and where norms hold."""

import pytest
import torch
from torch import nn

from normbench.train import fit
from normbench.train.assemble import network
from normbench.trials import Trial


def mnist_cnn(builtin, norm, samples=0, **recipe):
    task = builtin.task("mnist-cnn")
    return Trial(
        task=task.name, task_version=task.version, task_params={"samples": samples} if samples else {}, norm=norm,
        recipe=task.recipe.changed(**recipe), seed=0,
    )  # fmt: skip


@pytest.mark.parametrize(("norm", "expected"), [("none", 6_218), ("batchnorm", 6_274), ("layer-norm", 6_330)])
def test_the_network_has_the_parameters_of_its_definition(builtin, norm, expected):
    """Three 3 x 3 convolutions of 8, 16 and 32 channels and a linear; a bias goes where a norm centres."""
    found = sum(parameter.numel() for parameter in network(mnist_cnn(builtin, norm), builtin).parameters())

    assert expected == found


def test_images_of_bytes_become_ten_numbers_by_way_of_a_4_by_4_map(builtin):
    """Each convolution halves the image: 28, 14, 7, 4."""
    built = network(mnist_cnn(builtin, "batchnorm"), builtin)
    images = torch.zeros(2, 1, 28, 28, dtype=torch.uint8)
    sizes = []
    for module in built.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda module, inputs, output: sizes.append(tuple(output.shape[1:])))

    outputs = built(images)

    assert [(8, 14, 14), (16, 7, 7), (32, 4, 4)] == sizes
    assert (2, 10) == outputs.shape


@pytest.mark.parametrize("task", ["digits-cnn", "mnist-cnn"])
@pytest.mark.parametrize(("dropout", "expected"), [(0.0, []), (0.25, [0.25])])
def test_dropout_stands_before_the_last_linear(builtin, task, dropout, expected):
    """The recipe's dropout acts once, on what the last linear takes; without it there is no such module."""
    described = builtin.task(task)
    recipe = described.recipe.changed(dropout=dropout)
    trial = Trial(task=task, task_version=described.version, norm="none", recipe=recipe, seed=0)

    found = [module.p for module in network(trial, builtin).modules() if isinstance(module, nn.Dropout)]

    assert expected == found


def test_a_training_takes_156_steps_and_learns(builtin, real):
    """With batch norm, at the task's own rate, 0.4 epochs are enough to tell most digits."""
    found = next(fit([mnist_cnn(builtin, "batchnorm")], registry=builtin, data_dir=str(real)))

    assert ("trained", 156) == (found.outcome, found.steps)
    assert found.score > 0.75


#: Rates, and whether a network with the norm trains there; with batch norm at .1 it does in the test above.
PICTURE = {
    "none": {0.01: False, 0.1: True, 1: False, 10: False},
    "batchnorm": {0.01: True, 3: True, 10: False},
}


@pytest.mark.slow
@pytest.mark.parametrize(("norm", "rate"), [(norm, rate) for norm, rates in PICTURE.items() for rate in rates])
def test_batch_norm_trains_where_the_plain_network_is_lost(builtin, real, norm, rate):
    """Without a norm training is lost from 1 up; with batch norm it holds from .01 to 3."""
    found = next(fit([mnist_cnn(builtin, norm, rate=rate)], registry=builtin, data_dir=str(real)))

    assert PICTURE[norm][rate] == (found.outcome == "trained")

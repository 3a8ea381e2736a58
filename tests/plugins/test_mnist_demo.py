"""The task mnist-demo: the network of the demonstration in both forms, its first weights, and its data."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from normbench.train import fit
from normbench.train.assemble import network
from normbench.train.data import load
from normbench.trials import Trial

BATCH_NORM = {"eps": 1e-6, "gamma_init": 0.0, "gamma_std": 0.1, "evaluation": "batch"}


def demo(builtin, norm="batchnorm", form="demo", samples=0, **params):
    task = builtin.task("mnist-demo")
    return Trial(
        task=task.name, task_version=task.version, task_params={"form": form, "samples": samples}, norm=norm,
        params=params, recipe=task.recipe, seed=0,
    )  # fmt: skip


@pytest.mark.parametrize("form", ["demo", "paper"])
def test_the_norm_stands_after_pooling_or_before_relu(builtin, form):
    """The network gives what the formulas give, with moments of the batch in evaluation as well."""
    built = network(demo(builtin, form=form, **BATCH_NORM), builtin).eval()
    *convolutions, linear = (module for module in built.modules() if isinstance(module, nn.Conv2d | nn.Linear))
    gammas = [module.weight for module in built.modules() if isinstance(module, nn.BatchNorm2d)]
    images = torch.randint(0, 256, (16, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))

    x = images / 255
    for convolution, gamma in zip(convolutions, gammas, strict=True):
        x = functional.conv2d(x, convolution.weight, padding=2)
        if form == "demo":
            x = functional.max_pool2d(x.relu(), 2)
        x = (x - x.mean((0, 2, 3), keepdim=True)) / (x.var((0, 2, 3), keepdim=True, correction=0) + 1e-6).sqrt()
        x = x * gamma.view(-1, 1, 1)
        if form == "paper":
            x = functional.max_pool2d(x.relu(), 2)

    torch.testing.assert_close(built(images), x.flatten(1) @ linear.weight.T)


def test_the_first_weights_are_those_of_the_demonstration(builtin):
    """Normal: 0.1 for convolutions and gamma, 1 / 28 for the linear, whose bias begins at 0; convolutions have none."""
    first, second, linear = (
        module
        for module in network(demo(builtin, "none"), builtin).modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    )
    gammas = torch.cat([
        module.weight
        for module in network(demo(builtin, **BATCH_NORM), builtin).modules()
        if isinstance(module, nn.BatchNorm2d)
    ])  # fmt: skip

    assert [(8, 1, 5, 5), (16, 8, 5, 5), (10, 784)] == [tuple(one.weight.shape) for one in (first, second, linear)]
    assert (None, None) == (first.bias, second.bias)
    assert not linear.bias.any()
    found = [one.std().item() for one in (first.weight, second.weight, linear.weight, gammas)]
    assert [0.1, 0.1, 1 / 28, 0.1] == [pytest.approx(std, rel=0.3) for std in found]
    assert 0.05 > abs(gammas.mean().item())


def test_few_images_validate(builtin, real):
    """The last 1,000 of the 60,000."""
    task = builtin.task("mnist-demo")

    loaded = load(task, {}, task.recipe, real, torch.device("cpu"))

    assert [59_000, 1_000, 10_000] == [len(split) for split in (loaded.train, loaded.validation, loaded.test)]


def test_a_training_takes_100_steps_and_learns(builtin, real):
    """As the demonstration has it, with batch norm; 1,000 images test."""
    found = next(fit([demo(builtin, samples=5_900, **BATCH_NORM)], registry=builtin, data_dir=str(real)))

    assert ("trained", 100) == (found.outcome, found.steps)
    assert found.score > 0.85

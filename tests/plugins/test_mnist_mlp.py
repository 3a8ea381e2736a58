"""The task mnist-mlp: a perceptron of the depth, the width and the activation that are asked for, on binary images."""

import pytest
import torch
from torch import nn

from normbench.train import fit
from normbench.train.assemble import network
from normbench.trials import Trial


def mlp(builtin, norm="none", recipe=(), **params):
    task = builtin.task("mnist-mlp")
    return Trial(
        task=task.name, task_version=task.version, task_params=params, norm=norm,
        recipe=task.recipe.changed(**dict(recipe)), seed=0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("params", "shapes"),
    [
        ({}, [(100, 784), (100, 100), (100, 100), (10, 100)]),
        ({"depth": 2, "width": 50, "activation": "tanh"}, [(50, 784), (50, 50), (10, 50)]),
        ({"depth": 1, "activation": "relu"}, [(100, 784), (10, 100)]),
    ],
)
def test_the_network_computes_on_binary_images(builtin, params, shapes):
    """It gives what the formulas give; a pixel counts from 128 on."""
    built = network(mlp(builtin, **params), builtin)
    weights = [module.weight for module in built.modules() if isinstance(module, nn.Linear)]
    images = torch.tensor([0, 127, 128, 255], dtype=torch.uint8).repeat(2, 196).view(2, 1, 28, 28)
    activation = getattr(torch, params.get("activation", "sigmoid"))

    x = torch.tensor([0.0, 0, 1, 1]).repeat(2, 196)
    for weight in weights[:-1]:
        x = activation(x @ weight.T)

    assert shapes == [tuple(weight.shape) for weight in weights]
    torch.testing.assert_close(built(images), x @ weights[-1].T)


def test_weights_begin_small_and_biases_at_zero(builtin):
    """Normal, with the variance 1 / fan in; the hidden layers' biases are there where no norm takes them away."""
    linears = [module for module in network(mlp(builtin), builtin).modules() if isinstance(module, nn.Linear)]
    normed = network(mlp(builtin, "batchnorm"), builtin)

    for linear in linears:
        assert linear.in_features**-0.5 == pytest.approx(linear.weight.std().item(), rel=0.1)
        assert not linear.bias.any()
    assert [False, False, False, True] == [m.bias is not None for m in normed.modules() if isinstance(m, nn.Linear)]


def test_dropout_follows_each_hidden_activation(builtin):
    """After the sigmoids, and not on the input."""
    built = network(mlp(builtin, recipe={"dropout": 0.25}), builtin)

    found = [type(module) for module in built.modules() if isinstance(module, nn.Linear | nn.Sigmoid | nn.Dropout)]

    assert [*[nn.Linear, nn.Sigmoid, nn.Dropout] * 3, nn.Linear] == found


@pytest.mark.parametrize(("norm", "trained"), [("none", False), ("batchnorm", True)])
def test_eight_layers_of_sigmoids_need_a_norm(builtin, real, norm, trained):
    """Within 200 steps; without a norm it is still at chance."""
    trial = mlp(builtin, norm, recipe={"steps": 200}, depth=8)

    found = next(fit([trial], registry=builtin, data_dir=str(real)))

    assert trained == (found.outcome == "trained")

"""The task fashion-mnist-mlp: it is the published recipe."""

import pytest
import torch
from torch import nn

from normbench.train import fit
from normbench.train.assemble import network
from normbench.trials import Trial

NORMS = ["none", "batchnorm", "batchnorm-no-affine", "batchnorm-after", "layer-norm"]


def fashion(builtin, norm, samples=0, **recipe):
    task = builtin.task("fashion-mnist-mlp")
    return Trial(
        task=task.name, task_version=task.version, task_params={"samples": samples} if samples else {}, norm=norm,
        recipe=task.recipe.changed(**recipe), seed=0,
    )  # fmt: skip


def test_the_recipe_is_the_published_one(builtin):
    """SGD at .04 without momentum, batches of 32, 10 epochs, weight decay 1e-4 on all but the norms, Xavier."""
    recipe = builtin.task("fashion-mnist-mlp").recipe

    assert ("sgd", 0.04, 0.0, 32, 10, "constant") == (
        recipe.optimizer, recipe.rate, recipe.momentum, recipe.batch_size, recipe.epochs, recipe.schedule
    )  # fmt: skip
    assert (1e-4, "norms-and-biases", "xavier", 0.0) == (
        recipe.weight_decay, recipe.weight_decay_spares, recipe.init, recipe.dropout
    )  # fmt: skip


@pytest.mark.parametrize("norm", NORMS)
def test_no_linear_has_a_bias(builtin, norm):
    """784-500-300-10 without a bias, whatever the norm; what batch norm and layer norm add is gamma and beta."""
    linears = [module for module in network(fashion(builtin, norm), builtin).modules() if isinstance(module, nn.Linear)]

    assert [(784, 500), (500, 300), (300, 10)] == [(linear.in_features, linear.out_features) for linear in linears]
    assert {None} == {linear.bias for linear in linears}


@pytest.mark.parametrize(("norm", "expected"), [("none", 545_000), ("batchnorm", 546_600), ("layer-norm", 546_600)])
def test_the_network_has_the_parameters_of_its_definition(builtin, norm, expected):
    """784 x 500 + 500 x 300 + 300 x 10 weights, and gamma and beta for 800 units."""
    found = sum(parameter.numel() for parameter in network(fashion(builtin, norm), builtin).parameters())

    assert expected == found


def test_weights_are_xavier_uniform(builtin):
    """They fill the interval of plus and minus the square root of 6 / (fan in + fan out)."""
    linears = [m for m in network(fashion(builtin, "batchnorm"), builtin).modules() if isinstance(m, nn.Linear)]

    for linear in linears:
        bound = (6 / (linear.in_features + linear.out_features)) ** 0.5
        assert 0.98 * bound < linear.weight.abs().max() <= bound
        torch.testing.assert_close(linear.weight.std().item(), bound / 3**0.5, rtol=0.05, atol=0)


def test_the_network_computes_on_raw_pixels_with_the_norm_before_relu(builtin):
    """It gives what the published one gives: flattened pixels in [0, 1]; linear, norm and ReLU, twice; a linear."""
    built = network(fashion(builtin, "batchnorm"), builtin)
    one, two, three = (module.weight for module in built.modules() if isinstance(module, nn.Linear))
    images = torch.randint(0, 256, (32, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    first, second = nn.BatchNorm1d(500), nn.BatchNorm1d(300)

    outputs = built(images)

    hidden = torch.relu(first(images.flatten(1).float() / 255 @ one.T))
    torch.testing.assert_close(outputs, torch.relu(second(hidden @ two.T)) @ three.T)


def test_dropout_follows_each_hidden_activation(builtin):
    """The recipe's dropout acts on both hidden layers, after ReLU, and not on the input."""
    built = network(fashion(builtin, "none", dropout=0.25), builtin)

    found = [type(module) for module in built.modules() if isinstance(module, nn.Linear | nn.ReLU | nn.Dropout)]

    assert [*[nn.Linear, nn.ReLU, nn.Dropout] * 2, nn.Linear] == found


@pytest.mark.parametrize("norm", NORMS)
def test_every_built_in_norm_trains(builtin, real, norm):
    """A tenth of the images, once through, is enough to leave chance far behind."""
    found = next(fit([fashion(builtin, norm, samples=5_000, epochs=1)], registry=builtin, data_dir=str(real)))

    assert ("trained", 156) == (found.outcome, found.steps)
    assert found.score > 0.55

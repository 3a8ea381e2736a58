"""A recipe's initialization: torch's own distributions, and the same weights for every norm at one seed."""

import math

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

import normbench
from normbench.recipe import Recipe
from normbench.registry import Offered, Plugin
from normbench.train.assemble import network
from normbench.train.initialize import Initializer

RECIPE = Recipe(rate=0.1, batch_size=8, epochs=1)
PLACED = ["plain", "before", "after", "fused", "weight", "drawing", "torch-weight-norm", "new-linear"]


def layers():
    """Return a network of wide linears and convolutions, the same each time."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(64, 256, 3), nn.Conv1d(128, 512, 3), nn.Linear(512, 256))


@pytest.fixture
def weights_of(registry, trial):
    """Return a function that gives the weights of a norm's network, at its start, as the linears compute with them."""

    class Wrapped(nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module = parametrizations.weight_norm(module)

        def forward(self, x):
            return self.module(x)

    wrapping = normbench.Norm(
        "torch-weight-norm", lambda site, module: Wrapped(module), summary="W", placement="weight"
    )
    registry.norms["torch-weight-norm"] = Offered(wrapping, Plugin("t", "t"))

    class Standing(nn.Linear):
        """A linear of its own with the weights of the one that it stands for."""

        def __init__(self, linear):
            super().__init__(linear.in_features, linear.out_features)
            self.load_state_dict(linear.state_dict())

    new = normbench.Norm("new-linear", lambda site, module: Standing(module), summary="N", placement="weight")
    registry.norms["new-linear"] = Offered(new, Plugin("t", "t"))

    def found(norm, seed=0, **recipe):
        modules = network(trial(norm, seed, **recipe), registry).modules()
        return [module.weight.detach() for module in modules if isinstance(module, nn.Linear)]

    return found


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_he_has_torchs_spread(layer):
    """The initialization "he" draws from the normal distribution of kaiming_normal_, by fan in and for ReLU."""
    made, torchs = layers(), layers()[layer].weight.detach()
    nn.init.kaiming_normal_(torchs, nonlinearity="relu")

    Initializer(RECIPE.changed(init="he"), 3).rest(made, [])

    found = made[layer].weight
    assert math.sqrt(2 / found[0].numel()) == pytest.approx(found.std().item(), rel=0.02)
    assert torchs.std().item() == pytest.approx(found.std().item(), rel=0.02)
    assert 0 == pytest.approx(found.mean().item(), abs=0.02 * found.std().item())
    # 0.3% of a normal distribution lie beyond three deviations; of a uniform one, none.
    assert 0.0027 == pytest.approx((found.abs() > 3 * torchs.std()).float().mean().item(), abs=0.001)


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_xavier_has_torchs_bounds(layer):
    """The initialization "xavier" draws from the uniform distribution of xavier_uniform_."""
    made, torchs = layers(), layers()[layer].weight.detach()
    nn.init.xavier_uniform_(torchs)

    Initializer(RECIPE.changed(init="xavier"), 3).rest(made, [])

    found = made[layer].weight
    assert torchs.abs().max().item() == pytest.approx(found.abs().max().item(), rel=1e-3)
    assert torchs.std().item() == pytest.approx(found.std().item(), rel=0.02)


@pytest.mark.parametrize("init", ["he", "xavier"])
def test_biases_begin_at_zero(init):
    """With weights by He or by Xavier, biases are 0."""
    made = layers()

    Initializer(RECIPE.changed(init=init), 3).rest(made, [])

    assert [0.0] * 3 == [layer.bias.abs().sum().item() for layer in made]


@pytest.mark.parametrize("init", ["default", "he", "xavier"])
def test_scale_multiplies_the_weights_and_no_bias(init):
    """`init_scale` multiplies what the initialization gives; biases are those without it."""
    plain, scaled = layers(), layers()
    Initializer(RECIPE.changed(init=init), 3).rest(plain, [])

    Initializer(RECIPE.changed(init=init, init_scale=0.5), 3).rest(scaled, [])

    for one, other in zip(plain, scaled, strict=True):
        assert torch.equal(0.5 * one.weight, other.weight)
        assert torch.equal(one.bias, other.bias)


def test_by_default_nothing_is_touched():
    """The default is what torch's layers draw for themselves."""
    made = layers()

    Initializer(RECIPE, 3).rest(made, [])

    assert all(torch.equal(one, other) for one, other in zip(layers().parameters(), made.parameters(), strict=True))


@pytest.mark.parametrize("norm", PLACED)
@pytest.mark.parametrize("recipe", [{"init": "he"}, {"init": "xavier"}, {"init": "he", "init_scale": 3.0},
                                    {"init_scale": 3.0}], ids=str)  # fmt: skip
def test_weights_are_the_same_for_every_norm(weights_of, norm, recipe):
    """At one seed every norm's network begins with the same weights, those that a norm wraps included."""
    expected = weights_of("plain", seed=4, **recipe)

    found = weights_of(norm, seed=4, **recipe)

    # Weight normalization computes the weight from its length and direction, and rounds.
    tolerance = 1e-6 if norm == "torch-weight-norm" else 0.0
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("init", ["he", "xavier"])
def test_each_seed_and_each_layer_has_weights_of_its_own(weights_of, init):
    """Another seed gives other weights, and two layers of one shape do not begin alike."""
    first, other = weights_of("plain", seed=0, init=init), weights_of("plain", seed=1, init=init)
    twins = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))

    Initializer(RECIPE.changed(init=init), 3).rest(twins, [])

    assert not any(torch.equal(one, two) for one, two in zip(first, other, strict=True))
    assert not torch.equal(twins[0].weight, twins[1].weight)


def test_a_norms_own_layers_are_left_alone():
    """A linear inside of a norm begins as the norm made it, and moves no other layer's weights."""
    torch.manual_seed(0)
    norm = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    made, without = nn.Sequential(norm, nn.Linear(4, 4)), nn.Sequential(nn.Linear(4, 4))
    before = norm[0].weight.detach().clone()

    Initializer(RECIPE.changed(init="he", init_scale=2.0), 3).rest(made, [norm])
    Initializer(RECIPE.changed(init="he", init_scale=2.0), 3).rest(without, [])

    assert torch.equal(before, norm[0].weight)
    assert torch.equal(without[0].weight, made[1].weight)


def test_the_global_generators_are_left_alone():
    """What is drawn after the initialization is what would have been drawn without."""
    made = layers()
    before = torch.get_rng_state()

    Initializer(RECIPE.changed(init="he"), 3).rest(made, [])

    assert torch.equal(before, torch.get_rng_state())

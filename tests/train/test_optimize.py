"""The optimizer and the schedule that a recipe asks for, against torch's own."""

import math

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from normbench.recipe import Recipe
from normbench.train.initialize import Initializer
from normbench.train.optimize import multiplier, optimizer
from normbench.train.place import Place

RECIPE = Recipe(rate=0.1, batch_size=8, epochs=1)
SPARING = RECIPE.changed(weight_decay=0.1, weight_decay_spares="norms-and-biases")


def rates_of(make_schedule, steps):
    """Return the rates of a schedule of torch's, for an optimizer at rate 1."""
    torchs = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = make_schedule(torchs)
    found = []
    for _ in range(steps):
        found.append(torchs.param_groups[0]["lr"])
        torchs.step()
        schedule.step()
    return found


def multipliers(steps, **values):
    return [multiplier(RECIPE.changed(**values), step, steps) for step in range(steps)]


STEPS = [1, 2, 3, 7, 10, 100, 1000]


@pytest.mark.parametrize("steps", STEPS)
def test_a_constant_rate_stays(steps):
    """Without a schedule the rate is the recipe's at every step."""
    found = multipliers(steps)

    assert [1.0] * steps == found


@pytest.mark.parametrize("steps", STEPS)
def test_cosine_is_torchs(steps):
    """The schedule "cosine" is CosineAnnealingLR over the run, down to 0."""
    expected = rates_of(lambda torchs: torch.optim.lr_scheduler.CosineAnnealingLR(torchs, steps), steps)

    found = multipliers(steps, schedule="cosine")

    assert expected == pytest.approx(found, rel=0, abs=1e-12)


@pytest.mark.parametrize("steps", STEPS)
def test_one_cycle_is_torchs(steps):
    """The schedule "one-cycle" is OneCycleLR over the run as it stands in torch, without its cycle of momentum."""
    expected = rates_of(
        lambda torchs: torch.optim.lr_scheduler.OneCycleLR(torchs, 1.0, total_steps=steps, cycle_momentum=False), steps
    )

    found = multipliers(steps, schedule="one-cycle")

    assert expected == pytest.approx(found, rel=0, abs=1e-12)


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize(
    ("milestones", "factor"), [((0.5, 0.75), 0.1), ((0.4, 0.6, 0.8), 0.2), ((0.55,), 0.5)], ids=str
)
def test_steps_are_torchs(steps, milestones, factor):
    """The schedule "steps" is MultiStepLR, which falls at the first step at or after each fraction of the run."""
    at = [math.ceil(round(milestone * steps, 6)) for milestone in milestones]
    expected = rates_of(lambda torchs: torch.optim.lr_scheduler.MultiStepLR(torchs, at, factor), steps)

    found = multipliers(steps, schedule="steps", milestones=milestones, milestone_factor=factor)

    assert expected == pytest.approx(found, rel=0, abs=1e-12)


@pytest.mark.parametrize(
    ("values", "kind", "options"),
    [
        ({}, torch.optim.SGD, {"momentum": 0.0, "weight_decay": 0.0}),
        ({"momentum": 0.9}, torch.optim.SGD, {"momentum": 0.9, "nesterov": False, "dampening": 0}),
        ({"optimizer": "adam", "weight_decay": 0.1}, torch.optim.Adam, {"betas": (0.9, 0.999), "weight_decay": 0.1}),
        ({"optimizer": "adamw"}, torch.optim.AdamW, {"betas": (0.9, 0.999), "weight_decay": 0.0}),
    ],
    ids=str,
)
def test_optimizer_is_torchs(values, kind, options):
    """A recipe's optimizer is torch's of that name, at the recipe's rate, with torch's own defaults for the rest."""
    made = optimizer(nn.Linear(2, 2), [], RECIPE.changed(**values))

    [group] = made.param_groups
    assert kind is type(made)
    assert {"lr": 0.1, **options} == {name: group[name] for name in ["lr", *options]}


@pytest.fixture
def built(registry):
    """Return a function that builds a small network with a norm, and its norms."""

    def make(norm):
        place = Place(registry.norm(norm), {}, seed=0, batch_size=8, initializer=Initializer(RECIPE, 0))
        network = nn.Sequential(place(nn.Linear(6, 5), "relu"), place(nn.Linear(5, 4), "relu"), nn.Linear(4, 2))
        return network, place.norms

    return make


def names_of(network, group):
    """Return the names of the parameters in an optimizer's group."""
    return {name for name, parameter in network.named_parameters() if any(parameter is one for one in group["params"])}


@pytest.mark.parametrize("norm", ["plain", "before", "after", "fused", "weight", "drawing"])
@pytest.mark.parametrize("kind", ["sgd", "adam", "adamw"])
def test_decayed_and_spared_are_all_parameters_once(built, norm, kind):
    """Weight decay acts on weights and spares what belongs to norms and biases; no parameter is in both, or in none."""
    network, norms = built(norm)

    decayed, spared = optimizer(network, norms, SPARING.changed(optimizer=kind)).param_groups

    assert (0.1, 0.0) == (decayed["weight_decay"], spared["weight_decay"])
    assert {name for name, parameter in network.named_parameters() if parameter.dim() == 2} == names_of(
        network, decayed
    )
    assert {name for name, parameter in network.named_parameters() if parameter.dim() == 1} == names_of(network, spared)
    assert len(list(network.parameters())) == len(decayed["params"]) + len(spared["params"])


def test_a_norms_parameter_of_any_shape_is_spared():
    """A norm's weight is spared though it has as many axes as a convolution's."""
    norm = nn.Conv2d(3, 3, 1, groups=3)
    network = nn.Sequential(nn.Conv2d(1, 3, 3), norm)

    decayed, spared = optimizer(network, [norm], SPARING).param_groups

    assert {"0.weight"} == names_of(network, decayed)
    assert {"0.bias", "1.weight", "1.bias"} == names_of(network, spared)


@pytest.mark.parametrize(
    ("says", "spared"),
    [(None, {"bias"}), (lambda linear: [linear.parametrizations.weight.original1], {"bias", "original0"})],
    ids=["nothing", "the direction"],
)
def test_what_a_norm_makes_of_a_weight_is_decayed_unless_it_says_otherwise(registry, says, spared):
    """Of weight normalization direction and length are decayed, and the bias is spared; `decayed` may name fewer."""
    norm = registry.norm("weight")
    place = Place(norm, {}, seed=0, batch_size=8, initializer=Initializer(RECIPE, 0))
    linear = parametrizations.weight_norm(nn.Linear(6, 5))
    if says:
        linear.decayed = lambda: says(linear)
    network = place(linear, "relu")

    decayed, rest = optimizer(network, place.norms, SPARING).param_groups

    assert [] == place.norms
    assert spared == {name.rpartition(".")[2] for name in names_of(network, rest)}
    assert {"original0", "original1"} - spared == {name.rpartition(".")[2] for name in names_of(network, decayed)}


class Saying(nn.Module):
    """Has a scalar, a matrix and a module of its own, and the methods given, which are functions of it."""

    def __init__(self, inner=None, **methods):
        super().__init__()
        self.alpha, self.matrix, self.inner = nn.Parameter(torch.ones(())), nn.Parameter(torch.ones(2, 2)), inner
        for name, method in methods.items():
            setattr(self, name, lambda method=method: method(self))


def test_of_two_modules_that_say_what_is_decayed_the_inner_one_decides():
    """Each speaks for all parameters in it but those of which another does; a network may speak for its own."""
    inner = Saying(decayed=lambda layer: [layer.alpha])
    norm = Saying(inner, decayed=lambda layer: [layer.matrix, layer.inner.matrix])
    network = nn.Sequential(nn.Linear(2, 2), norm)

    decayed, _ = optimizer(network, [norm], SPARING).param_groups

    assert {"0.weight", "1.matrix", "1.inner.alpha"} == names_of(network, decayed)


@pytest.mark.parametrize(
    ("own", "expected"),
    [({}, [({"1.matrix"}, 0.1), ({"1.alpha"}, 0.0)]), ({"weight_decay": 0.3}, [({"1.alpha", "1.matrix"}, 0.3)])],
    ids=["none", "own"],
)
def test_a_layer_has_groups_of_its_own(own, expected):
    """They come after the others; where they say nothing of weight decay, the recipe decides as everywhere."""
    norm = Saying(parameter_groups=lambda layer: [{"params": layer.parameters(), "rate_factor": 2, **own}])
    network = nn.Sequential(nn.Linear(2, 2), norm)

    groups = optimizer(network, [], SPARING).param_groups

    found = [(names_of(network, group), group["weight_decay"]) for group in groups]
    assert [({"0.weight"}, 0.1), ({"0.bias"}, 0.0), *expected] == found
    assert [None, None, *[2] * len(expected)] == [group.get("rate_factor") for group in groups]


@pytest.mark.parametrize(
    ("methods", "said"),
    [
        ({"parameter_groups": lambda layer: None}, "parameter_groups has None; a group is a dict of params, rate_fac"),
        (
            {"parameter_groups": lambda layer: [{"rate_factor": 2}]},
            "parameter_groups: a group has no 'params'; its keys",
        ),
        (
            {"parameter_groups": lambda layer: {"params": [], "lr": 1}},
            "parameter_groups: a group has the key 'lr'; its",
        ),
        (
            {"parameter_groups": lambda layer: {"params": [], "rate_factor": "2"}},
            "parameter_groups: rate_factor is 2; it is a number from 0",
        ),
        (
            {"parameter_groups": lambda layer: {"params": [], "weight_decay": -1}},
            "parameter_groups: weight_decay is -1; it",
        ),
        (
            {"parameter_groups": lambda layer: {"params": torch.ones(3)}},
            r"parameter_groups has a tensor of shape \(3,\)",
        ),
        (
            {"parameter_groups": lambda layer: {"params": ["alpha"]}},
            "parameter_groups has alpha, which is no parameter",
        ),
        (
            {"parameter_groups": lambda layer: [{"params": layer.alpha}] * 2},
            r"parameter_groups: a parameter of shape \(\) is in two",
        ),
        ({"decayed": lambda layer: None}, "decayed has None, which is no parameter of its own"),
    ],
    ids=["None", "no params", "a key", "text", "negative", "a tensor", "a name", "twice", "decayed None"],
)
def test_a_group_that_can_not_be_names_the_layer(methods, said):
    """What is wrong is said in one line, with the layer's class."""
    network = nn.Sequential(nn.Linear(2, 2), Saying(**methods))

    with pytest.raises((TypeError, ValueError), match=rf"^Saying\.{said}"):
        optimizer(network, [], SPARING)


@pytest.mark.parametrize(
    "values",
    [{}, {"weight_decay": 0.1}, {"weight_decay_spares": "norms-and-biases"}],
    ids=str,
)
def test_without_anything_to_spare_there_is_one_group(built, values):
    """Where nothing is decayed, or nothing spared, all parameters are in one group, in the network's order."""
    network, norms = built("before")

    [group] = optimizer(network, norms, RECIPE.changed(**values)).param_groups

    assert values.get("weight_decay", 0.0) == group["weight_decay"]
    assert all(one is other for one, other in zip(network.parameters(), group["params"], strict=True))

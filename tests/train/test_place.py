"""Where a norm goes relative to a linear, an activation and a residual sum."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn

import normbench
from normbench import plugins
from normbench.errors import UsageError
from normbench.recipe import Recipe
from normbench.registry import Offered, Plugin
from normbench.train.initialize import Initializer
from normbench.train.place import Place

RECIPE = Recipe(rate=0.1, batch_size=8, epochs=1)


@pytest.fixture
def place(registry):
    def made(norm, second=None, batch_size=8, seed=0):
        wraps = second and (registry.norm(second), {})
        initializer = Initializer(RECIPE, seed)
        return Place(registry.norm(norm), {}, seed=seed, batch_size=batch_size, initializer=initializer, second=wraps)

    return made


def linear(bias=True):
    torch.manual_seed(5)
    return nn.Linear(4, 3, bias=bias).double()


def normalized(x):
    return (x - x.mean(0)) / (x.var(0, unbiased=False) + 1e-5).sqrt()


X = torch.randn(8, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
SKIP = torch.randn(8, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
relu = torch.relu


@pytest.mark.parametrize(
    ("norm", "second", "expected"),
    [
        ("plain", None, lambda w, b: relu(X @ w.T + b)),
        ("before", None, lambda w, b: relu(normalized(X @ w.T))),
        ("after", None, lambda w, b: normalized(relu(X @ w.T + b))),
        ("fused", None, lambda w, b: relu(0.5 * (X @ w.T + b))),
        ("weight", None, lambda w, b: relu(2 * X @ w.T + b)),
        ("plain", "weight", lambda w, b: relu(2 * X @ w.T + b)),
        ("before", "weight", lambda w, b: relu(normalized(2 * X @ w.T))),
        ("after", "weight", lambda w, b: normalized(relu(2 * X @ w.T + b))),
        ("fused", "weight", lambda w, b: relu(0.5 * (2 * X @ w.T + b))),
    ],
)
def test_linear_norm_and_activation_stand_in_the_order_the_norm_asks_for(place, norm, second, expected):
    """place(linear, activation) computes what each placement says, of a norm made of two as well."""
    weight, bias = linear().weight, linear().bias

    module = place(norm, second)(linear(), "relu").double()

    torch.testing.assert_close(module(X), expected(weight, bias), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("norm", "second", "expected"),
    [
        ("plain", None, lambda w, b: relu(X @ w.T + b + SKIP)),
        ("before", None, lambda w, b: relu(normalized(X @ w.T) + SKIP)),
        ("after", None, lambda w, b: normalized(relu(X @ w.T + b + SKIP))),
        ("fused", None, lambda w, b: relu(0.5 * (X @ w.T + b) + SKIP)),
        ("weight", None, lambda w, b: relu(2 * X @ w.T + b + SKIP)),
        ("before", "weight", lambda w, b: relu(normalized(2 * X @ w.T) + SKIP)),
        ("after", "weight", lambda w, b: normalized(relu(2 * X @ w.T + b + SKIP))),
        ("fused", "weight", lambda w, b: relu(0.5 * (2 * X @ w.T + b) + SKIP)),
    ],
)
def test_residual_sums_follow_the_placement(place, norm, second, expected):
    """place.sum(linear, shortcut, activation) computes what each placement says at a residual sum, and is told so."""
    weight, bias = linear().weight, linear().bias
    placing = place(norm, second)

    module = placing.sum(linear(), None, "relu").double()

    torch.testing.assert_close(module(X, SKIP), expected(weight, bias), rtol=1e-12, atol=1e-12)
    assert {norm != "after"} == {placed.site.ends_branch for placed in placing.layers}


def test_a_shortcut_of_its_own_is_applied_to_the_skip(place):
    """The module given as shortcut acts on what is skipped, not on the branch."""
    module = place("plain").sum(linear(), nn.Linear(3, 3, bias=False).double(), None)
    nn.init.constant_(module.shortcut.weight, 1.0)

    found = module(X, SKIP)

    expected = linear()(X) + SKIP.sum(1, keepdim=True)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("norm", "kept"), [("plain", True), ("before", False), ("after", True), ("weight", True)])
def test_the_bias_is_dropped_only_where_a_norm_that_centres_follows_directly(place, norm, kept):
    """A bias whose gradient would be zero is dropped; every other stays."""
    module = linear()

    place(norm)(module, "relu")

    assert kept is (module.bias is not None)


def test_dropping_a_bias_does_not_move_the_weights_drawn_after_it(registry, trial):
    """At one seed, every linear of a network starts at the same weights whatever the norm."""
    from normbench.train.assemble import network

    weights = [
        [weight for name, weight in network(trial(norm, seed=4), registry).named_parameters() if weight.dim() == 2]
        for norm in ("plain", "before", "after", "fused", "weight", "drawing")
    ]

    for other in weights[1:]:
        assert all(torch.equal(first, second) for first, second in zip(weights[0], other, strict=True))


def test_the_bare_primitive_gives_tokens_a_norm(place):
    """place.norm serves layout NLC, where channels come last."""
    norm = normbench.layer("batchnorm", channels=5, layout="NLC").double()
    x = torch.randn(3, 7, 5, dtype=torch.float64)

    found = norm(x)

    torch.testing.assert_close(found, normalized(x.flatten(0, 1)).view_as(x), rtol=1e-12, atol=1e-12)
    assert isinstance(place("weight").norm(5, "NLC", "relu"), nn.ReLU)


def test_sites_are_counted_and_described(registry):
    """A layer is told its channels, layout, activation and index, and whether it ends a residual branch."""
    seen = []
    norm = normbench.Norm("watching", lambda site: seen.append(site) or nn.Identity(), summary="Watches")
    place = Place(norm, {}, seed=0, batch_size=8, initializer=Initializer(RECIPE, 0))

    place(nn.Conv2d(1, 4, 3), "relu")
    place.sum(nn.Conv1d(4, 6, 3), None, "gelu")
    place.norm(8, "NLC", spatial=(10,))

    assert [
        normbench.Site(4, "NCHW", "relu", 0),
        normbench.Site(6, "NCL", "gelu", 1, ends_branch=True),
        normbench.Site(8, "NLC", None, 2, (10,)),
    ] == seen


def test_a_fused_layer_before_a_sum_is_asked_for_its_form_without_activation(registry):
    """At a residual sum the site of a fused layer has no activation."""
    seen = []
    norm = normbench.Norm(
        "watching", lambda site: seen.append(site.activation) or nn.Identity(), summary="W", placement="fused"
    )
    place = Place(norm, {}, seed=0, batch_size=8, initializer=Initializer(RECIPE, 0))

    place(nn.Linear(2, 2), "relu")
    place.sum(nn.Linear(2, 2), None, "relu")

    assert ["relu", None] == seen


def test_a_norm_that_can_not_train_at_batch_size_1_says_so(place):
    """A site where a channel has one value per sample is refused at batch size 1."""
    with pytest.raises(normbench.Unsupported, match="before can't train at batch size 1"):
        place("before", batch_size=1)(linear(), "relu")


@pytest.mark.parametrize(("layout", "refused"), [("NC", True), ("NCHW", False), ("NCL", False), ("NLC", False)])
def test_a_norm_of_positions_trains_at_batch_size_1_where_there_are_some(layout, refused):
    """A norm with "spatial" is refused in layout NC alone: each other has several values a channel in one sample."""
    traits = normbench.Traits(batch_size_1="spatial")
    norm = normbench.Norm("spatial", lambda site: nn.Identity(), summary="S", traits=traits)
    place = Place(norm, {}, seed=0, batch_size=1, initializer=Initializer(RECIPE, 0))

    with pytest.raises(normbench.Unsupported, match="one value per sample") if refused else nullcontext():
        place.norm(4, layout)


@pytest.mark.parametrize(
    ("layout", "over_positions", "refused"),
    [("NLC", "yes", True), ("NLC", "no", False), ("NCL", "yes", False)],
)
def test_a_causal_task_refuses_norms_that_mix_positions(layout, over_positions, refused):
    """It goes by the trait with the norm's parameters, and tokens alone (NLC) come one after another."""
    norm = normbench.Norm(
        "mixing",
        lambda site, over="no": nn.Identity(),
        summary="M",
        traits=lambda over: normbench.Traits(mixes_positions=over == "yes"),
    )
    params = {"over": over_positions}
    place = Place(norm, params, seed=0, batch_size=8, initializer=Initializer(RECIPE, 0), causal=True)

    with pytest.raises(normbench.Unsupported, match="mixing mixes positions") if refused else nullcontext():
        place.norm(4, layout)


def test_a_layout_the_norm_has_no_form_for_is_unsupported(place):
    """The reason names the norm, the layout and those it has."""
    with pytest.raises(normbench.Unsupported, match="no form for layout NC; it has NCHW"):
        place("convolutions-only")(linear(), "relu")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "wieght", "channels": 3}, "no norm 'wieght'; did you mean 'weight'"),
        ({"name": "plain", "channels": 3, "layout": "NHWC"}, "no layout 'NHWC'"),
        ({"name": "plain", "channels": 3, "groups": 2}, "no parameter 'groups'"),
        ({"name": "weight", "channels": 3}, "wraps a linear"),
        ({"name": "plain", "channels": 3, "module": nn.Linear(2, 3)}, "wraps nothing"),
        ({"name": "convolutions-only", "channels": 3, "layout": "NC"}, "no form for layout NC"),
        ({"name": "plain"}, "it takes channels=, .* or else site="),
        ({"name": "plain", "channels": 3, "site": normbench.Site(3, "NC")}, "site= has channels, .* leave these out"),
        ({"name": "plain", "site": 3}, r"site is 3; it is a normbench\.Site"),
        ({"name": "plain", "site": normbench.Site(3, "NHWC")}, "no layout 'NHWC'"),
        ({"name": "plain", "channels": 3, "with": "weight"}, "weight wraps a linear"),
        ({"name": "plain", "channels": 3, "with": "before"}, 'with: before is of placement "before"'),
    ],
)
def test_a_mistaken_request_for_a_layer_is_refused(registry, options, message, monkeypatch):
    """normbench.layer names what is wrong and what would be right."""
    monkeypatch.setattr(plugins, "current", lambda: registry)
    with pytest.raises(UsageError, match=message):
        normbench.layer(**options)


def test_a_single_layer_can_be_told_all_that_a_network_says(registry, monkeypatch):
    """With site=, a layer that needs its input's size, or the number of steps, can be made alone."""
    norm = normbench.Norm("whole-map", lambda site: nn.LayerNorm([site.channels, *site.spatial]), summary="W")
    registry.norms["whole-map"] = Offered(norm, Plugin("mine", "tests"))
    monkeypatch.setattr(plugins, "current", lambda: registry)

    layer = normbench.layer("whole-map", site=normbench.Site(3, "NCHW", spatial=(4, 5)))

    assert (3, 4, 5) == layer.normalized_shape


def test_a_single_layer_of_a_norm_made_of_two(registry, monkeypatch):
    """The linear is wrapped by the second, and the first stands behind it."""
    monkeypatch.setattr(plugins, "current", lambda: registry)
    weight, bias = linear().weight, linear().bias

    layer = normbench.layer("before", channels=3, layout="NC", module=linear(), **{"with": "weight"}).double()

    torch.testing.assert_close(layer(X), normalized(2 * X @ weight.T + bias), rtol=1e-12, atol=1e-12)


def test_a_norm_made_of_two_draws_what_its_first_draws_alone(place):
    """The second has a stream of its own, so that both norms at one seed begin alike."""
    alone, of_two = place("drawing"), place("drawing", "weight")

    for placing in (alone, of_two):
        placing(linear(), "relu")

    assert torch.equal(alone.norms[0].scale, of_two.norms[0].scale)


def test_blocks_are_not_nested(place):
    """A block inside of a block is refused: they are counted one after another."""
    placing = place("plain")

    with pytest.raises(ValueError, match=r"place\.block\(\) inside of a block"), placing.block(), placing.block():
        pass

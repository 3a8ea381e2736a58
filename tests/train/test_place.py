"""Where a norm goes relative to a linear, an activation and a residual sum."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn

import normbench
from normbench import plugins
from normbench.errors import UsageError
from normbench.recipe import Recipe
from normbench.train.initialize import Initializer
from normbench.train.place import Place

RECIPE = Recipe(rate=0.1, batch_size=8, epochs=1)


@pytest.fixture
def place(registry):
    def made(norm, batch_size=8, seed=0):
        return Place(registry.norm(norm), {}, seed=seed, batch_size=batch_size, initializer=Initializer(RECIPE, seed))

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
    ("norm", "expected"),
    [
        ("plain", lambda w, b: relu(X @ w.T + b)),
        ("before", lambda w, b: relu(normalized(X @ w.T))),
        ("after", lambda w, b: normalized(relu(X @ w.T + b))),
        ("fused", lambda w, b: relu(0.5 * (X @ w.T + b))),
        ("weight", lambda w, b: relu(2 * X @ w.T + b)),
    ],
)
def test_linear_norm_and_activation_stand_in_the_order_the_norm_asks_for(place, norm, expected):
    """place(linear, activation) computes what each placement says."""
    weight, bias = linear().weight, linear().bias

    module = place(norm)(linear(), "relu").double()

    torch.testing.assert_close(module(X), expected(weight, bias), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("norm", "expected"),
    [
        ("plain", lambda w, b: relu(X @ w.T + b + SKIP)),
        ("before", lambda w, b: relu(normalized(X @ w.T) + SKIP)),
        ("after", lambda w, b: normalized(relu(X @ w.T + b + SKIP))),
        ("fused", lambda w, b: relu(0.5 * (X @ w.T + b) + SKIP)),
        ("weight", lambda w, b: relu(2 * X @ w.T + b + SKIP)),
    ],
)
def test_residual_sums_follow_the_placement(place, norm, expected):
    """place.sum(linear, shortcut, activation) computes what each placement says at a residual sum."""
    weight, bias = linear().weight, linear().bias

    module = place(norm).sum(linear(), None, "relu").double()

    torch.testing.assert_close(module(X, SKIP), expected(weight, bias), rtol=1e-12, atol=1e-12)


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
    """A layer is told its channels, layout, activation and index."""
    seen = []
    norm = normbench.Norm("watching", lambda site: seen.append(site) or nn.Identity(), summary="Watches")
    place = Place(norm, {}, seed=0, batch_size=8, initializer=Initializer(RECIPE, 0))

    place(nn.Conv2d(1, 4, 3), "relu")
    place.sum(nn.Conv1d(4, 6, 3), None, "gelu")
    place.norm(8, "NLC", spatial=(10,))

    assert [
        normbench.Site(4, "NCHW", "relu", 0),
        normbench.Site(6, "NCL", "gelu", 1),
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
    ],
)
def test_a_mistaken_request_for_a_layer_is_refused(registry, options, message, monkeypatch):
    """normbench.layer names what is wrong and what would be right."""
    monkeypatch.setattr(plugins, "current", lambda: registry)
    with pytest.raises(UsageError, match=message):
        normbench.layer(**options)

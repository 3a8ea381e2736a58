"""A norm made of two: one that normalizes, and one that wraps the linear before it."""

from pathlib import Path

import msgspec
import pytest
import torch
from torch import nn

import normbench
from normbench import plan, prints
from normbench.errors import UsageError
from normbench.registry import Offered, Plugin
from normbench.spelling import choice
from normbench.train import assemble, fit
from normbench.train.dry_run import try_trial
from normbench.train.made import made


class Told(nn.Module):
    """Doubles what its linear gives, and counts the steps that it is told of."""

    def __init__(self, module, factor=2.0):
        super().__init__()
        self.module, self.factor = module, factor
        self.register_buffer("told", torch.zeros(()))

    def on_step(self, step, steps):
        self.told.add_(1)

    def forward(self, x):
        return self.factor * self.module(x)


class Broken(Told):
    def forward(self, x):
        raise RuntimeError("no")


def offer(registry, name, layer, **options):
    """Register a norm of placement "weight", of a plugin of its own."""
    norm = normbench.Norm(name, layer, summary="A second", placement="weight", **options)
    registry.norms[name] = Offered(norm, Plugin(f"of-{name}", "tests"))


@pytest.fixture
def of_two(registry, trial):
    """Return a function that gives a trial of one norm with another; those that doubles, and one that breaks, exist."""
    offer(registry, "told", lambda site, module, factor=2.0: Told(module, factor))
    offer(registry, "broken", lambda site, module: Broken(module))
    offer(registry, "images-only", lambda site, module: module, layouts={"NCHW"})

    def made(norm="drawing", second="told", **options):
        return msgspec.structs.replace(trial(norm, **options), params={"with": second})

    return made


def test_it_trains_and_both_hear_of_each_step(of_two, registry):
    """A trial of it trains like any other, and is tried for a step before; layers of both are called."""
    asked = of_two(second="told(factor=0.5)")
    training = assemble.training(
        asked, registry, assemble.data(asked, registry.task("tiny"), Path(), torch.device("cpu"))
    )

    training.step(next(iter(training.batches)))
    [outcome] = fit([asked], registry=registry)

    assert try_trial(asked, registry, torch.device("cpu"), Path())
    assert outcome.outcome in ("trained", "not-trained")
    [told], [drawing] = (
        [module for module in training.network.modules() if hasattr(module, name)] for name in ("told", "scale")
    )
    assert (0.5, 1.0, 6.0) == (told.factor, told.told.item(), drawing.steps[1].item())


def test_its_print_is_that_of_both(of_two, registry):
    """Editing either norm trains it again: its print is both, and that of a norm alone is what it was."""
    first, second = (prints.norm_print(registry.norms[name], {}) for name in ("drawing", "told"))

    assert first == prints.whole_print("drawing", {}, registry)
    assert f"{first}+{second}" == made(of_two(), registry).norm_print


def test_a_broken_second_is_named(of_two, registry):
    """The trial run names the norm, the site and what was raised."""
    message = r'norm drawing\(with="broken"\) at site 0 of tiny \(5 channels, NC\): RuntimeError: no '

    with pytest.raises(UsageError, match=message):
        try_trial(of_two(second="broken"), registry, torch.device("cpu"), Path())


@pytest.mark.parametrize(
    ("norm", "second", "reason"),
    [
        ("drawing", "images-only", "images-only has no form for layout NC; it has NCHW"),
        ("convolutions-only", "told", "convolutions-only has no form for layout NC; it has NCHW"),
    ],
)
def test_where_one_can_not_stand_both_can_not(of_two, registry, norm, second, reason):
    """Both need a form for the layout of a site."""
    [outcome] = fit([of_two(norm, second)], registry=registry)

    assert ("unsupported", reason) == (outcome.outcome, outcome.reason)


def test_without_a_linear_at_its_places_it_is_unsupported(of_two, registry):
    """In a network that gives norms no linear it would be its first norm alone."""
    task = registry.tasks["tiny"].thing
    bare = normbench.Task(
        "tiny", 1, summary="B", recipe=task.recipe, chance=0.5, reference=1.0, data=task.data, params=dict(task.params),
        network=lambda place, recipe: nn.Sequential(nn.Linear(6, 5), place.norm(5, "NC", "relu"), nn.Linear(5, 2)),
    )  # fmt: skip
    registry.tasks["tiny"] = Offered(bare, Plugin("tiny", "tests"))

    [outcome] = fit([of_two()], registry=registry)

    reason = "told wraps linears; the network of tiny has none at its places for norms"
    assert ("unsupported", reason) == (outcome.outcome, outcome.reason)


def test_decay_spares_what_is_the_first_norms(of_two, registry):
    """What the second made of a weight is decayed, as it is where that stands alone."""
    place = assemble.place_of(of_two(), registry)

    place(nn.Linear(6, 5), "relu")

    assert [True, False] == [placed.wraps for placed in place.layers]
    assert [placed.module for placed in place.layers[1:]] == place.norms


@pytest.mark.parametrize(
    ("entry", "shown"),
    [
        ('drawing(with="told")', 'drawing(with="told")'),
        ({"norm": "drawing", "with": " told( factor=3 ) "}, 'drawing(with="told(factor=3.0)")'),
        ('drawing(with="told(factor=1e-6)")', 'drawing(with="told(factor=1e-06)")'),
    ],
)
def test_each_way_to_ask_for_it_is_one_spelling(of_two, registry, entry, shown):
    """However it is written, boards and records have one spelling, which says the same when it is read again."""
    _, asked = plan.asked_norm(choice(entry, "norms"), registry)

    assert shown == asked.shown
    assert asked == plan.asked_norm(choice(shown, "norms"), registry)[1]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ('drawing(with="tould")', "norms: drawing: with: no norm 'tould'; did you mean 'told'"),
        ('drawing(with="plain")', 'norms: drawing: with: plain is of placement "before"; it takes one of placement'),
        ('told(with="told")', 'norms: told: with: told is of placement "weight" itself, and is made with no other'),
        (
            'drawing(with="told(with=\\"told\\")")',
            'norms: drawing: with: told: with: told is of placement "weight" itself',
        ),
        ('drawing(with="told(facto=1)")', "norms: drawing: with: told: no parameter 'facto'; did you mean 'factor'"),
        ('drawing(with="told(")', r"norms: with: 'told\(' is not a name"),
        ("drawing(with=2)", 'norms: drawing: with is 2; it is a norm of placement "weight", as text'),
    ],
)
def test_two_that_can_not_be_one_are_refused(of_two, registry, entry, message):
    """Each mistake is one line."""
    with pytest.raises(UsageError, match=message):
        plan.asked_norm(choice(entry, "norms"), registry)

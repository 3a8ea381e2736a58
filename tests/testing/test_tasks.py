"""The checks of tasks: each finds a task that breaks its property alone, and passes a sound one."""

import dataclasses
import itertools

import pytest
import torch
from torch import nn

import normbench
from normbench.testing.kit import checks

COUNTER = itertools.count()


def data(folder, recipe):
    draws = torch.Generator().manual_seed(0)
    points = torch.randn(900, 4, generator=draws)
    return normbench.Splits(*((part, (part[:, 0] > 0).long()) for part in points.split((500, 200, 200))))


def network(place, recipe):
    return nn.Sequential(place(nn.Linear(4, 8), "relu"), nn.Linear(8, 2))


def augment(inputs, draws):
    return inputs + 0.01 * draws


SOUND = normbench.Task(
    "half-plane",
    1,
    summary="Left or right",
    recipe=normbench.Recipe(rate=0.1, batch_size=50, epochs=4, momentum=0.9),
    chance=0.5,
    reference=0.98,
    data=data,
    network=network,
    augment=augment,
    augment_draws=4,
    example=lambda recipe: torch.eye(4),
)


def tokens(folder, recipe):
    drawn = torch.randint(4, (900, 6), generator=torch.Generator().manual_seed(0))
    return normbench.Splits(*((part, part) for part in drawn.split((500, 200, 200))))


def of_tokens(place, recipe):
    return nn.Sequential(nn.Embedding(4, 8), place.norm(8, "NLC", "relu"), nn.Linear(8, 4))


#: A task of tokens, each its own answer.
CAUSAL = dataclasses.replace(SOUND, data=tokens, network=of_tokens, example=None, augment=None, causal=True)


def overlapping(folder, recipe):
    splits = data(folder, recipe)
    return dataclasses.replace(splits, test=tuple(part[:100] for part in splits.train))


def drawn(folder, recipe):
    points = torch.randn(900, 4)
    return normbench.Splits(*((part, (part[:, 0] > 0).long()) for part in points.split((500, 200, 200))))


class Mean(nn.Module):
    def forward(self, x):
        return x - x.mean(0)


def mixing(place, recipe):
    return nn.Sequential(Mean(), place(nn.Linear(4, 8), "relu"), nn.Linear(8, 2))


class SeesTheLast(nn.Module):
    """The token before the last sees the last; no other sees another."""

    def forward(self, x):
        return torch.cat([x[:, :-2], x[:, -2:-1] + x[:, -1:], x[:, -1:]], dim=1)


def looking_ahead(place, recipe):
    return nn.Sequential(nn.Embedding(4, 8), SeesTheLast(), place.norm(8, "NLC", "relu"), nn.Linear(8, 4))


def seedless(place, recipe):
    built = network(place, recipe)
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.fill_(0.1)
    return built


def wrong_layout(place, recipe):
    return nn.Sequential(nn.Linear(4, 8), place.norm(9, "NC", "relu"), nn.Linear(8, 2))


class Learns(nn.Module):
    """Draws while a norm is built: the linear after it begins otherwise for a norm with weights."""

    def __init__(self, place):
        super().__init__()
        self.norm = place.norm(4, "NC")
        torch.rand(sum(1 for _ in self.norm.parameters()))
        self.linear = nn.Linear(4, 2)

    def forward(self, x):
        return self.linear(self.norm(x))


class Counts(nn.Module):
    def forward(self, x):
        return x + 0.01 * next(COUNTER) * x.relu()


def counting(place, recipe):
    return nn.Sequential(Counts(), place(nn.Linear(4, 8), "relu"), nn.Linear(8, 2))


def in_place(inputs, draws):
    return inputs + 0.01 * torch.rand_like(inputs)


#: For each check a task that breaks it, and what the report says.
BROKEN = {
    "split": ({"data": overlapping}, "100 samples of train are in test as well (100.00% of the smaller)"),
    "shapes": ({"score": lambda outputs, targets: outputs}, "score returned the shape (8, 2); it is (8,)"),
    "placements": ({"network": wrong_layout}, "the network says NC with 9 channels"),
    "seeded": ({"data": drawn}, "data() gives other splits"),
    "paired": ({"network": lambda place, recipe: Learns(place)}, "linear begins with other weights"),
    "batch mates": ({"network": mixing}, "the output of a sample alone is another than in its batch"),
    "later tokens": ({"network": looking_ahead}, "later tokens changed, and an earlier output moved"),
    "example": ({"example": lambda recipe: torch.zeros(2, 5)}, "example is (5,) of torch.float32; data has (4,)"),
    "augmentation": ({"augment": in_place}, "it draws for itself"),
    "chance": ({"chance": 0.1}, "chance is 0.1; 5 networks that are not trained score"),
    "reference": ({"recipe": SOUND.recipe.changed(epochs=0, steps=1)}, "after 1 of its 1 steps, with batch norm"),
    "trains alike": ({"network": counting}, "the losses of three steps are"),
}
#: The sound task that a check applies to, where that is another one.
SOUND_FOR = {"later tokens": CAUSAL}


def test_there_is_a_broken_task_for_each_check():
    """No check is left out below."""
    assert set(checks("task")) == set(BROKEN)


@pytest.mark.parametrize("check", BROKEN)
def test_a_check_finds_what_breaks_it_and_passes_what_is_sound(checked_task, check):
    """The report says what was seen."""
    (changes, words), sound = BROKEN[check], SOUND_FOR.get(check, SOUND)

    assert "passed" == checked_task(sound, check).status
    broken = checked_task(dataclasses.replace(sound, **changes), check)
    assert "failed" == broken.status
    assert words in broken.said


def test_the_same_weights_at_every_seed_are_found(checked_task):
    """Seeds would repeat one run."""
    broken = checked_task(dataclasses.replace(SOUND, network=seedless), "seeded")

    assert "its network has the same weights at every seed: seeds would repeat one run" == broken.said


def test_a_task_may_say_that_evaluation_depends_on_the_batch(checked_task):
    """Then the check does not apply."""
    mixed = dataclasses.replace(SOUND, network=mixing, eval_batch_dependent=True)

    assert "not-applicable" == checked_task(mixed, "batch mates").status


@pytest.mark.parametrize(
    ("task", "why"),
    [
        (SOUND, "the task doesn't say causal"),
        (dataclasses.replace(SOUND, causal=True), "its outputs have no axis of positions"),
    ],
)
def test_later_tokens_are_for_outputs_of_positions_in_a_causal_task(checked_task, task, why):
    """Any other task has nothing to compare."""
    found = checked_task(task, "later tokens")

    assert ("not-applicable", why) == (found.status, found.said)


def test_without_data_what_needs_none_is_checked(checked_task):
    """A folder without the data is no fault of the task's."""

    def missing(folder, recipe):
        raise normbench.UsageError("points.bin is not there")

    lacking = dataclasses.replace(SOUND, data=missing)

    assert "passed" == checked_task(lacking, "batch mates").status
    split = checked_task(lacking, "split")
    assert ("not-applicable", "there is no data: points.bin is not there") == (split.status, split.said)

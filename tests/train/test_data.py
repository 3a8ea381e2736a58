"""A task's data on the device, and the batches drawn from it."""

from pathlib import Path

import pytest
import torch

import normbench
from normbench.errors import UsageError
from normbench.train.data import Batches, InMemory, load

PAIR = (torch.arange(10).float().view(10, 1), torch.arange(10))
SPLIT = InMemory(*PAIR)


def epoch_of(batches):
    return [indices.tolist() for [(indices, _)] in batches]


def test_an_epoch_takes_each_sample_at_most_once_and_drops_the_incomplete_batch():
    """Ten samples in batches of four are two batches of four, of different samples."""
    epoch = epoch_of(Batches(SPLIT, 4, seed=0))

    assert [4, 4] == [len(batch) for batch in epoch]
    assert 8 == len({sample for batch in epoch for sample in batch})


def test_the_order_is_drawn_anew_each_epoch_and_repeats_with_the_seed():
    """One seed gives one sequence of epochs, each in another order."""
    batches, again = Batches(SPLIT, 4, seed=0), Batches(SPLIT, 4, seed=0)
    first, second = epoch_of(batches), epoch_of(batches)

    assert first != second
    assert [first, second] == [epoch_of(again), epoch_of(again)]


def test_draws_belong_to_the_sample_whatever_the_batch_size():
    """Augmentation of a sample in an epoch is the same however the samples are cut into batches."""

    def draws_of(batch_size):
        batches = Batches(SPLIT, batch_size, seed=0, draws=2)
        return {t: d for [(chosen, draws)] in batches for t, d in zip(chosen.tolist(), draws.tolist(), strict=True)}

    assert draws_of(2) == draws_of(5)
    assert 10 == len(draws_of(2))


def test_draws_are_drawn_anew_each_epoch():
    """Augmentation does not do the same to a sample in two epochs."""
    batches = Batches(SPLIT, 10, seed=0, draws=2)
    [[(first, once)]], [[(second, again)]] = batches, batches

    assert not torch.equal(once[first.argsort()], again[second.argsort()])


RECIPE = normbench.Recipe(rate=0.1, batch_size=2, epochs=1)


def task_of(data, **options):
    return normbench.Task(
        "t", 1, summary="T", recipe=RECIPE, chance=0.0, reference=1.0,
        data=data, network=lambda place, recipe: None, **options,
    )  # fmt: skip


def splits(train=4):
    return normbench.Splits((torch.zeros(train, 1), torch.zeros(train)), PAIR, PAIR)


def test_without_a_held_out_split_training_takes_validation_as_well():
    """The published protocol trains on all training data."""
    recipe = normbench.Recipe(rate=0.1, batch_size=2, epochs=1, hold_out=False)

    loaded = load(task_of(lambda folder, recipe: splits()), {}, recipe, Path(), torch.device("cpu"))

    assert 14 == len(loaded.train)


def test_a_map_style_data_set_is_read_whole():
    """A data set of pairs becomes tensors, in its order."""
    pairs = [(torch.tensor([float(i)]), i) for i in range(5)]
    data = normbench.Splits(pairs, pairs, pairs)

    loaded = load(task_of(lambda folder, recipe: data), {}, RECIPE, Path(), torch.device("cpu"))

    assert torch.equal(torch.arange(5.0).view(5, 1), loaded.train.inputs)
    assert [0, 1, 2, 3, 4] == loaded.test.targets.tolist()


def test_a_function_is_given_the_parameters_it_names():
    """A task's parameter reaches data(), at its default or as set."""
    task = task_of(lambda folder, recipe, train=4: splits(train), params={"train": 6, "other": 1})

    sizes = [len(load(task, set_, task.recipe, Path(), torch.device("cpu")).train) for set_ in ({}, {"train": 8})]

    assert [6, 8] == sizes


def test_a_batch_larger_than_the_training_data_is_the_users_mistake():
    """No training of zero steps passes for one."""
    recipe = normbench.Recipe(rate=0.1, batch_size=64, epochs=1)

    with pytest.raises(UsageError, match="batch_size is 64; there are 4 training samples"):
        load(task_of(lambda folder, recipe: splits()), {}, recipe, Path(), torch.device("cpu"))

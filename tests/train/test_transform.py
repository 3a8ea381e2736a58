"""Training inputs that are changed sample by sample: the same as a batch at a time, however a batch is cut."""

import dataclasses
import re

import pytest
import torch

from normbench.registry import Offered, Plugin
from normbench.train import fit
from normbench.train.assemble import per_sample
from normbench.train.data import Batches, InMemory
from normbench.train.ranks.place import Ranks
from normbench.trials import Trial


@pytest.fixture
def outcome(registry, trial):
    """Return a function that trains the tiny task with changes of its description, at a batch of 8."""

    def train(accumulate, **changes):
        task = dataclasses.replace(registry.task("tiny"), name="changed", **changes)
        registry.tasks["changed"] = Offered(task, Plugin("t", "t"))
        recipe = trial("before", batch_size=8, accumulate=accumulate).recipe
        one = Trial(task="changed", task_version=1, norm="before", recipe=recipe, seed=0)
        return next(fit([one], registry=registry))

    return train


def shifted(sample, draws, width=5):
    """Multiply and shift: six numbers of a sample, or of each sample of a batch."""
    return sample * (width - 4 + draws[..., :1]) + draws[..., 1:2]


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_transform_is_an_augmentation_of_one_sample(outcome, accumulate):
    """By the same rule a training gives the same to the bit; a transform is given the parameters that it names."""
    shapes = set()

    def transform(sample, draws, width):
        shapes.add((sample.shape, draws.shape))
        return shifted(sample, draws, width)

    by_sample = outcome(accumulate, transform=transform, augment_draws=2)
    by_batch = outcome(accumulate, augment=shifted, augment_draws=2)

    assert {((6,), (2,))} == shapes
    assert (by_batch.series, by_batch.score) == (by_sample.series, by_sample.score)
    assert outcome(accumulate).series["loss"] != by_sample.series["loss"]


def test_a_sample_becomes_the_same_on_any_rank():
    """Two ranks' parts of a step, put together, are the step of one."""
    split = InMemory(torch.randn(12, 6), torch.zeros(12))
    transform = per_sample(shifted)

    def steps(ranks):
        batches = Batches(split, 4, seed=0, draws=2, ranks=ranks)
        return [transform(split.batch(indices)[0], draws) for [(indices, draws)] in batches]

    together = [torch.cat(parts) for parts in zip(*(steps(Ranks(rank, 2)) for rank in range(2)), strict=True)]

    assert torch.equal(torch.cat(together), torch.cat(steps(Ranks())))


@pytest.mark.parametrize(
    ("transform", "reason"),
    [
        (
            lambda sample, draws: sample[: 5 + int(draws[0] < 0.5)],
            r"ValueError: transform returned the shapes \([56],\) and \([56],\) in one batch; it gives",
        ),
        (lambda sample, draws: sample.numpy(), "TypeError: transform returned ndarray; it returns a tensor"),
    ],
)
def test_what_a_transform_must_not_return(outcome, transform, reason):
    """Samples of different shapes, or anything else than tensors, make no batch: the reason says so."""
    found = outcome(1, transform=transform, augment_draws=1)

    assert "error" == found.outcome
    assert re.match(reason, found.reason)

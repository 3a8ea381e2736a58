"""The steps of a score, from the scores alone."""

import random

import msgspec
import pytest

from normbench.boards.grid import gather
from normbench.compare.pairs import contrasts
from normbench.compare.rounding import Steps, steps


def step_of(folder, scores, **options):
    """Return the steps of a table of one norm with such scores."""
    folder.add({"layer": {0.1: scores}}, **options)
    [grid] = gather(folder.store)
    return steps(grid)


@pytest.mark.parametrize("samples", [7, 360, 1797, 10_000])
def test_the_samples_are_counted_from_the_scores(folder, samples):
    """The least common denominator of all scores of a table is the number of samples."""
    rng = random.Random(samples)

    found = step_of(folder, [rng.randrange(1, samples) / samples for _ in range(30)])

    assert (1 / samples, 1 / samples) == (found.score, found.curve)


def test_both_sides_count(folder, head):
    """Each side alone would have fewer samples: 351 of 360 are 39 of 40."""
    for place, scores in ((folder, [351 / 360] * 2), (head, [352 / 360] * 2)):
        place.add({"layer": {0.1: scores}})
    [base], [other] = gather(folder.store), gather(head.store)

    assert (1 / 40, 1 / 360) == (steps(base).score, steps(base, other).score)


def test_validation_has_steps_of_its_own(folder):
    """The two splits have numbers of samples of their own."""
    given = [{"score": k / 100, "validation": k / 64} for k in range(51, 60)]

    found = step_of(folder, given)

    assert (1 / 100, 1 / 64) == (found.score, found.curve)


@pytest.mark.parametrize(
    "scores", [[0.5**0.5, 0.7], [0.9 + 1e-9, 0.9], [1.0, 1.0]], ids=["no share", "too many samples", "any number"]
)
def test_scores_of_no_number_of_samples_have_no_step(folder, scores):
    """What is no share of up to 100,000 samples has no steps, nor have scores that any number of samples gives."""
    assert 0.0 == step_of(folder, scores).score


def test_chance_is_no_count_of_samples(folder):
    """A trial that diverged scores chance, .1, which is no number of 64 samples."""
    assert 1 / 64 == step_of(folder, [k / 64 for k in range(40, 60)] + ["diverged"]).score


def test_bits_have_no_steps(folder, bits):
    """A mean of logarithms may be any number, also where it looks like a share."""
    assert 0.0 == step_of(folder, [2.0, 2.25], measure=bits).score


def test_the_variance_by_rounding_is_that_of_rounded_scores(folder, bits):
    """Rounded to steps, means over the grid and their distances from the chosen rate vary as it is worked out."""
    error = msgspec.structs.replace(bits, unit="%", chance=0.9, reference=0.1)
    rates, rng = (0.1, 0.3, 1.0), random.Random(1)
    scores = {rate: [rng.randrange(2000, 3000) / 10_000 for _ in range(400)] for rate in rates}

    def rounded(score):
        return round(score * 20) / 20

    folder.add({"layer": scores}, measure=error)
    folder.add({"other": {rate: [rounded(score) for score in row] for rate, row in scores.items()}}, measure=error)
    [grid] = gather(folder.store)
    layer, other = grid.rows
    other.rate = layer.rate

    for one in contrasts(error, layer, other, {}, Steps(0.05, 0.05 / 0.8)):
        if one.metric.test == "mean":
            variance = sum(difference**2 for difference in one.differences) / 400
            # Of the two sides one is rounded.
            assert pytest.approx(one.least / 2, rel=0.2) == variance

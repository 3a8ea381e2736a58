"""What counts as the same fingerprint: a tolerance on a scale, words for what is not finite, names that must agree."""

import math

import pytest

from normbench.fingerprint.numbers import agree, digest, largest_difference
from normbench.store.records import worded

NUMBERS = {"loss": [2.5], "gradient at step 0": [2.0, 0.1], "weight": [3.0, 1e-3]}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"loss": [2.5 * (1 + 4.9e-5)]}, True),
        ({"loss": [2.5 * (1 + 5.2e-5)]}, False),
        ({"weight": [3.0, 1e-3 + 1.4e-4]}, True),
        ({"weight": [3.0, 1e-3 + 1.6e-4]}, False),
        ({"gradient at step 0": [2.0, 0.119]}, True),
        ({"gradient at step 0": [2.0, 0.121]}, False),
        ({"weight": [-3.0, 1e-3]}, False),
        ({"weight": [3.0, "nan"]}, False),
        ({"weight": [3.0]}, False),
        ({"bias": [0.0]}, False),
    ],
)
def test_numbers_agree_within_a_share_of_their_scale(changes, expected):
    """The scale of a number is the largest of its name: one that cancels is as uncertain as the others."""
    changed = NUMBERS | changes

    assert (expected, expected) == (agree(NUMBERS, changed), agree(changed, NUMBERS))


def test_rounding_errors_around_zero_agree():
    """What should be 0 has no scale; what is small and no rounding error has one."""
    assert agree({"bias": [3e-7, -2e-7]}, {"bias": [-4e-7, 5e-7]})
    assert not agree({"bias": [1e-5]}, {"bias": [2e-5]})


def test_what_is_not_finite_is_a_word():
    """Two infinities are the same, of one sign; a number is none."""
    words = [worded(value) for value in (math.nan, math.inf, -math.inf)]

    assert ["nan", "inf", "-inf"] == words
    assert agree({"x": words}, {"x": words})
    assert not agree({"x": ["inf"]}, {"x": ["-inf"]})
    assert not agree({"x": ["inf"]}, {"x": [1e300]})


def test_the_largest_difference_is_named():
    """Of all numbers, the one that is furthest beyond what it may be, as a share of its scale."""
    found = largest_difference(NUMBERS, NUMBERS | {"loss": [2.5005], "weight": [3.0, 0.031]})

    assert None is largest_difference(NUMBERS, dict(NUMBERS))
    assert "weight" == found.name
    assert found.share == pytest.approx(0.01)
    assert found.times == pytest.approx(200, rel=0.01)


@pytest.mark.parametrize("small", [0.0, 0.5])
def test_the_scale_is_that_of_the_larger_fingerprint(small):
    """What grew and what shrank differ by the same share, and never by more than all of it."""
    shares = [largest_difference({"x": [a]}, {"x": [b]}).share for a, b in ((small, 2.0), (2.0, small))]

    assert [pytest.approx((2.0 - small) / 2.0)] * 2 == shares


@pytest.mark.parametrize("other", [{**NUMBERS, "bias": [0.0]}, {**NUMBERS, "loss": ["nan"]}, {"loss": [2.5]}])
def test_what_only_one_has_is_infinitely_different(other):
    """A parameter that is new or gone, and a loss that is finite in one alone, come first."""
    assert math.inf == largest_difference(NUMBERS, other).times == largest_difference(other, NUMBERS).share


def test_a_digest_is_of_rounded_numbers():
    """Twelve hex digits: a fifth digit, a gradient's third and the order of names leave them; a fourth does not."""
    fifth = {"weight": [3.00004, 1.01e-3], "loss": [2.50004], "gradient at step 0": [2.004, 0.104]}

    assert 12 == len(digest(NUMBERS))
    assert digest(NUMBERS) == digest(fifth)
    assert digest(NUMBERS) != digest(NUMBERS | {"loss": [2.501]})
    assert digest(NUMBERS) != digest(NUMBERS | {"weight": [3.0, "nan"]})
    assert digest({"bias": [3e-8]}) == digest({"bias": [-4e-8]})

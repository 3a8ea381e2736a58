"""The loss by step that every trial keeps: how it is thinned, how it goes on, and where it leaves."""

import math

import numpy as np
import pytest

from normbench.train.curve import Curve
from normbench.trials import Points, Trace


def losses_of(steps):
    return 2.3 + np.random.default_rng(steps).normal(size=steps)


def thinned(losses):
    """Return the steps and values of the documented rule, computed with NumPy."""
    rest = losses[100:]
    length = max(1, math.ceil(len(rest) / 399))
    windows = np.split(rest, range(length, len(rest), length)) if len(rest) else []
    ends = np.cumsum([len(window) for window in windows]) + 99
    steps = [*range(min(100, len(losses))), *ends.astype(int).tolist()]
    return steps, [*losses[:100], *(window.mean() for window in windows)]


@pytest.mark.parametrize("steps", [1, 100, 101, 499, 500, 900, 1234, 50_000])
def test_first_losses_are_kept_and_later_ones_averaged(steps):
    """100 as they are, at most 399 means of windows behind them; it is all the same how many come at once."""
    losses = losses_of(steps)
    curve = Curve(steps)
    for begin in range(0, steps, 77):
        curve.add(losses[begin : begin + 77].tolist())

    expected, values = thinned(losses)

    assert expected == curve.points.step
    np.testing.assert_allclose(curve.points.value, values, rtol=5e-7)
    assert len(expected) < 500
    assert steps - 1 == expected[-1]


def test_values_have_seven_digits():
    """A file of curves would be twice as large with all of a double's."""
    curve = Curve(2)
    curve.add([1 / 3, 2e10 / 3])

    assert [0.3333333, 6666667000.0] == curve.points.value


@pytest.mark.parametrize("lost", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_is_the_last_point(lost):
    """It stands alone, at its own step, behind what its window had before; what comes later is left out."""
    curve = Curve(1297)  # windows of three
    curve.add([*range(104), lost, 1.0])
    curve.add([1.0] * 10)

    assert [*range(100), 102, 103, 104] == curve.points.step
    assert [101.0, 103.0, repr(lost)] == [*curve.points.value[-3:-1], repr(curve.points.value[-1])]


@pytest.mark.parametrize("taken", [0, 50, 104, 105])
def test_it_goes_on_from_its_state(taken):
    """Within the first steps, within a window, and at the end of one."""
    losses = losses_of(1300).tolist()
    whole, begun, resumed = Curve(1300), Curve(1300), Curve(1300)
    whole.add(losses)
    begun.add(losses[:taken])

    resumed.load_state_dict(begun.state_dict())
    resumed.add(losses[taken:])

    assert whole.points == resumed.points


def asked(**of):
    return Trace(probe="curve", probe_params={"every": 2}, **of)


OTHER = Trace(probe="moments", series={"mean": Points([0], [1.0])})
FAILED = asked(ended="error", reason="lost")
LOSS = {"loss": Points([0, 1], [2.0, 1.0])}
VALIDATION = {"validation": Points([0], [0.5])}
NONE = {"ended": "unsupported", "reason": "no such split"}


@pytest.mark.parametrize(
    ("traces", "expected"),
    [
        ([], [Trace(probe="curve", series=LOSS)]),
        ([OTHER], [OTHER, Trace(probe="curve", series=LOSS)]),
        ([asked(series=VALIDATION), OTHER], [asked(series=VALIDATION | LOSS), OTHER]),
        ([asked(**NONE)], [asked(**NONE, series=LOSS)]),
        ([FAILED], [FAILED, Trace(probe="curve", series=LOSS)]),
    ],
    ids=["no probe", "another probe", "its probe", "it does not apply", "it failed"],
)
def test_it_is_in_the_trace_of_its_probe(traces, expected):
    """In one of its own where there is none, or this one failed and is not stored."""
    curve = Curve(2)
    curve.add([2.0, 1.0])

    assert tuple(expected) == curve.among(traces)


def test_before_the_first_epoch_ends_there_is_none():
    """A trace without a point is not stored."""
    assert (OTHER,) == Curve(2).among([OTHER])

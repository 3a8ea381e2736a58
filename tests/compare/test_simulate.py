"""The gates' promises, by seeded simulation: how often they err, what they see, and what the intervals hold."""

from __future__ import annotations

import math

import numpy as np
import pytest

from normbench.compare.simulate import (
    OK,
    OPEN,
    REGRESSED,
    Group,
    any_regressed,
    called,
    failing,
    normal,
    rounded,
    shifted,
    skewed,
    verdicts,
)
from normbench.stats.decide import LOOKS, Gated, decide
from normbench.stats.verdicts import hodges_lehmann, mean_test, two_sample_test

REPETITIONS = 4000
#: Four standard errors of a share of 5%, of the simulation itself.
SLACK = 4 * math.sqrt(0.05 * 0.95 / REPETITIONS)


@pytest.mark.parametrize("looks", [(), LOOKS], ids=["fixed", "looks"])
@pytest.mark.parametrize("loss", [0.0, 0.5])
@pytest.mark.parametrize("rows", [1, 5, 20])
@pytest.mark.parametrize("seeds", [3, 5, 10, 20])
@pytest.mark.parametrize("draw", [normal, skewed])
def test_gate_seldom_cries_wolf(draw, seeds, rows, loss, looks):
    """Where every row lost nothing, or half the margin, any row is called regressed in at most 5% of comparisons."""
    looks = [look for look in looks if look <= seeds]

    found = shifted(draw, seeds=seeds, rows=rows, spread=1, margin=1, loss=loss, looks=looks, repetitions=REPETITIONS)

    assert any_regressed(found).share <= 0.05 + SLACK


@pytest.mark.parametrize("looks", [(), LOOKS], ids=["fixed", "looks"])
@pytest.mark.parametrize("seeds", [3, 5, 10, 20])
@pytest.mark.parametrize("draw", [normal, skewed])
def test_gate_seldom_passes_a_loss_of_the_margin(draw, seeds, looks):
    """A row that lost the margin is called ok in at most 5% of comparisons."""
    looks = [look for look in looks if look <= seeds]

    found = shifted(draw, seeds=seeds, rows=1, spread=1, margin=1, loss=1, looks=looks, repetitions=REPETITIONS)

    assert called(found, OK).share <= 0.05 + SLACK


@pytest.mark.parametrize(("seeds", "power"), [(3, 0.53), (5, 0.86), (10, 1.0)])
def test_gate_sees_a_loss_of_two_margins(seeds, power):
    """A loss of two margins, each a standard deviation of the differences, is seen as often as docs say."""
    found = shifted(normal, seeds=seeds, rows=1, spread=1, margin=1, loss=2, repetitions=REPETITIONS)

    assert pytest.approx(power, abs=0.03) == called(found, REGRESSED).share


@pytest.mark.parametrize("looks", [(), (5, 8, 12, 20)], ids=["fixed", "looks"])
@pytest.mark.parametrize("rows", [1, 10])
@pytest.mark.parametrize("kind", ["median", "share"])
def test_sign_gates_keep_their_promises(kind, rows, looks):
    """Steps that fall as often as they rise are seldom regressed; of falls in half the seeds few are called ok."""
    rng = np.random.default_rng(1)
    shape = (REPETITIONS, rows, 20)
    same = rng.integers(-1, 2, shape).astype(float)
    half = -rng.integers(0, 2, shape).astype(float)

    calm = verdicts([Group(kind, same, 1.0)], looks)
    lost = verdicts([Group(kind, half, 1.0)], looks)

    assert any_regressed(calm).share <= 0.05 + SLACK
    assert called(lost, OK).share <= 0.05 + SLACK


@pytest.mark.parametrize("looks", [(), LOOKS], ids=["fixed", "looks"])
@pytest.mark.parametrize("share", [0.0, 0.05, 0.13, 0.6])
@pytest.mark.parametrize("seeds", [3, 5, 10, 20])
def test_failures_by_chance_seldom_regress(seeds, share, looks):
    """Where the same share of seeds fails on both sides, few or most, a row is regressed in at most 5%."""
    shape = (REPETITIONS, 1, seeds)
    fails = failing(np.random.default_rng(seeds), shape, share, share)

    found = verdicts([Group("mean", np.zeros(shape), 1.0, **fails)], [look for look in looks if look <= seeds])

    assert any_regressed(found).share <= 0.05 + SLACK


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("margin", [0.0025, 0.02])
def test_rounded_scores_err_no_more_than_others(seeds, margin):
    """Shares of 360 samples that vary by less than one are often equal: neither error is made more often for that."""
    rng = np.random.default_rng(seeds)

    def found(loss, least):
        drawn = rounded(rng, (REPETITIONS, 1, seeds), samples=360, spread=0.001, loss=loss)
        return verdicts([Group("mean", drawn, margin, least)])

    assert any_regressed(found(margin / 2, 360**-2 / 6)).share <= 0.05 + SLACK
    assert called(found(margin, 360**-2 / 6), OK).share <= 0.05 + SLACK
    if seeds == 2:  # what would be believed of equal differences
        assert 0.15 < max(any_regressed(found(margin / 2, 0.0)).share, called(found(margin, 0.0), OK).share)


@pytest.mark.parametrize("draw", [normal, skewed])
@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_intervals_of_a_difference_hold_it(draw, seeds):
    """Each end of the interval errs in at most 5% of cases."""
    differences = draw(np.random.default_rng(seeds), (REPETITIONS, 1, seeds))

    tested = mean_test(differences, 1.0)

    assert (tested.low > 0).mean() <= 0.05 + SLACK
    assert (tested.high < 0).mean() <= 0.05 + SLACK


def test_intervals_at_a_stop_hold_the_difference():
    """The interval printed where a row stopped holds the difference in 9 of 10 cases or more, whenever that was."""
    rows = normal(np.random.default_rng(4), (1000, 1, 20))[:, 0] - 1.0

    stopped = [decide([Gated("mean", row, 1.0)], LOOKS)[0] for row in rows.tolist()]

    held = np.mean([one.interval.low <= -1.0 <= one.interval.high for one in stopped])
    assert held >= 0.9
    assert len({one.seeds for one in stopped}) > 2


@pytest.mark.parametrize("rounds", [9, 15])
def test_shift_of_rounds_is_held(rounds):
    """Hodges and Lehmann's interval holds the shift of two sessions' rounds in at least 9 of 10 cases."""
    rng = np.random.default_rng(rounds)
    drawn = rng.standard_t(3, (1500, 2, rounds))

    tested = [hodges_lehmann(base, head, 1.0, 0.5) for base, head in drawn.tolist()]

    assert np.mean([one.low <= 0 <= one.high for one in tested]) >= 0.9 - 0.025


@pytest.mark.parametrize("sessions", [3, 5])
def test_difference_of_sessions_is_held(sessions):
    """Welch's interval over sessions holds the difference, at unequal spreads too."""
    rng = np.random.default_rng(sessions)
    drawn = rng.normal(size=(1500, 2, sessions)) * np.array([[1.0], [2.0]])

    tested = [two_sample_test(base, head, 1.0, 0.5) for base, head in drawn.tolist()]

    assert np.mean([one.low <= 0 <= one.high for one in tested]) >= 0.9 - 0.025


@pytest.mark.parametrize("looks", [(), LOOKS], ids=["fixed", "looks"])
@pytest.mark.parametrize("kind", ["mean", "median", "share"])
def test_simulation_decides_as_compare_does(kind, looks):
    """What is simulated is what `compare` decides: row by row the same words."""
    rng = np.random.default_rng(2)
    drawn = rng.normal(-0.8, 1.0, (150, 4, 20))
    differences = drawn if kind == "mean" else np.round(drawn)
    fails = failing(rng, differences.shape, 0.3, 0.5)
    words = {"ok": OK, "better": OK, "regressed": REGRESSED, "unclear": OPEN}

    one_by_one = [
        [
            words[one.verdict]
            for one in decide(
                [Gated(kind, row, 1.0, least=0.5, lost=lost, before=before) for row, lost, before in of_rows], looks
            )
        ]
        for of_rows in map(zip, differences.tolist(), fails["lost"].tolist(), fails["before"].tolist())
    ]
    at_once = verdicts([Group(kind, differences, 1.0, 0.5, **fails)], looks)

    assert one_by_one == at_once.tolist()
    assert {REGRESSED, OPEN} <= set(at_once.ravel().tolist())

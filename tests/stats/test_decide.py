"""From rows to verdicts: each kind, Holm over the rows, and looks after more and more seeds."""

import dataclasses
import math

import pytest

from normbench.stats.decide import Gated, decide, exact_looks, interval, looks_up_to
from normbench.stats.verdicts import failures_p, hodges_lehmann, holm, mean_test, sign_test

STEADY = [0.001, -0.001, 0.0, 0.002, -0.002]
WIDE = [0.05, -0.06, 0.02, -0.04, 0.01]


def shifted(differences, by):
    """Return differences moved by as much."""
    return [difference + by for difference in differences]


@pytest.mark.parametrize(
    ("kind", "differences", "margin", "verdict"),
    [
        ("mean", STEADY, 0.01, "ok"),
        ("mean", shifted(STEADY, 0.02), 0.01, "better"),
        ("mean", shifted(STEADY, -0.02), 0.01, "regressed"),
        ("mean", WIDE, 0.01, "unclear"),
        ("mean", shifted(STEADY, -0.009), 0.01, "regressed"),
        ("mean", shifted(STEADY, -0.008), 0.01, "ok"),
        ("median", [0, 0, 0, 0, 0], 1, "ok"),
        ("median", [1, 1, 1, 1, 1], 1, "better"),
        ("median", [-1, -1, -1, -1, -2], 1, "regressed"),
        ("median", [-1, -1, -1, -1, 1], 1, "unclear"),
        ("median", [-1, -1, -1, -1, -1], 2, "ok"),
        ("share", [0, 0, 0, 0, 0], 0.1, "ok"),
        ("share", [0.2, 0.2, 0.4, 0.2, 0.2], 0.1, "better"),
        ("share", [-0.2, -0.2, -0.4, -0.2, -0.2], 0.1, "regressed"),
        ("share", [-0.2, 0, -0.4, 0, 0], 0.1, "unclear"),
        ("share", [-0.05, -0.05, -0.05, -0.05, -0.05], 0.1, "ok"),
    ],
)
def test_a_row_alone_is_decided(kind, differences, margin, verdict):
    """Each kind of row has each verdict."""
    [found] = decide([Gated(kind, differences, margin)])

    assert (verdict, len(differences)) == (found.verdict, found.seeds)


@pytest.mark.parametrize("kind", ["mean", "median", "share"])
def test_p_is_that_of_its_test(kind):
    """The p of a row alone, looked at once, is its test's own."""
    differences = [-0.3, -0.1, 0.1, -0.2, -0.4]

    [found] = decide([Gated(kind, differences, 0.1)])

    expected = mean_test(differences, 0.1).p if kind == "mean" else sign_test(differences)
    assert pytest.approx(float(expected)) == found.p


def test_an_even_number_of_seeds_fell_where_both_middle_ones_did():
    """Of six seeds the middle loss that is the smaller must be one of the margin."""
    [found] = decide([Gated("median", [-2, -2, -2, -1, -1, -1], 2)])

    assert "regressed" != found.verdict


def test_rows_that_are_gated_together_are_held_to_holm():
    """A fall that alone is a regression is not among many rows; p is Holm's."""
    fall = [-0.03, -0.02, -0.025]
    alone = decide([Gated("mean", fall, 0.01)])

    found = decide([Gated("mean", fall, 0.01), *[Gated("mean", WIDE, 0.01)] * 9])

    plain = [float(mean_test(row, 0.01).p) for row in (fall, *[WIDE] * 9)]
    assert "regressed" == alone[0].verdict
    assert "unclear" == found[0].verdict
    assert pytest.approx(list(holm(plain))) == [one.p for one in found]


def test_ok_is_not_held_to_holm():
    """What is surely no worse stays so among many rows."""
    found = decide([Gated("mean", STEADY, 0.01)] * 20)

    assert {"ok"} == {one.verdict for one in found}


def test_a_test_of_its_own_is_final():
    """A row that brings its test is decided by it, whatever the looks."""
    tested = hodges_lehmann([0.0 + i / 1000 for i in range(9)], [-0.3 - i / 1000 for i in range(9)], 0.1, 0.05)

    [found] = decide([Gated("mean", [], 0.1, tested)], [3, 5, 8])

    assert ("regressed", float(tested.p)) == (found.verdict, found.p)
    assert tested.interval == found.interval


def test_no_rows_are_no_verdicts():
    """Where nothing is gated nothing is decided."""
    assert [] == decide([])
    assert [] == decide([], [3, 5])


@pytest.mark.parametrize(
    ("most", "expected"),
    [(2, [2]), (3, [3]), (4, [3, 4]), (8, [3, 5, 8]), (20, [3, 5, 8, 12, 20]), (30, [3, 5, 8, 12, 20, 30])],
)
def test_looks_end_at_the_most_seeds(most, expected):
    """The usual looks are cut at --max-seeds, which is always one."""
    assert expected == looks_up_to(most)


@pytest.mark.parametrize(("by", "verdict"), [(0.0, "ok"), (0.03, "better"), (-0.03, "regressed")])
def test_a_decided_row_does_not_read_later_seeds(by, verdict):
    """Seeds after the look that decided are not read, whatever they say."""
    first = shifted([0.0003, -0.0002, 0.0001], by)

    found = [decide([Gated("mean", [*first, *later], 0.01)], [3, 5]) for later in ([], [-9.0, 9.0], [math.nan] * 2)]

    assert [(verdict, 3)] * 3 == [(one.verdict, one.seeds) for [one] in found]
    assert found[0] == found[1] == found[2]


def test_p_is_the_number_of_looks_times_the_smallest_so_far():
    """A later look that says less does not raise p again."""
    early, late = [-0.05, -0.01, -0.04], [0.06, 0.05]

    [found] = decide([Gated("mean", [*early, *late], 0.01)], [3, 5])

    looks = [float(mean_test(row, 0.01).p) for row in (early, [*early, *late])]
    assert looks[0] < looks[1]
    assert pytest.approx(2 * looks[0]) == found.p
    assert ("unclear", 5) == (found.verdict, found.seeds)


def test_each_look_spends_its_part_of_alpha():
    """What one look would call regressed may be unclear at the first of several; its ends are as much wider."""
    fall = [-0.029, -0.012, -0.024]

    [once], [first] = decide([Gated("mean", fall, 0.01)]), decide([Gated("mean", fall, 0.01)], [3, 5, 8])

    assert ("regressed", "unclear") == (once.verdict, first.verdict)
    wide = mean_test(fall, 0.01, 0.05 / 3)
    assert pytest.approx((float(wide.low), float(wide.high))) == (first.interval.low, first.interval.high)


def test_an_open_row_goes_on_to_the_seeds_it_has():
    """Between two looks the seeds beyond the last are not read: it stands where it was looked at."""
    [found] = decide([Gated("mean", [0.05, -0.06, 0.02, 9.0], 0.01)], [3, 5])

    assert ("unclear", 3) == (found.verdict, found.seeds)
    assert found.interval.high < 1


@pytest.mark.parametrize(
    ("looks", "rows", "expected"),
    [
        ([3, 5, 8, 12, 20], 1, [8, 12, 20]),
        ([5], 1, [5]),
        ([3, 5], 1, [5]),
        ([3, 5, 8], 10, [8]),
        ([3, 5], 10, []),
    ],
)
def test_exact_tests_count_only_looks_that_could_reject(looks, rows, expected):
    """Looks at so few seeds that nothing could be rejected spend nothing."""
    assert expected == exact_looks(looks, rows)


def test_an_exact_row_spends_nothing_where_it_could_not_reject():
    """At looks of 3 and 5 seeds a sign test has all of alpha at 5."""
    [found] = decide([Gated("median", [-1] * 5, 1)], [3, 5])

    assert ("regressed", 5, 2**-5) == (found.verdict, found.seeds, found.p)


@pytest.mark.parametrize(("kind", "differences"), [("mean", [0.5, 0.2]), ("median", [1, 1]), ("share", [0.2])])
def test_a_row_with_too_few_seeds_for_the_first_look_is_unclear(kind, differences):
    """It is shown with all the seeds it has, and rejects nothing."""
    [found] = decide([Gated(kind, differences, 0.1)], [3, 5])

    assert ("unclear", len(differences), 1.0) == (found.verdict, found.seeds, found.p)
    assert "min-max" == found.interval.kind


def test_one_seed_of_a_mean_is_unclear():
    """A t test needs two seeds; one says nothing."""
    [found] = decide([Gated("mean", [-5.0], 0.1)])

    assert ("unclear", 1, 1.0) == (found.verdict, found.seeds, found.p)


@pytest.mark.parametrize(
    ("kind", "n", "expected"),
    [
        ("mean", 2, "min-max"),
        ("mean", 3, "t"),
        ("share", 4, "min-max"),
        ("share", 5, "t"),
        ("median", 4, "min-max"),
        ("median", 5, "order"),
    ],
)
def test_the_ends_of_a_difference(kind, n, expected):
    """Few seeds have their lowest and highest, which is no interval."""
    found = interval(kind, [0.1 * i for i in range(n)])

    assert expected == found.kind


def test_a_look_counts_seeds_that_came_out_the_same():
    """Five paired seeds are a look at 5, though one of them says nothing: the other four are tested there."""
    row = Gated("mean", [-0.3, -0.31, -0.29, -0.3], 0.02, places=[0, 1, 3, 4], paired=5)

    [decision] = decide([row], [5])

    assert ("regressed", 4) == (decision.verdict, decision.seeds)


@pytest.mark.parametrize(
    ("lost", "verdict", "failed", "nearly"),
    [
        ([0, 0, 0], "ok", False, False),
        ([0, 1, 0], "unclear", False, True),
        ([0, 1, 1], "regressed", True, False),
        ([1, 1, -1], "unclear", False, True),
        ([-1, -1, -1], "ok", False, False),
    ],
)
def test_failures_come_before_the_mean(lost, verdict, failed, nearly):
    """Of three seeds two more that fail regress a row whatever its mean; one more is as much as may not be ok."""
    [found] = decide([Gated("mean", STEADY[:3], 0.01, lost=lost)])

    assert (verdict, failed, nearly) == (found.verdict, found.failed, found.nearly)


def test_seeds_that_fail_as_often_by_chance_are_no_regression():
    """Where half of BASE's seeds fail, two more of HEAD's are no surprise; where none of BASE's did, three would be."""
    lost, wide = [1, 1, 1, -1, 0, 0, 0, 0], [*WIDE, 0.0, 0.0, 0.0]

    often, never = decide(
        [
            Gated("mean", wide, 0.01, lost=lost, before=[0, 0, 0, 1, 1, 1, 1, 0]),
            Gated("mean", wide, 0.01, lost=[1, 1, 1, 0, 0, 0, 0, 0]),
        ]
    )

    assert [("unclear", False), ("regressed", True)] == [(one.verdict, one.failed) for one in (often, never)]


def test_one_failure_fewer_does_not_save_a_row_whose_mean_regressed():
    """What is surely worse by its mean stays so."""
    [found] = decide([Gated("mean", shifted(STEADY, -0.02), 0.01, lost=[1, 1, 0, 0, 0])])

    assert ("regressed", False, True) == (found.verdict, found.failed, found.nearly)


def test_a_row_that_failed_leaves_holms_family():
    """A fall that is no regression among two rows is one where the other fails by its seeds; p is the count's own."""
    fall = [-0.029, -0.012, -0.024]
    lone, beside = Gated("mean", fall, 0.01), Gated("mean", WIDE[:3], 0.01)
    among = decide([lone, beside])

    failed, found = decide([Gated("mean", WIDE[:3], 0.01, lost=[1, 1, 0]), lone])

    assert ["unclear", "unclear"] == [one.verdict for one in among]
    assert ("regressed", "regressed") == (failed.verdict, found.verdict)
    assert pytest.approx(failures_p(3, 2)) == failed.p
    assert pytest.approx(float(mean_test(fall, 0.01).p)) == found.p


def test_each_look_spends_its_part_of_alpha_on_failures():
    """Of three seeds two are too few at the first of three looks; three of five at the second are not."""
    lost = [1, 1, 0, 1, 0, 0, 0, 0]

    [found] = decide([Gated("mean", [*WIDE, 0.0, 0.0, 0.0], 0.01, lost=lost)], [3, 5, 8])

    assert ("regressed", 5, True) == (found.verdict, found.seeds, found.failed)
    assert pytest.approx(3 * failures_p(5, 3)) == found.p


def test_failures_are_counted_over_the_seeds_that_are_read():
    """Seeds beyond the last look do not fail a row."""
    [found] = decide([Gated("mean", [*STEADY[:4]], 0.01, lost=[0, 0, 0, 1])], [3])

    assert ("ok", 3, False) == (found.verdict, found.seeds, found.nearly)


def test_equal_differences_are_not_certain_where_scores_are_rounded():
    """Two losses of one test sample each are equal by chance, and do not show that the norm lost so much."""
    sample = 1 / 360
    fall = Gated("mean", [-sample, -sample], 0.0025)

    [plain], [rounded] = decide([fall]), decide([dataclasses.replace(fall, least=sample**2 / 6)])

    assert ("regressed", "unclear") == (plain.verdict, rounded.verdict)

"""Two results folders made of scores, held against each other: words, notes, refusals, and every form of the report."""

import csv
import io
import json
from xml.etree import ElementTree

import msgspec
import pytest

from normbench import gates as gating
from normbench.compare import text as report
from normbench.compare.folders import compare
from normbench.errors import UsageError
from normbench.store.records import EnvironmentRecord

SCORES = [0.90, 0.91, 0.89, 0.90, 0.92]
RATES = [0.1, 0.3, 1.0]
ACCURACY = {"accuracy": "-2pt"}


def moved(by, scores=SCORES):
    """Return scores moved by as much, not by the same to the last bit at each seed."""
    return [score + by + 0.001 * (-1) ** seed for seed, score in enumerate(scores)]


@pytest.fixture
def against(folder, head):
    """Return a function that compares the two folders under gates as a suite spells them."""

    def run(gates=None, **options):
        return compare(folder.store, head.store, gating.gates(gates or {}, "gate"), **options)

    return run


@pytest.fixture
def one_rate(folder, head, against):
    """Return a function that stores a norm's scores at one rate on both sides, and returns its row of accuracy."""

    def run(base, other, gates=None, norm="layer", **options):
        folder.add({norm: {0.1: base}}, **options)
        head.add({norm: {0.1: other}}, **options)
        return row_of(against(gates))

    return run


def row_of(comparison, metric="accuracy", norm="layer"):
    """Return the one row of a norm and metric."""
    [row] = [row for row in comparison.rows if (row.metric.name, row.norm) == (metric, norm)]
    return row


@pytest.mark.parametrize(("by", "word"), [(-0.05, "regressed"), (0.0, "ok"), (0.01, "better"), (-0.005, "ok")])
def test_a_gated_row_is_decided(one_rate, by, word):
    """Within the gate is ok, surely above 0 better, surely beyond half the margin regressed."""
    row = one_rate(SCORES, moved(by), ACCURACY)

    assert (word, 5, 0) == (row.word, row.seeds, row.identical)
    assert pytest.approx(by + 0.0002) == row.difference.centre
    assert pytest.approx((sum(SCORES) / 5, sum(SCORES) / 5 + by + 0.0002)) == (row.base, row.head)


def test_what_the_seeds_leave_open_is_unclear(one_rate):
    """Differences that spread over more than the margin decide nothing."""
    row = one_rate(SCORES, [0.95, 0.85, 0.93, 0.84, 0.94], ACCURACY)

    assert "unclear" == row.word


@pytest.mark.parametrize(("by", "word"), [(-0.05, "worse"), (0.0, "~"), (0.05, "better")])
def test_without_a_gate_the_interval_alone_speaks(one_rate, by, word):
    """A row without a gate can't fail: it is better or worse where its interval is on one side of 0."""
    row = one_rate(SCORES, moved(by))

    assert (word, None, None) == (row.word, row.gate, row.p)


def test_the_same_bits_are_identical(one_rate):
    """Trainings that are the same to the last bit by the same code say nothing of a difference."""
    row = one_rate(SCORES, SCORES, ACCURACY)

    assert ("identical", 0, 5) == (row.word, row.seeds, row.identical)


def test_one_seed_that_differs_is_unclear_and_no_mistake_of_the_gate(one_rate):
    """Where all seeds but one came out the same, the gate stands, and the one can't decide it."""
    row = one_rate(SCORES, [*SCORES[:4], 0.5], ACCURACY)

    assert ("unclear", 1, 4) == (row.word, row.seeds, row.identical)


def test_the_same_scores_by_other_code_are_tested(folder, head, against):
    """Other code that gives the same scores is a finding, not the same training."""
    folder.add({"layer": {0.1: SCORES}}, norm_print="old")
    head.add({"layer": {0.1: SCORES}}, norm_print="new")

    row = row_of(against(ACCURACY))

    assert ("ok", 5, 0) == (row.word, row.seeds, row.identical)


def test_identical_seeds_are_not_fed_to_the_test(one_rate):
    """Of five seeds two are the same to the last bit: three are tested."""
    row = one_rate(SCORES, [*SCORES[:2], *moved(-0.05)[2:]], ACCURACY)

    assert ("regressed", 3, 2) == (row.word, row.seeds, row.identical)


def test_a_row_that_head_lacks_has_vanished(folder, head, against):
    """What BASE has and HEAD has not is said, with why; what HEAD alone has is a note."""
    folder.add({"layer": {0.1: SCORES}, "old": {0.1: SCORES}, "crashing": {0.1: SCORES}})
    head.add({"layer": {0.1: SCORES}, "new": {0.1: SCORES}, "crashing": {0.1: ["error"] * 2}})

    found = against(ACCURACY)

    vanished = {row.norm: row.why for row in found.rows if row.word == "vanished"}
    assert {"old": "HEAD has no results of it", "crashing": "2 ended in error; lacks 3 of 5 trials"} == vanished
    assert "in HEAD alone: 'new' on spirals" in found.notes
    assert (2, 2) == (found.compared, found.crashed)
    assert [] == found.failing()
    assert {"old", "crashing"} == {row.norm for row in found.failing(strict=True)}


def test_another_version_of_a_task_has_nothing_in_common(folder, head, against):
    """Numbers of two versions of a task are not compared."""
    folder.add({"layer": {0.1: SCORES}}, task_version=1)
    head.add({"layer": {0.1: SCORES}}, task_version=2)

    found = against(ACCURACY)

    assert 0 == found.compared
    assert "HEAD has no results of this task version and condition" == row_of(found).why


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({1.0: SCORES}, "HEAD has no trials at the rate 0.1 that BASE chose"),
        ({0.1: [None] * 5 + [0.9]}, "no seed is complete on both sides"),
    ],
)
def test_a_row_without_a_common_trial_has_vanished(folder, head, against, given, why):
    """A row that can't be paired says why."""
    folder.add({"layer": {0.1: SCORES}})
    head.add({"layer": given})

    row = row_of(against(ACCURACY))

    assert ("vanished", why) == (row.word, row.why)


def test_the_rate_that_base_chose_is_kept(folder, head, against):
    """HEAD is held to BASE's rate though it would choose another now; that is a note."""
    folder.add({"layer": {0.1: SCORES, 1.0: moved(-0.1)}})
    head.add({"layer": {0.1: moved(0), 1.0: moved(0.05)}})

    found = against(ACCURACY)

    assert "ok" == row_of(found).word
    assert pytest.approx(0.904 + 0.0002) == row_of(found).head
    assert "'layer' on spirals: HEAD would choose the rate 1; it is compared at 0.1, which BASE chose" in found.notes


def test_where_the_grids_differ_only_the_chosen_rate_is_compared(folder, head, against):
    """A mean over another grid is another number."""
    folder.add({"layer": {0.1: SCORES, 1.0: moved(-0.1)}})
    head.add({"layer": {0.1: moved(-0.05), 3.0: moved(-0.1)}})

    found = against(ACCURACY)

    assert {"accuracy", "failure_rate"} == {row.metric.name for row in found.rows}
    assert "regressed" == row_of(found).word
    assert "'layer' on spirals: the grids differ; only the chosen rate is compared" in found.notes


def test_rows_with_failed_seeds_are_marked(one_rate):
    """A mean over seeds of which one did not train is marked; so is its table."""
    row = one_rate(SCORES, [0.9, 0.91, "diverged", 0.9, 0.92])

    assert ["failed-seeds"] == row.flags


def test_of_a_score_that_is_better_the_lower_the_difference_is_signed(folder, head, against, bits):
    """Bits that rise are a loss: the difference is below 0, as its gate spells it, and its column says so."""
    scores = [2.0, 2.1, 1.9, 2.05, 2.0]
    folder.add({"layer": {0.1: scores}, "other": {0.1: scores}}, measure=bits)
    head.add({"layer": {0.1: moved(0.3, scores)}, "other": {0.1: moved(-0.3, scores)}}, measure=bits)

    found = against({"accuracy": "-0.1"})

    worse, better = row_of(found), row_of(found, norm="other")
    assert ("regressed", "better") == (worse.word, better.word)
    assert pytest.approx((-0.3002, 0.2998)) == (worse.difference.centre, better.difference.centre)
    assert worse.head > worse.base
    assert "(+ is better)" in report.terminal(found, 100)
    assert ["plus-is-better"] == next(report.as_dicts(found))["flags"]


def test_over_the_grid_and_sensitivity_move_in_their_own_directions(folder, head, against):
    """Where one rate gets worse, the mean over the grid falls and the sensitivity rises: both are for the worse."""
    folder.add({"layer": {0.1: SCORES, 0.3: SCORES, 1.0: moved(-0.01)}})
    head.add({"layer": {0.1: moved(0), 0.3: SCORES, 1.0: moved(-0.3)}})

    found = against({"over_the_grid": "-2pt", "sensitivity": "+2pt"})

    over, sensitivity = (row_of(found, metric) for metric in ("over_the_grid", "sensitivity"))
    assert ("regressed", "regressed") == (over.word, sensitivity.word)
    assert over.difference.high < 0 < sensitivity.difference.low
    assert pytest.approx(sensitivity.head - sensitivity.base) == sensitivity.difference.centre


@pytest.mark.parametrize(
    ("gate", "unit", "base", "head_rate", "change"),
    [("-1step", "step", 2, 1, -1), ("-0.477dec", "decades", 0.0, -0.523, -0.523)],
)
def test_max_trainable_lr_in_steps_and_in_decades(folder, head, against, gate, unit, base, head_rate, change):
    """All five seeds train up to a rate lower: regressed, by one step of the grid or by its decades."""
    folder.add({"layer": dict.fromkeys(RATES, SCORES)})
    head.add({"layer": {0.1: moved(0), 0.3: moved(0), 1.0: ["diverged"] * 5}})

    found = against({"max_trainable_lr": gate})

    row = row_of(found, "max_trainable_lr")
    assert ("regressed", unit) == (row.word, row.unit)
    assert pytest.approx((base, head_rate, change), abs=1e-3) == (row.base, row.head, row.difference.centre)
    [line] = [line for line in report.terminal(found, 100).splitlines() if "✗ regressed" in line]
    assert ["layer", "1", "0.3"] == line.split()[:3]


def test_a_rate_below_the_grid_is_none(folder, head, against):
    """A seed that does not train at the chosen rate trains up to none, one step below the grid."""
    folder.add({"layer": {0.1: SCORES, 0.3: [0.2] * 5}})
    head.add({"layer": {0.1: [0.2] * 5, 0.3: [0.2] * 5}})

    found = against({"max_trainable_lr": "-1step"})

    row = row_of(found, "max_trainable_lr")
    assert ("regressed", 0, -1) == (row.word, row.base, row.head)
    [line] = [line for line in report.terminal(found, 100).splitlines() if "✗ regressed" in line]
    assert ["layer", "0.1", "none"] == line.split()[:3]


def test_the_failure_rate_is_the_share_of_rates(folder, head, against):
    """Every seed fails at one rate of three more: regressed by 33 points, + is worse."""
    folder.add({"layer": dict.fromkeys(RATES, SCORES)})
    head.add({"layer": {0.1: moved(0), 0.3: moved(0), 1.0: [0.1] * 5}})

    row = row_of(against({"failure_rate": "+10pt"}), "failure_rate")

    assert ("regressed", 0.0) == (row.word, row.base)
    assert pytest.approx((1 / 3, 1 / 3)) == (row.head, row.difference.centre)


@pytest.mark.parametrize(
    ("gates", "seeds", "message"),
    [
        ({"accuracy": "-2pt"}, 1, "gate accuracy:-2pt: 1 seed can never fail it; a t test needs 2"),
        (
            {"failure_rate": "+5pt"},
            4,
            "gate failure_rate:+5pt: 4 seeds can never fail it; with 1 gated row a sign test needs 5",
        ),
        (
            {"failure_rate": "+5pt", "accuracy": "-2pt"},
            5,
            "gate failure_rate:+5pt: 5 seeds can never fail it; with 2 gated rows a sign test needs 6",
        ),
    ],
)
def test_a_gate_that_the_seeds_can_not_carry_is_refused(one_rate, gates, seeds, message):
    """A gate that could never fail is refused with the number of seeds that it needs."""
    with pytest.raises(UsageError) as refused:
        one_rate(SCORES[:seeds], moved(0)[:seeds], gates)

    assert message == str(refused.value)


def test_a_weak_gate_is_warned_of(one_rate, against):
    """At BASE's spread a loss of twice the margin is mostly missed: the warning says how many seeds see it in half."""
    one_rate([0.9, 0.85, 0.95], moved(0, [0.9, 0.85, 0.95]))

    [warning, *_] = against({"accuracy": "-0.5pt"}).warnings

    assert warning.startswith("gate accuracy:-0.5pt: with 1 gated row, 3 seeds see a loss of twice the margin in ")
    assert int(warning.partition("about ")[2].split()[0]) > 50


def test_a_gate_that_sees_enough_is_not_warned_of(one_rate, against):
    """At a small spread no warning is made."""
    one_rate(SCORES, moved(0))

    assert [] == against({"accuracy": "-10pt"}).warnings


@pytest.mark.parametrize(
    ("gates", "message"),
    [
        ({"accuracy": "-0.02"}, "gate accuracy:-0.02: the margin on spirals is in percentage points, like 0.5pt"),
        ({"sensitivity": "+0.02"}, "gate sensitivity:+0.02: the margin on spirals is in percentage points, like 0.5pt"),
        (
            {"max_trainable_lr": "-1dec"},
            "gate max_trainable_lr:-1dec: the smallest step of the grid of spirals is 0.477 decades; a margin in "
            "decades is no larger. Write it in steps, like -1step",
        ),
    ],
)
def test_a_margin_in_another_unit_than_the_task_is_refused(folder, head, against, gates, message):
    """A margin must be in the unit of the task's score, and in decades no wider than the grid tells."""
    folder.add({"layer": dict.fromkeys(RATES, SCORES)})
    head.add({"layer": dict.fromkeys(RATES, moved(0))})

    with pytest.raises(UsageError) as refused:
        against(gates)

    assert message == str(refused.value)


@pytest.mark.parametrize(("metric", "own"), [("accuracy", "bits"), ("over_the_grid", "progress")])
def test_points_of_a_score_without_per_cents_are_refused(folder, head, against, bits, metric, own):
    """Bits have no points; what is over the grid of them is in progress."""
    folder.add({"layer": {0.1: [2.0, 2.1], 1.0: [2.2, 2.3]}}, measure=bits)
    head.add({"layer": {0.1: [2.1, 2.1], 1.0: [2.2, 2.3]}}, measure=bits)

    with pytest.raises(UsageError) as refused:
        against({metric: "-1pt"})

    assert f"gate {metric}:-1pt: the margin on spirals is a number, in {own}" == str(refused.value)


def test_an_error_in_per_cent_is_in_points_but_its_means_over_the_grid_are_in_progress(folder, head, against, bits):
    """A share that is better the lower it is has points, but progress has none."""
    error = msgspec.structs.replace(bits, unit="%", chance=0.9, reference=0.1)
    folder.add({"layer": {0.1: [0.1, 0.12], 1.0: [0.2, 0.3]}}, measure=error)
    head.add({"layer": {0.1: [0.11, 0.12], 1.0: [0.21, 0.3]}}, measure=error)

    found = against({"accuracy": "-2pt", "over_the_grid": "-0.02"})

    units = {row.metric.name: row.unit for row in found.rows}
    assert ("%", "", "") == tuple(units[metric] for metric in ("accuracy", "over_the_grid", "sensitivity"))


def test_what_is_better_by_more_than_its_margin_is_noted(one_rate, against):
    """A gain that large is often a broken measure."""
    one_rate(SCORES, moved(0.05))

    notes = against(ACCURACY).notes

    assert (
        "'layer' on spirals: accuracy is better by more than the margin; a broken measure may look like that" in notes
    )


def test_rows_whose_fingerprints_are_equal_need_no_results(folder, against):
    """An unchanged row is asked for no results of HEAD, and does not fail strictly."""
    folder.add({"layer": {0.1: SCORES}})
    [run] = folder.store.runs()

    found = against(ACCURACY, unchanged=frozenset((cell.table_id, cell.norm_id) for cell in run.cells))

    assert ["unchanged"] == [row.word for row in found.rows]
    assert (1, []) == (found.compared, found.failing(strict=True))


def test_looks_stop_at_the_one_that_decided(folder, head, against):
    """A row that three seeds decided is shown with these three, whatever came later."""
    folder.add({"layer": {0.1: SCORES}})
    head.add({"layer": {0.1: [*moved(-0.1)[:3], 0.5, 0.99]}})

    row = row_of(against(ACCURACY, looks=[3, 5]))

    assert ("regressed", 3) == (row.word, row.seeds)
    assert pytest.approx(0.9) == row.base


def test_a_look_counts_identical_seeds_and_does_not_test_them(folder, head, against):
    """Of the first three seeds one is the same to the last bit: the first look has two to test, and they decide."""
    folder.add({"layer": {0.1: SCORES}})
    head.add({"layer": {0.1: [SCORES[0], *moved(-0.1)[1:]]}})

    row = row_of(against(ACCURACY, looks=[3, 5]))

    assert ("regressed", 2, 1) == (row.word, row.seeds, row.identical)


def test_a_gate_that_a_later_look_can_fail_is_not_refused(folder, head, against):
    """Three seeds are too few for a sign test; of the eight that are looked at in the end they are the first."""
    folder.add({"layer": {0.1: SCORES[:3]}})
    head.add({"layer": {0.1: moved(0.0)[:3]}})

    row = row_of(against({"failure_rate": "+5pt"}, looks=[3, 8]), "failure_rate")

    assert "unclear" == row.word


def session(folder, number=1, task="spirals", environment="environment 1", **speeds):
    """Store a session of its own name."""
    from normbench.store import Store

    scratch = folder.__class__(folder.store.folder / f"scratch-{number}")
    scratch.time(task, **speeds)
    [found] = Store(scratch.store.folder).sessions()
    named = msgspec.structs.replace(found, session=f"{folder.store.folder} {number}", environment=environment)
    with folder.store.writer() as writer:
        writer.append(named)


def test_throughput_within_a_session(folder, head, against):
    """One session a side: the shift of the rounds' logs, labelled as within a session."""
    session(folder, layer=1.0)
    session(head, layer=0.7)

    row = row_of(against({"throughput": "-10%"}), "throughput")

    assert ("regressed", 1, ["within-session"]) == (row.word, row.seeds, row.flags)
    assert pytest.approx((1.0, 0.7, -0.3)) == (row.base, row.head, row.difference.centre)


def test_a_gate_below_ten_per_cent_needs_three_sessions(folder, head, against):
    """Between sessions 1-2% moves by itself: one session carries no finer gate."""
    session(folder, layer=1.0)
    session(head, layer=1.0)

    with pytest.raises(UsageError) as refused:
        against({"throughput": "-5%"})

    assert str(refused.value).startswith("gate throughput:-5%: with one session per side a margin is 10% or more; ")
    assert "needs 3 sessions per side" in str(refused.value)


def test_three_sessions_a_side_carry_a_finer_gate(folder, head, against):
    """Three sessions a side are compared by their medians."""
    for number, speed in enumerate([1.0, 1.01, 0.99]):
        session(folder, number, layer=speed, other=speed)
        session(head, number, layer=0.9 * speed, other=1.001 * speed)

    found = against({"throughput": "-5%"})

    rows = {row.norm: row for row in found.rows}
    assert ("regressed", 3, []) == (rows["layer"].word, rows["layer"].seeds, rows["layer"].flags)
    assert "ok" == rows["other"].word
    assert pytest.approx(-0.1) == rows["layer"].difference.centre


def test_the_same_sessions_are_identical(folder, against):
    """A folder held against itself asks nothing of its sessions, whatever the gate."""
    session(folder, layer=0.8)

    found = compare(folder.store, folder.store, gating.gates({"throughput": "-5%"}, "gate"))

    assert ["identical"] == [row.word for row in found.rows]


def test_throughput_of_other_hardware_is_not_compared(folder, head, against):
    """A hard difference of the environments leaves no timing to compare; it is named."""
    with folder.store.writer() as writer:
        first = writer.environment(EnvironmentRecord.of(processor="one", packages={"torch": "2.1.0"}))
    with head.store.writer() as writer:
        second = writer.environment(EnvironmentRecord.of(processor="two", packages={"torch": "2.2.0"}))
    session(folder, environment=first, layer=1.0)
    session(head, environment=second, layer=0.5)

    found = against({"throughput": "-10%"})

    assert [] == found.rows
    assert "throughput of spirals can't be compared: processor one → two, torch 2.1 → 2.2" in found.notes


def test_what_the_environments_differ_in_is_noted(folder, head, against):
    """Versions that differ are named; a folder with trials of two environments is as well."""
    for place, version in ((folder, "2.1.0"), (head, "2.1.1")):
        with place.store.writer() as writer:
            writer.environment(EnvironmentRecord.of(platform="here", packages={"torch": version}))
    folder.add({"layer": {0.1: SCORES}})
    head.add({"layer": {0.1: [{"score": score, "environment": f"{i % 2}"} for i, score in enumerate(SCORES)]}})

    notes = against().notes

    assert "environments differ: torch 2.1.0 → 2.1.1" in notes
    assert "HEAD has trials of 2 environments" in notes


@pytest.fixture
def mixed(folder, head, against):
    """Return a comparison with regressed, ok, unclear, identical and vanished rows, and throughput."""
    grid = {
        "falling": {0.1: SCORES, 1.0: moved(-0.1)},
        "steady": {0.1: SCORES, 1.0: moved(-0.2)},
        "wide": {0.1: SCORES, 1.0: moved(-0.3)},
        "equal": {0.1: SCORES, 1.0: moved(-0.1)},
    }
    folder.add({**grid, "gone": {0.1: SCORES, 1.0: SCORES}}, condition={"momentum": 0.5})
    changed = {
        "falling": {0.1: moved(-0.06), 1.0: moved(-0.1)},
        "steady": {0.1: moved(0), 1.0: moved(-0.2)},
        "wide": {0.1: [0.95, 0.85, 0.93, 0.84, 0.94], 1.0: moved(-0.3)},
    }
    head.add({**grid, **changed}, condition={"momentum": 0.5})
    session(folder, layer=1.0)
    session(head, layer=0.7)
    return against({"accuracy": "-2pt", "throughput": "-10%"})


@pytest.mark.parametrize("ascii_only", [False, True])
def test_a_terminal_of_80_columns_is_not_overrun(mixed, ascii_only):
    """No line is wider than the terminal; plain ASCII holds nothing else."""
    text = report.terminal(mixed, 80, ascii_only=ascii_only)

    assert [] == [line for line in text.splitlines() if len(line) > 80]
    assert not ascii_only or text.isascii()


def test_every_form_has_the_same_figures(mixed):
    """JSON, CSV, JUnit, Markdown, LaTeX and terminal agree on a row's verdict and numbers."""
    text = {form: write(mixed) for form, write in report.FORMATS.items()}

    document = json.loads(text["json"])["compare"]
    [row] = [row for row in document["rows"] if (row["norm"], row["metric"]) == ("falling", "accuracy")]
    [line] = [
        line
        for line in csv.DictReader(io.StringIO(text["csv"]))
        if (line["norm"], line["metric"]) == ("falling", "accuracy")
    ]
    assert ("regressed", "points", "-2pt", 5) == (row["verdict"], row["unit"], row["gate"], row["seeds"])
    assert pytest.approx((90.4, 84.42, -5.98)) == (row["base"], row["head"], row["difference"])
    for key in ("base", "head", "difference", "difference_low", "difference_high", "p"):
        assert row[key] == float(line[key])
    figures = [f"{row['base']:.1f}", f"{row['head']:.1f}", f"{row['difference']:.1f}"]
    for form in ("terminal", "github", "latex_booktabs"):
        shown = next(line for line in text[form].splitlines() if "falling" in line and "90.4" in line)
        assert [figure in shown for figure in figures] == [True] * 3, form
    [failure] = ElementTree.fromstring(text["junit"]).findall(".//testcase[@name='falling accuracy']/failure")
    assert figures[2] in failure.get("message")


def test_programs_read_throughput_as_ratios_and_their_difference_in_percent(mixed):
    """BASE and HEAD are ratios to the baseline, and the difference is in the row's unit."""
    [row] = [row for row in report.as_dicts(mixed) if row["metric"] == "throughput" and row["norm"] == "layer"]

    assert "%" == row["unit"]
    assert pytest.approx((1.0, 0.7, -30.0)) == (row["base"], row["head"], row["difference"])


def test_junit_counts_what_failed_and_what_was_skipped(mixed):
    """Regressed rows are failures, unclear and vanished ones skipped, all others passed."""
    root = ElementTree.fromstring(report.junit(mixed))

    found = {key: sum(int(suite.get(key)) for suite in root) for key in ("tests", "failures", "skipped")}
    expected = {
        "tests": len(mixed.rows),
        "failures": mixed.count("regressed"),
        "skipped": mixed.count("unclear", "vanished"),
    }
    assert expected == found
    assert min(found.values()) > 0


def test_markdown_opens_what_regressed_and_folds_the_rest(mixed):
    """Of the tables those with a regression are open."""
    text = report.github(mixed)

    tables = len(report.tables(mixed))
    regressed = {(row.table_id, row.metric.name) for row in mixed.rows if row.word == "regressed"}
    assert (len(regressed), tables - len(regressed)) == (text.count("<details open>"), text.count("<details>"))
    assert text.startswith("### normbench compare: 2 regressed, ")


def test_a_comparison_of_nothing_can_be_written_in_every_form(against, folder, head):
    """Where nothing is in common every form still says so, or is empty."""
    folder.add({"layer": {0.1: [None]}})
    head.add({"layer": {0.1: [None]}})

    text = {form: write(against()) for form, write in report.FORMATS.items()}

    assert [] == json.loads(text["json"])["compare"]["rows"]
    assert "nothing to compare" in text["terminal"]
    assert "nothing to compare" in text["github"]


def test_a_speed_that_head_lost_has_vanished(folder, head, against):
    """Where HEAD was timed without a norm that BASE timed, the row is not left out in silence."""
    session(folder, layer=1.0, other=1.0)
    session(head, other=1.0)

    found = against({"throughput": "-10%"})

    assert {"layer": "vanished", "other": "ok"} == {row.norm: row.word for row in found.rows}
    assert ["layer"] == [row.norm for row in found.failing(strict=True)]


def test_accuracy_is_held_though_another_rate_is_not_supported(folder, head, against):
    """A norm that can't stand at some rate, on either side, still has its accuracy at the chosen one."""
    unsupported = ["unsupported"] * 3
    folder.add({"layer": {0.1: [0.9, 0.91, 0.89], 1: unsupported}})
    head.add({"layer": {0.1: [0.6, 0.61, 0.58], 1: unsupported}})

    found = against({"accuracy": "-2pt"})

    assert [("accuracy", "regressed")] == [(row.metric.name, row.word) for row in found.rows]


@pytest.mark.parametrize("gate", [{"max_trainable_lr": "-5step"}, {"failure_rate": "+101pt"}])
def test_a_margin_that_nothing_can_lose_is_refused(folder, head, against, gate):
    """A gate that no change could fail is a mistake."""
    folder.add({"layer": {0.1: [0.9] * 5, 1: [0.8] * 5}})
    head.add({"layer": {0.1: [0.2] * 5, 1: [0.1] * 5}})

    with pytest.raises(UsageError, match="nothing on spirals can lose so much; its grid has 2 rates"):
        against(gate)


def test_gates_on_throughput_count_among_the_rows(folder, head, against):
    """Five seeds carry one row of failures; with a row of throughput beside it, it takes six, as Holm does."""
    folder.add({"layer": {0.1: [0.9] * 5, 1: [0.8] * 5}})
    head.add({"layer": {0.1: [0.85] * 5, 1: [0.1] * 5}})
    session(folder, layer=1.0)
    session(head, layer=0.99)

    alone = against({"failure_rate": "+10pt"})
    with pytest.raises(UsageError) as refused:
        against({"failure_rate": "+10pt", "throughput": "-10%"})

    assert "regressed" == row_of(alone, "failure_rate").word
    assert "with 2 gated rows a sign test needs 6" in str(refused.value)


@pytest.mark.parametrize(
    ("outcomes", "crashed"),
    [
        ({0.1: ["unsupported"] * 2, 1.0: ["error"] * 2}, 2),
        ({0.1: [{"outcome": "unsupported", "reason": "40 ended in error"}] * 2, 1.0: ["unsupported"] * 2}, 0),
        ({0.1: ["oom", "timeout"], 1.0: [{"outcome": "error", "reason": "7 ended in timeout"}, 0.8]}, 3),
    ],
    ids=["beside unsupported", "in words alone", "with a reason"],
)
def test_crashes_are_counted_by_outcomes(folder, head, outcomes, crashed) -> None:
    """What crashed in HEAD is counted from its trials, whatever else became of the norm and whatever a reason says."""
    whole = {0.1: [0.8, 0.8], 1.0: [0.8, 0.8]}
    base, later = folder.add({"batchnorm": whole}), head.add({"batchnorm": whole, "layer": outcomes})

    assert crashed == compare(base, later, {}).crashed

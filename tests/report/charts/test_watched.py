"""Learning curves and what probes saw: their numbers, what is chosen of them, and what is thinned."""

from __future__ import annotations

import numpy as np
import pytest
from drawn import drawn, rows

from normbench.boards.grid import gather
from normbench.charts.looks import looks
from normbench.charts.traces import Watched, shown_in
from normbench.report.charts.watched import CHOSEN, Room, seen
from normbench.store.records import Series

NORMS = {"none": {0.1: [0.6] * 3, 1.0: ["diverged"] * 3}, "batchnorm": {0.1: [0.8] * 3, 1.0: [0.9] * 3}}
LOSS, VALIDATION, MEAN = "Training loss by step", "Validation accuracy by step", "moments: mean by step"


def level(trial) -> float:
    """Return a number that tells apart a trial's norm, rate and seed."""
    return len(trial.norm) + trial.recipe["rate"] + trial.seed / 100


def losses(every: int):
    """Return what gives a curve that falls; of a training that diverged it ends early."""

    def of(trial) -> dict[str, Series]:
        steps = list(range(0, 301 if trial.outcome == "diverged" else 1000, every))
        return {"loss": Series(steps, [level(trial) / (1 + step) for step in steps])}

    return of


def sites(count: int):
    """Return what gives a series of vectors at three steps."""
    return lambda trial: {
        "mean": Series([0, 5, 9], [[level(trial) + at + step for at in range(count)] for step in (0, 5, 9)])
    }


def test_losses_at_the_chosen_rates_and_at_each(folder):
    """The mean over seeds with its min-max; where seeds diverged is marked."""
    folder.add(NORMS)

    chart = drawn(folder.watch("curve", losses(100)))[LOSS]

    assert ("rate", [CHOSEN, "rate 0.1", "rate 1"]) == (chart.chooses, chart.choices)
    own = rows(chart, choice=0, norm="batchnorm")
    assert {1.0} == {row["rate"] for row in own}
    assert list(range(0, 1000, 100)) == [row["x"] for row in own]
    for name, first in (("y", 10.01), ("low", 10.0), ("high", 10.02)):
        assert pytest.approx(first / (1 + np.arange(0, 1000, 100)), rel=1e-3) == [row[name] for row in own]
    [end] = rows(chart, choice=2, norm="none", lost=3)
    assert 300 == end["x"]
    assert ["none", "0.004562 at step 900", "0.004562 at step 900", "0.01664 at step 300, 3 diverged"] == [
        text for row in chart.table.rows if row[0] == "none" for text in row
    ]
    assert "×n" not in chart.how


def test_thinning_keeps_both_ends_and_where_seeds_diverged(folder):
    """And it is said."""
    folder.add(NORMS)

    chart = drawn(folder.watch("curve", losses(1)))[LOSS]

    own = [row["x"] for row in rows(chart, choice=0, norm="none")]
    assert (0, 999, 120) == (own[0], own[-1], len(own))
    assert 300 == max(row["x"] for row in rows(chart, choice=2, norm="none"))
    assert "120 of 1000 steps are drawn" == chart.left_out


def test_a_first_loss_that_is_not_finite(folder):
    """It says nothing of where the others' are cut off."""
    folder.add(NORMS)
    never = {"loss": Series([0, 1], ["nan", "nan"])}

    chart = drawn(folder.watch("curve", lambda trial: never if trial.norm == "none" else losses(100)(trial)))[LOSS]

    assert {"batchnorm"} == set(chart.columns["norm"])
    assert "no values of none" in chart.how


@pytest.mark.parametrize(("last", "ticks"), [(7, [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10]), (11, [0.001, 0.01, 0.1, 1, 10])])
def test_a_logarithmic_axis_has_plain_numbers(folder, last, ticks):
    """1, 2 and 5 of each decade, or 1 alone of many; few steps have a tick each, and none is halved."""
    folder.add({"batchnorm": {0.1: [0.8]}})
    falls = {"loss": Series(list(range(last)), [10 / 2.5**step for step in range(last)])}

    axes = drawn(folder.watch("curve", lambda _: falls))[LOSS].spec["layer"][1]["encoding"]

    assert (ticks, ".6~g") == (axes["y"]["axis"]["values"], axes["y"]["axis"]["format"])
    assert list(range(last)) == axes["x"]["axis"]["values"]


def test_percent_are_never_logarithmic(folder):
    """Also where a training begins near 0."""
    scored = {"score": 0.8, "steps": 40, "epoch_steps": 20, "series": {"validation": [0.001, 0.9]}}
    folder.add({"none": {0.1: [scored]}})

    assert "linear" == drawn(folder.store)[VALIDATION].spec["layer"][1]["encoding"]["y"]["scale"]["type"]


def test_validation_by_step(folder):
    """It needs no trace, and more than one point."""
    scored = {"score": 0.8, "steps": 50, "epoch_steps": 20, "series": {"validation": [0.2, 0.4, 0.5]}}
    folder.add({"none": {0.1: [scored] * 2, 1.0: [0.5] * 2}})

    charts = drawn(folder.store)

    assert LOSS not in charts
    assert [(20, 20), (40, 40), (50, 50)] == [(row["x"], row["y"]) for row in rows(charts[VALIDATION], choice=0)]


def test_one_validation_is_no_curve(folder):
    """Boards have it."""
    folder.add({"none": {0.1: [{"score": 0.8, "steps": 20, "epoch_steps": 20, "series": {"validation": [0.2]}}]}})

    assert {} == drawn(folder.store)


def test_a_vector_is_chosen_by_place(folder):
    """Of many places it is drawn by place as well, at the last step."""
    folder.add(NORMS)

    charts = drawn(folder.watch("moments", sites(6)))

    chart, last = charts[MEAN], charts["moments: mean by place"]
    assert ("place", [f"place {at}" for at in range(6)]) == (chart.chooses, chart.choices)
    assert pytest.approx([12.01, 17.01, 21.01]) == [row["y"] for row in rows(chart, norm="batchnorm", choice=2)]
    assert pytest.approx([19.01 + at for at in range(6)]) == [row["y"] for row in rows(last, norm="batchnorm")]
    assert "moments: mean by place" not in drawn(folder.watch("moments", sites(3)))


def test_of_many_places_some_are_drawn(folder):
    """The first and the last among them."""
    folder.add(NORMS)

    chart = drawn(folder.watch("moments", sites(40)))[MEAN]

    assert ("place 0", "place 39", 16) == (chart.choices[0], chart.choices[-1], len(chart.choices))
    assert "16 of 40 places are drawn" == chart.left_out


def test_a_network_has_its_own_places(folder):
    """Another task's may be deeper."""
    folder.add({"none": {0.1: [0.8]}})
    folder.watch("moments", sites(2))
    folder.add({"none": {0.1: [0.8]}}, task="digits")
    folder.watch("moments", lambda trial: sites(5)(trial) if trial.task == "digits" else None)
    grids = gather(folder.store)
    watched = Watched.of(folder.store, shown_in(grids))
    styles, room = looks(row.cell for grid in grids for row in grid.rows), Room.of(grids, watched)
    traces = watched.traces("moments", "mean")

    places = [len(next(seen(traces.among(shown_in([grid])), grid, styles, room, "")).choices) for grid in grids]

    assert [2, 5] == places


def test_what_there_is_no_room_for_is_said(folder, monkeypatch):
    """Series of probes one by one, and rates other than the chosen ones."""
    folder.add(NORMS)
    folder.watch("curve", losses(100))
    folder.watch("moments", lambda trial: sites(2)(trial) | {"std": Series([0, 9], [1.0, 2.0])})
    monkeypatch.setattr("normbench.report.charts.watched.ROWS", 100)
    monkeypatch.setattr("normbench.report.charts.watched.ROWS_SEEN", 50)

    charts = drawn(folder.store)

    assert ((), "other rates than the chosen ones are not drawn") == (charts[LOSS].choices, charts[LOSS].left_out)
    assert [LOSS, "moments: std by step"] == [title for title in charts if title.endswith("by step")]
    assert "no room for moments.mean" == charts["moments: std by step"].left_out

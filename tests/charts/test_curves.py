"""Curves and series by step: which trials' traces they show, their panels, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from normbench.charts import pictures
from normbench.charts.looks import LOOKS
from normbench.charts.panels import TOGETHER
from normbench.errors import UsageError
from normbench.store.records import Series
from normbench.trials import FRESH

NORMS = {"none": {0.1: [0.6] * 3, 1.0: ["diverged"] * 3}, "batchnorm": {0.1: [0.8] * 3, 1.0: [0.9] * 3}}


def level(trial) -> float:
    """Return a number that tells apart a trial's norm, rate and seed."""
    return len(trial.norm) + trial.recipe["rate"] + trial.seed % FRESH / 100 + (50 if trial.seed >= FRESH else 0)


def losses(trial) -> dict[str, Series]:
    """Return a curve that falls; of a training that diverged it ends early."""
    steps = list(range(0, 30 if trial.outcome == "diverged" else 50, 10))
    return {"loss": Series(steps, [level(trial) / (1 + step) for step in steps])}


def numbers(axes) -> dict[str, tuple[list[float], list[float]]]:
    """Return the lines of means of a panel, by the colour of their norm."""
    lines = [line for line in axes.get_lines() if line.get_linestyle() != "None"]
    return {line.get_color(): (list(line.get_xdata()), list(line.get_ydata())) for line in lines}


def text(figure) -> str:
    """Return all text of a picture, line by line."""
    return figure.encoded("svg").decode()


BLACK, BLUE = LOOKS["none"].colour, LOOKS["batchnorm"].colour


def test_loss_and_validation_at_the_chosen_rate(folder):
    """Means over the seeds that the accuracy board reads; validation stands at the ends of epochs, the last a part."""
    scored = {
        "score": 0.8,
        "validation": 0.8,
        "steps": 50,
        "epoch_steps": 20,
        "series": {"validation": [0.2, 0.4, 0.5]},
    }
    folder.add({"batchnorm": {0.1: [scored] * 2, 1.0: [0.5] * 2}}, fresh={"batchnorm": {0.1: [scored] * 2}})

    figure = pictures.figure(folder.watch("curve", losses), "curves")

    loss, validation = figure.axes
    steps, means = numbers(loss)[BLUE]
    assert ("training loss", "validation accuracy, %") == (loss.get_ylabel(), validation.get_ylabel())
    assert [0, 10, 20, 30, 40] == steps
    assert means == pytest.approx((9 + 0.1 + 50 + 0.005) / (1 + np.arange(0, 50, 10)))
    steps, means = numbers(validation)[BLUE]
    assert ([20, 40, 50], pytest.approx([20, 40, 50])) == (steps, means)
    assert "mean of 2 fresh seeds, at each norm&#x27;s chosen rate, band: min–max" in text(figure).replace(
        "'", "&#x27;"
    )


def test_validation_within_epochs(folder):
    """It stands at the steps at which it was measured, where these are stored."""
    folder.add(
        {
            "none": {
                0.1: [{"score": 0.8, "series": {"validation": [0.2, 0.4]}, "validated": [15, 30], "epoch_steps": 60}]
            }
        }
    )

    _, validation = pictures.figure(folder.watch("curve", losses), "curves").axes

    assert ([15, 30], pytest.approx([20.0, 40.0])) == numbers(validation)[BLACK]


def test_panels_per_rate_on_one_scale(folder):
    """At rates that are asked for: the seeds of the grid, how many of them diverged, and the norms best first."""
    folder.add(NORMS, fresh={"batchnorm": {1.0: [0.9] * 3}})

    figure = pictures.figure(folder.watch("curve", losses), "curves", at=[1.0, 0.1])

    low, high = figure.axes[:2]
    assert ("rate 0.1", "rate 1") == (low.get_title("left"), high.get_title("left"))
    assert low.get_ylim() == high.get_ylim()
    assert [9.11, 4.11] == pytest.approx([numbers(low)[colour][1][0] for colour in (BLUE, BLACK)])
    assert [0, 10, 20] == numbers(high)[BLACK][0]
    assert ["×3"] == [label.get_text() for label in high.get_legend().get_texts()]
    assert low.get_legend() is None
    assert "×n: n seeds diverged" in text(figure)
    [legend] = [legend for part in figure.subfigs for legend in part.legends]
    assert ["batchnorm", "none"] == [label.get_text() for label in legend.get_texts()]


def test_conditions_share_a_scale(folder):
    """Those of one task; another task has a scale of its own."""
    for condition in ({"dropout": 0.1}, {"dropout": 0.5}):
        folder.add({"none": {0.1: [0.8]}}, condition=condition)
    folder.add({"batchnorm": {0.1: [0.8]}}, task="digits")

    one, other, third = pictures.figure(folder.watch("curve", losses), "curves").axes

    assert one.get_ylim() == other.get_ylim() != third.get_ylim()


def vectors(trial) -> dict[str, Series]:
    """Return a series of vectors, whose second position never has a value, and one of numbers."""
    values = [[level(trial) + site + step if site != 1 else "nan" for site in range(3)] for step in (0, 10)]
    totals, lost = [level(trial), 2 * level(trial)], ["nan", "inf"]
    return {"mean": Series([0, 10], values), "total": Series([0, 10], totals), "lost": Series([0, 10], lost)}


def test_a_vector_has_a_panel_for_each_place(folder):
    """On one scale, without those that have no value; in the looks of all norms that the folder has."""
    folder.add(NORMS)
    folder.watch("moments", lambda trial: vectors(trial) if trial.norm == "none" else None)

    figure = pictures.figure(folder.store, "series", series="moments.mean")

    first, last = figure.axes
    assert ("place 0", "place 2") == (first.get_title("left"), last.get_title("left"))
    assert first.get_ylim() == last.get_ylim()
    assert {BLACK: ([0, 10], pytest.approx([4.11 + 2, 14.11 + 2]))} == numbers(last)
    assert "no values of batchnorm" in text(figure)


def test_panels_of_several_rates_have_gaps(folder):
    """A row for each place and a column for each rate, also where one has no values there."""
    folder.add({"none": {rate: [0.8] for rate in (0.1, 0.5, 1.0)}})

    def seen(trial):
        values = {0.1: ["nan", 2.0, "nan"], 0.5: ["nan"] * 3, 1.0: [1.0, 2.0, "nan"]}
        return {"mean": Series([0, 10], [values[trial.recipe["rate"]]] * 2)}

    figure = pictures.figure(folder.watch("moments", seen), "series", series="moments.mean", at=[0.1, 0.5, 1.0])

    places = {axes.get_title("left"): axes.get_subplotspec() for axes in figure.axes}
    assert {
        "place 0, rate 1": (0, 1),
        "place 1, rate 0.1": (1, 0),
        "place 1, rate 1": (1, 1),
    } == {title: (at.rowspan.start, at.colspan.start) for title, at in places.items()}
    labels = {axes.get_title("left"): axes.get_ylabel() for axes in figure.axes}
    assert ["moments: mean", "moments: mean", ""] == list(labels.values())
    assert [True, True, False] == [axes.yaxis.get_tick_params()["labelleft"] for axes in figure.axes]


def test_one_step_alone_has_room(folder):
    """Half a step either side, and a tick at it."""
    folder.add(NORMS)
    store = folder.watch("moments", lambda trial: {"mean": Series([100], [[0.0, 1.0]])})

    for axes in pictures.figure(store, "series", series="moments.mean").axes:
        assert ((99.5, 100.5), [100]) == (axes.get_xlim(), list(axes.get_xticks()))


def test_one_place_and_a_number(folder):
    """Each is one panel."""
    folder.add(NORMS)
    store = folder.watch("moments", vectors)

    [site] = pictures.figure(store, "series", series="moments.mean", site=2).axes
    [number] = pictures.figure(store, "series", series="moments.total").axes

    assert [6.11, 16.11] == pytest.approx(numbers(site)[BLACK][1])
    assert [4.11, 8.22] == pytest.approx(numbers(number)[BLACK][1])
    assert "moments: total" == number.get_ylabel()


def test_a_vector_at_a_step_is_by_place(folder):
    """One panel for each rate, on one scale; a place without a value is left out, and none is where one diverged."""
    folder.add(NORMS)

    low, high = pictures.figure(
        folder.watch("moments", vectors), "series", series="moments.mean", step=10, at=[0.1, 1.0]
    ).axes

    assert ("step 10, rate 0.1", "step 10, rate 1") == (low.get_title("left"), high.get_title("left"))
    assert "place" == low.get_xlabel()
    assert ([0, 2], pytest.approx([14.11, 16.11])) == numbers(low)[BLACK]
    assert ([0, 2], pytest.approx([20.01, 22.01])) == numbers(high)[BLUE]
    assert low.get_ylim() == high.get_ylim()
    assert high.get_legend() is None
    assert all(tick == round(tick) for tick in low.get_xticks())


def test_the_newest_parameters_of_a_probe_count(folder):
    """Traces with others are not averaged with them; the axis names them."""
    folder.add({"none": {0.1: [0.8] * 2}})
    folder.watch("moments", vectors)
    folder.watch("moments", lambda trial: vectors(trial) if trial.seed else None, every=5)

    [axes] = pictures.figure(folder.store, "series", series="moments.total").axes

    assert "moments(every=5): total" == axes.get_ylabel()
    assert [4.11, 8.22] == pytest.approx(numbers(axes)[BLACK][1])


def test_traces_of_other_code_are_left_out(folder):
    """A trial that was trained again by other code has the traces of that."""
    folder.add({"none": {0.1: [0.8]}})
    folder.watch("moments", vectors)
    folder.add({"none": {0.1: [0.8]}}, norm_print="other print")

    with pytest.raises(UsageError, match="no trace of probe 'moments'"):
        pictures.figure(folder.store, "series", series="moments.total")


def test_many_norms_have_a_panel_each(folder):
    """Of loss and of validation."""
    norms = list(LOOKS)[: TOGETHER + 1]
    scored = {"score": 0.8, "steps": 50, "epoch_steps": 50, "series": {"validation": [0.2]}}
    folder.add({name: {0.1: [scored]} for name in norms})

    figure = pictures.figure(folder.watch("curve", losses), "curves")

    assert [*norms, *norms] == [axes.get_title("left") for axes in figure.axes]


def test_a_norm_looks_the_same_in_each_picture(folder):
    """Forms that step aside for one another do so in a picture that has only one of them, too."""
    norms = [f"batchnorm-{i}" for i in range(40)]
    folder.add({name: {0.1: [0.8], 1.0: [0.7]} for name in norms})
    folder.watch("curve", lambda trial: losses(trial) if trial.norm == norms[-1] else None)

    [of_rates] = [axes for axes in pictures.figure(folder.store).axes if axes.get_title("left") == norms[-1]]
    [of_curves] = pictures.figure(folder.store, "curves").axes
    looks = {
        (line.get_color(), line.get_linestyle(), line.get_marker())
        for axes in (of_rates, of_curves)
        for line in axes.get_lines()
        if "None" not in (line.get_linestyle(), line.get_marker())
    }

    assert 1 == len(looks)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"series": "moments.men"}, "probe 'moments': no series 'men'; did you mean 'mean'"),
        ({"series": "moments.x"}, "probe 'moments': no series 'x'; known: lost, mean, total"),
        ({"series": "curve.test"}, "no series 'test'; known: loss (validation and test come with --probe curve)"),
        ({"series": "moment.mean"}, "no probe 'moment'; did you mean 'moments'"),
        ({"series": "nope.mean"}, "no probe 'nope'; known: activation-beta, activity, curve"),
        ({"series": "moments"}, "series 'moments': it takes PROBE.NAME"),
        ({"series": ""}, "series '': it takes PROBE.NAME"),
        ({"series": "moments(every=5).mean"}, "it takes PROBE.NAME, with the probe's name without parameters"),
        (
            {"series": "sharpness.top"},
            "no trace of probe 'sharpness' there; this makes them: normbench run --probe sharpness",
        ),
        ({"series": "shift.cosine"}, "probe 'shift' applies to no trial there: no norm to shift"),
        ({"series": "moments.total", "site": 0}, "site 0: moments.total is one number at a step, and has no places"),
        ({"series": "moments.mean", "site": 3}, "site 3: moments.mean has 3 places, from 0 to 2"),
        ({"series": "moments.mean", "site": -1}, "site -1: moments.mean has 3 places"),
        ({"series": "moments.mean", "site": 1}, "site 1: moments.mean has no finite value"),
        ({"series": "moments.lost"}, "moments.lost has no finite value"),
        ({"series": "moments.lost", "at": [0.1, 1.0]}, "rate 0.1, rate 1: moments.lost has no finite value"),
        ({"series": "moments.total", "step": 0}, "step 0: moments.total is one number at a step, and has no places"),
        ({"series": "moments.mean", "step": 7}, "step 7: moments.mean has steps from 0 to 10; the nearest is 10"),
        ({"series": "moments.mean", "step": 10, "site": 0}, "site 0 and step 10: a series is drawn of one place"),
        ({"series": "moments.total", "at": [0.2]}, "rate 0.2: no norm was trained at it; the rates are 0.1, 1"),
        ({"series": "moments.total", "at": [0.10000001]}, "rate 0.10000001: no norm was trained at it"),
        ({"kind": "curves", "series": "moments.mean"}, "a picture of kind 'curves' takes no series"),
        ({"kind": "series"}, "a picture of kind 'series' needs series=\"PROBE.NAME\""),
        ({"kind": "against"}, "a picture of kind 'against' needs against=\"NAME\""),
    ],
    ids=str,
)
def test_what_is_refused(folder, asked, words):
    """In one line: what is wrong, and what there is."""
    folder.add(NORMS)
    folder.watch("curve", losses)
    folder.watch("moments", vectors)
    with folder.store.writer() as writer:
        seen = next(folder.store.traces())
        writer.append(type(seen)(**{**vars_of(seen), "probe": "shift", "series": {}, "reason": "no norm to shift"}))

    with pytest.raises(UsageError) as refused:
        pictures.figure(folder.store, **{"kind": "series", **asked})

    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("stored", "suite", "command", "words"),
    [
        (["moments(every=5)"], {}, [], "probe 'moments' gave no series in any trial there"),
        ([], {"probes": {"moments": {}}}, [], "probe 'moments' failed in every trial there"),
        ([], {}, ["quick", "--probe", "moments(every=5)"], "probe 'moments' failed in every trial there"),
        ([], {}, ["quick", "--probe=moments"], "probe 'moments' failed in every trial there"),
        ([], {}, ["quick"], "no trace of probe 'moments' there; this makes them: normbench run quick --probe moments"),
    ],
)
def test_a_probe_that_was_asked_for_is_not_suggested(folder, stored, suite, command, words):
    """It gave nothing or, where the trials' lines leave it out, failed: to ask for it again is refused, or no help."""
    folder.add({"none": {0.1: [{"score": 0.8, "probes": stored}]}}, suite=suite, command=["normbench", "run", *command])

    with pytest.raises(UsageError) as refused:
        pictures.figure(folder.store, "series", series="moments.mean")

    assert str(refused.value).endswith(words)


def vars_of(record) -> dict[str, object]:
    """Return the fields of a record."""
    return {name: getattr(record, name) for name in record.__struct_fields__}


def test_several_sites_of_many_norms_are_refused(folder):
    """Each norm has a panel there, which is of one site, or at one step."""
    folder.add({name: {0.1: [0.8]} for name in list(LOOKS)[: TOGETHER + 1]})
    store = folder.watch("moments", vectors)

    with pytest.raises(UsageError, match="each has a panel of its own: choose a site, from 0 to 2"):
        pictures.figure(store, "series", series="moments.mean")

    for place in ({"site": 0}, {"step": 0}):
        assert TOGETHER + 1 == len(pictures.figure(store, "series", series="moments.mean", **place).axes)


@pytest.mark.parametrize(
    ("results", "what", "place", "expected"),
    [
        ("results/quick", "rates", {}, "results/quick-rates.png"),
        ("results/quick.json", "moments.mean", {"step": 0}, "results/quick-moments.mean-step-0.png"),
        ("results/a.b", "curves", {"at": [1.0, 0.1]}, "results/a.b-curves-rate-0.1-1.png"),
        ("results/quick", "p.a/b c", {"at": [0.1000001], "site": 2}, "results/quick-p.a-b-c-rate-0.1000001-site-2.png"),
    ],
)
def test_a_picture_has_a_name_beside_the_results(tmp_path, results, what, place, expected):
    """Of a folder or an export: its name without the ending, what is drawn, and where: no picture replaces another."""
    path = tmp_path / results
    path.parent.mkdir()
    path.write_text("{}") if path.suffix == ".json" else path.mkdir()

    assert tmp_path / expected == pictures.default_file(path, what, **place)


def test_the_current_folder_has_a_name(tmp_path, monkeypatch):
    """The picture goes beside it."""
    (tmp_path / "quick").mkdir()
    monkeypatch.chdir(tmp_path / "quick")

    assert tmp_path / "quick-rates.png" == pictures.default_file(pictures.Path(), "rates")

"""What a script or a notebook calls: run a suite, look at the results, get a layer, register a norm."""

import math
import sys
from pathlib import Path
from typing import Annotated, Literal

import matplotlib
import matplotlib.figure
import msgspec
import numpy as np
import pytest
import torch
from matplotlib import pyplot
from torch import nn

import normbench
from normbench import plugins, registry
from normbench.api import Results
from normbench.report import page
from normbench.store import Store

HERE = {"device": "cpu", "executor": "serial", "throughput": False}
SMALL = {"seeds": 1, "settings": {"rates": [0.1], "epochs": 1}, **HERE}
BUILT_IN = ["batchnorm", "batchnorm-no-affine", "batchnorm-after", "layer-norm", "none"]
SHAPES = {"NC": (4, 6), "NCL": (4, 6, 5), "NCHW": (4, 6, 5, 3), "NLC": (4, 5, 6)}


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """Give each test its own current folder, no settings from outside, and a session without registrations."""
    for name in (registry.ONLY, registry.STRICT, "NORMBENCH_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(plugins, "_session", [])
    monkeypatch.chdir(tmp_path)
    plugins.current.cache_clear()
    yield
    plugins.current.cache_clear()


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Return the results of two norms at one rate, for one seed and two epochs."""
    settings, folder = {"rates": [0.1], "epochs": 2}, tmp_path_factory.mktemp("api")
    norms = ["none", "batchnorm(eps=0.1)"]
    return normbench.run("quick", norms=norms, seeds=1, settings=settings, out=folder, **HERE)


def test_a_run_gives_its_results(results):
    """`run` returns the results, whose boards rank the norms that were asked for."""
    [accuracy] = results.boards()

    assert isinstance(results, normbench.Results)
    assert ("accuracy", "digits-cnn", {"epochs": 2}) == (accuracy.board, accuracy.task, accuracy.condition)
    assert ["batchnorm(eps=0.1)", "none"] == [row.norm for row in accuracy.rows]


def test_results_print_as_the_command_line_does(results):
    """`print(results)` shows the leaderboards, `print` of a board that one, `repr` the folder."""
    assert str(results) == "\n\n".join(map(str, results.boards()))
    assert str(results).startswith("accuracy · digits-cnn v1 · epochs=2\n")
    assert f"Results({str(results.folder)!r})" == repr(results)


def test_trials_are_the_records(results):
    """`trials()` gives each trial that the boards show, whole."""
    trials = results.trials()

    assert [("none", {}), ("batchnorm", {"eps": 0.1})] == [(trial.norm, trial.params) for trial in trials]
    assert all(len(trial.series["loss"]) == 2 for trial in trials)
    assert {"rate": 0.1, "batch_size": 64, "epochs": 2, "momentum": 0.9} == trials[0].recipe


def test_a_frame_has_a_row_a_trial(results):
    """`to_pandas()` has a trial a row, and a recipe's values as columns."""
    pytest.importorskip("pandas")

    frame = results.to_pandas()

    expected = {"key", "task", "norm", "params", "seed", "outcome", "score", "validation", "series", "seconds"}
    assert expected | {"recipe.rate", "recipe.batch_size", "recipe.epochs", "recipe.momentum"} <= set(frame.columns)
    assert not {"recipe", "measure"} & set(frame.columns)
    assert ["none", "batchnorm"] == list(frame["norm"])
    assert [0.1, 0.1] == list(frame["recipe.rate"])
    assert [trial.score for trial in results.trials()] == list(frame["score"])


class Seen:
    """A probe that gives a number, a vector, and what is not finite."""

    def __init__(self, training, every=2):
        pass

    def on_step(self, step):
        return {"number": float(step), "vector": [step + 0.5, math.inf if step else math.nan]}


@pytest.fixture(scope="module")
def probed(tmp_path_factory):
    """Return the results of one norm at two batch sizes, with what a probe saw of the first steps."""
    probe = normbench.Probe("seen", Seen, summary="Made here")
    settings = {"rates": [0.1], "steps": 4, "batch_size": 64}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plugins, "_session", [])
        plugins.current.cache_clear()
        normbench.register(probe)
        folder = tmp_path_factory.mktemp("probed")
        for size in (32, 64):
            asked = {**HERE, "settings": {**settings, "batch_size": size}, "out": folder, "fresh": False}
            normbench.run("quick", norms=["batchnorm(eps=0.1)"], seeds=1, probes=["seen(every=3)"], **asked)
    plugins.current.cache_clear()
    return Results(folder)


def test_traces_are_the_records(probed):
    """`traces()` gives what a probe saw of each trial that the boards show: of one that was seen again, the last."""
    store = Store(probed.folder)
    first, second = (trace for trace in store.traces() if trace.probe == "seen")
    with store.writer() as writer:
        writer.append(first)

    found = [trace for trace in probed.traces() if trace.probe == "seen"]

    assert [trial.key for trial in probed.trials()] == [first.key, second.key]
    assert {first.key: first, second.key: second} == {trace.key: trace for trace in found}
    assert 2 == len(found)
    assert {"number", "vector"} == set(first.series)


def test_a_frame_of_traces_has_a_row_a_number(probed):
    """`to_pandas("traces")` is tidy: which trial, where, and the number; words are numbers again."""
    pd = pytest.importorskip("pandas")

    frame = probed.to_pandas("traces")

    named = ["trial", "task", "norm", "rate", "seed", "probe", "step", "site", "series", "value"]
    expected = [
        (trace.key, "digits-cnn", "batchnorm(eps=0.1)", 0.1, 0, "seen(every=3)", step, site, series, value)
        for trace in probed.traces()
        if trace.probe == "seen"
        for series, sites in (("number", [None]), ("vector", [0, 1]))
        for step in (0, 3)
        for site in sites
        for value in [float(step) if site is None else step + 0.5 if site == 0 else math.inf if step else math.nan]
    ]
    found = frame[frame["probe"] == "seen(every=3)"]
    assert [*named, "recipe.batch_size"] == list(frame.columns)
    assert (
        pd.DataFrame(expected, columns=named)
        .astype({"site": "Int64"})
        .equals(found[named].reset_index(drop=True).astype({"step": "int64"}))
    )
    assert {32, 64} == set(found["recipe.batch_size"])


def test_a_frame_of_no_traces(results):
    """It has the same columns; a frame of something else is refused."""
    pytest.importorskip("pandas")

    assert {"trial", "step", "site", "value"} <= set(results.to_pandas("traces").columns)
    with pytest.raises(normbench.UsageError, match="to_pandas: no frame 'trace'; did you mean 'traces'"):
        results.to_pandas("trace")


def test_a_picture_is_a_figure(probed):
    """`plot()` returns a figure of matplotlib that belongs to no window, and that a notebook shows."""
    backend, figures = matplotlib.rcParams["backend"], pyplot.get_fignums()

    figure = probed.plot("series", series="seen.vector", rates=0.1, step=0)

    assert isinstance(figure, matplotlib.figure.Figure)
    assert [("place", "seen(every=3): vector")] * 2 == [(axes.get_xlabel(), axes.get_ylabel()) for axes in figure.axes]
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert (backend, figures) == (matplotlib.rcParams["backend"], pyplot.get_fignums())


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"series": "seen.number"}, "a picture of kind 'rates' takes no series"),
        ({"kind": "curve"}, "plot: no kind 'curve'; did you mean 'curves'?"),
        ({"kind": 3}, "plot: kind is 3; it takes Literal["),
        ({"kind": "series", "series": 3}, "plot: series is 3; it takes str | None"),
        ({"rates": "0.1"}, "plot: rates is '0.1'; it takes float | Sequence[float]"),
        ({"kind": "curves", "rates": [None]}, "plot: rates is [None]; it takes"),
        ({"kind": "series", "series": "seen.vector", "site": 0.5}, "plot: site is 0.5; it takes int | None"),
        ({"kind": "series", "series": "seen.vector", "step": "0"}, "plot: step is '0'; it takes int | None"),
    ],
    ids=str,
)
def test_a_picture_that_is_refused(probed, asked, words):
    """An argument of a wrong type or value is named, with what it takes."""
    with pytest.raises(normbench.UsageError) as refused:
        probed.plot(**asked)

    assert str(refused.value).startswith(words)


def test_a_notebook_shows_the_answer_and_the_tables(results):
    """Results are shown as their boards, below what these come to; a board is shown alone."""
    [board] = results.boards()

    assert results._repr_html_().index("One seed says nothing of which norm") < results._repr_html_().index("<table>")
    assert results._repr_html_().count("<table>") == board._repr_html_().count("<table>") == 1
    assert "batchnorm(eps=0.1)" in board._repr_html_()


def test_results_are_compared(results):
    """`compare` is the command's comparison, with the gates that are given; it prints, and is shown, as one."""
    comparison = results.compare(results.folder)

    assert {"identical"} == {row.word for row in comparison.rows}
    assert str(comparison).startswith("compare · accuracy · digits-cnn v1 · epochs=2\n")
    assert "gates: none, so nothing can fail" in comparison._repr_html_()
    assert comparison._repr_html_().count("<table>") == len({row.metric.name for row in comparison.rows})


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"base": "nowhere"}, "nowhere: no results there"),
        ({"base": 3}, "compare: base is 3; it takes Results | str | Path"),
        ({"gates": ["accuracy"]}, "compare: gates is ['accuracy']; it takes dict[str, str] | None"),
        ({"gates": {"accuracies": "-1pt"}}, "gate: no metric 'accuracies'; did you mean 'accuracy'?"),
        ({"gates": {"accuracy": "-0.02"}}, "gate accuracy:-0.02: the margin on digits-cnn is in percentage points"),
    ],
    ids=str,
)
def test_a_comparison_that_is_refused(results, asked, words):
    """A base without results, and gates that are none, are named."""
    with pytest.raises(normbench.UsageError) as refused:
        results.compare(**{"base": results, **asked})

    assert str(refused.value).startswith(words)


def test_a_report_is_written_where_it_says(results, tmp_path, monkeypatch):
    """`report` writes the page, and gives its path, which a notebook shows as a link from its own folder."""
    monkeypatch.setattr(page, "page", lambda folders, only: f"{folders} {only}".encode())

    written = results.report(tmp_path / "a page & more.html")

    assert f"{[results.folder]} {results._only}" == Path(written).read_text(encoding="utf-8")
    assert str(tmp_path / "a page & more.html") == str(written)
    assert '<a href="a%20page%20%26%20more.html" target="_blank">' in written._repr_html_()
    assert "a page &amp; more.html</a>" in written._repr_html_()


def test_a_report_that_cannot_be_written_is_a_mistake(results, monkeypatch):
    """It never replaces results or another file that is no page, and a folder that is not there is named."""
    monkeypatch.setattr(page, "page", lambda folders, only: b"")

    for file, words in ((results.folder, "a report ends in"), ("a.json", "a report"), ("a/b.html", "can't be written")):
        with pytest.raises(normbench.UsageError, match=f"report: {file}:? {words}"):
            results.report(file)


def test_a_folder_is_opened_again(results):
    """`Results(folder)` reads what an earlier session stored."""
    assert str(results) == str(Results(str(results.folder)))


def test_a_folder_that_holds_nothing_is_refused(tmp_path):
    """A folder that is not there, or has no results, is a mistake, not an empty table."""
    for folder in ("nowhere", tmp_path):
        with pytest.raises(normbench.UsageError, match=f"{folder}: no results there"):
            Results(folder)


def test_a_run_gives_its_own_tables_alone(tmp_path):
    """What another run stored in the same folder, in other tables, is there when the folder is opened."""
    for epochs in (1, 2):
        asked = {**SMALL, "settings": {"rates": [0.1], "epochs": epochs}}
        results = normbench.run("quick", norms=["none"], **asked, out=tmp_path / "both")

    whole = Results(tmp_path / "both")

    assert [{"epochs": 2}] == [board.condition for board in results.boards()]
    assert [2] == [trial.recipe["epochs"] for trial in results.trials()]
    assert [1, 2] == sorted(board.condition["epochs"] for board in whole.boards())
    assert 2 == len(whole.trials())


def test_running_again_runs_nothing(results):
    """What is stored is not trained again: nothing is reported to `on_progress`, and the results are the same."""
    seen = []
    asked = {**SMALL, "seeds": [0], "settings": {"rates": [0.1], "epochs": 2}}

    again = normbench.run("quick", norms=["none"], **asked, out=results.folder, on_progress=seen.append)

    assert [] == seen
    assert str(results) == str(again)


def test_progress_is_reported_after_each_trial(tmp_path):
    """`on_progress` is told how many of how many are done, and what the trial gave."""
    seen = []

    normbench.run("quick", norms=["none"], **{**SMALL, "seeds": [3, 5]}, on_progress=seen.append)

    assert [(1, 2), (2, 2)] == [(told.done, told.total) for told in seen]
    assert {3, 5} == {told.outcome.trial.seed for told in seen}
    assert (tmp_path / "results/quick/trials.jsonl").exists()


def test_settings_are_values_of_python(tmp_path):
    """A setting may be a number, a list, or a table of relative rates."""
    settings = {"rates": {"relative": [0.5, 1]}, "epochs": 1, "weight_decay": 1e-05}

    found = normbench.run("quick", norms=["none"], **{**SMALL, "settings": settings}, fresh=False)

    assert [(0.05, 1e-05), (0.1, 1e-05)] == [(one.recipe["rate"], one.recipe["weight_decay"]) for one in found.trials()]


def test_settings_are_values_of_numpy():
    """A number or an array of numpy's is what it holds: the trials are those of Python's numbers."""
    settings = {"rates": np.array([0.1]), "epochs": np.int64(1), "weight_decay": np.float64(1e-05)}
    plain = {"rates": [0.1], "epochs": 1, "weight_decay": 1e-05}
    normbench.run("quick", norms=["none"], **{**SMALL, "settings": plain})
    seen = []

    asked = {**SMALL, "settings": settings, "seeds": np.arange(1)}
    normbench.run("quick", norms=["none"], **asked, on_progress=seen.append)

    assert [] == seen


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"suite": "qick"}, "no suite 'qick'; did you mean 'quick'?"),
        ({"norms": ["batchnrm"]}, "no norm 'batchnrm'; did you mean 'batchnorm'"),
        ({"seeds": []}, "seeds is []; give a number from 1, or a list of seeds"),
        ({"settings": {"epoch": 1}}, "settings: no recipe value 'epoch'; did you mean 'epochs'?"),
        ({"settings": {"rate": 1}}, "settings['rate']: the rates are a grid, as in 'rates=[0.1, 1]'"),
        (
            {"settings": {"epochs": None}},
            "settings['epochs']: None is no number, text, true or false, nor a list or a table",
        ),
        ({"settings": {"rates": [0.1, object]}}, "settings['rates']: <class 'object'> is no number"),
        ({"settings": {"rates": np.zeros((2, 2))}}, "settings: rates[0]: expected float, got array"),
        ({"device": "gpu"}, "device 'gpu': a device is auto, cpu, cuda or cuda:N"),
        ({"data_dir": "absent"}, "data_dir absent: there is no such folder"),
        ({"probes": ["gradient"]}, "probes[0]: no probe 'gradient'; did you mean 'gradients'?"),
        ({"plugin_files": ["absent.py"]}, "plugin absent.py: there is no such file"),
        ({"executor": "parallel"}, "executor: no executor 'parallel'"),
        ({"executor": "serial", "jobs": 2}, "jobs: the executor serial has no such option"),
        ({"jobs": "two"}, "run: jobs is 'two'; it takes int"),
        ({"per_gpu": 0}, "per_gpu 0: it is 1 or more"),
        ({"timeout": "5x"}, "timeout 5x: a time is a number of seconds, or like 90s, 10m, 2h"),
        ({"checkpoint_every": -1}, "checkpoint_every -1: it is 0 or more minutes"),
        ({"out": __file__}, "a file, which is not written to; name a folder"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_mistake_is_a_usage_error(tmp_path, changes, words):
    """What the command line would refuse is refused by the names that it has here, and nothing is made."""
    asked = {"suite": "quick", "device": "cpu", **changes}

    with pytest.raises(normbench.UsageError) as refused:
        normbench.run(asked.pop("suite"), **asked)

    assert words in str(refused.value)
    assert "--" not in str(refused.value)
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize("layout", SHAPES)
@pytest.mark.parametrize("name", BUILT_IN)
def test_a_layer_keeps_shape_and_precision(name, layout):
    """Every built-in norm takes float64 in every layout and gives the shape it was given, finite."""
    x = torch.randn(SHAPES[layout], dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    y = normbench.layer(name, channels=6, layout=layout).double()(x)

    assert (x.shape, torch.float64) == (y.shape, y.dtype)
    assert torch.isfinite(y).all()


def test_a_layers_parameters_are_set():
    """A norm's parameters are given by name; whole numbers do where a float is meant."""
    layer = normbench.layer("batchnorm", channels=6, eps=1, momentum=0.5)

    assert (6, 1.0, 0.5) == (layer.num_features, layer.eps, layer.momentum)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("batchnorm", {"ep": 1.0}, "batchnorm: no parameter 'ep'; did you mean 'eps'?"),
        ("batchnorm", {"eps": "tiny"}, "eps is 'tiny'; it takes a number above 0"),
        ("none", {"eps": 1.0}, "none: no parameter 'eps'"),
        ("batch-norm", {}, "no norm 'batch-norm'; did you mean 'batchnorm'"),
        ("batchnorm", {"layout": "NHWC"}, "no layout 'NHWC'; did you mean 'NCHW'"),
        ("batchnorm", {"module": nn.Linear(2, 6)}, "batchnorm wraps nothing: leave out module="),
    ],
)
def test_a_layer_that_cannot_be_is_refused(name, options, words):
    """Unknown norms, parameters and layouts are refused by name."""
    with pytest.raises(normbench.UsageError) as refused:
        normbench.layer(name, channels=6, **options)

    assert words in str(refused.value)


def test_a_registered_norm_is_run():
    """A norm that is registered in a session is run beside the built-in ones."""
    normbench.register(normbench.Norm("halved", lambda site: nn.AvgPool2d(1), summary="Made here"))

    found = normbench.run("quick", norms=["halved", "none"], **SMALL)

    assert ["halved", "none"] == [trial.norm for trial in found.trials()]
    # A pool of one pixel changes nothing, and has no weights: the same numbers as without.
    assert found.trials()[0].score == found.trials()[1].score


def test_registering_again_replaces():
    """The same name again, as in a notebook's cell that is run again, replaces the norm."""
    normbench.register(normbench.Norm("mine", lambda site: nn.Tanh(), summary="First"))
    normbench.register(normbench.Norm("mine", lambda site: nn.Sigmoid(), summary="Second"))

    assert isinstance(normbench.layer("mine", channels=6), nn.Sigmoid)


def test_a_registered_norm_may_declare_types():
    """They can be sent to workers with it, whatever they limit, and its parameters are held to them."""
    types = {"p": Literal["1", "2", "max"], "eps": Annotated[float, msgspec.Meta(gt=0, description="kept apart")]}
    normbench.register(
        normbench.Norm("p-norm", lambda site, p="2", eps=1e-5: nn.Identity(), summary="Divides", types=types)
    )

    assert plugins.registered()
    assert types == plugins.current().norm("p-norm").types
    with pytest.raises(normbench.UsageError, match='p-norm: p is 3; it takes one of "1", "2", "max"'):
        normbench.layer("p-norm", channels=3, p=3)


def test_a_built_in_name_cannot_be_registered():
    """A name that a plugin has is refused, and the plugin's norm stays."""
    with pytest.raises(normbench.UsageError, match="norm 'batchnorm' is registered by plugin 'builtin' already"):
        normbench.register(normbench.Norm("batchnorm", lambda site: nn.Tanh(), summary="Mine"))

    assert isinstance(normbench.layer("batchnorm", channels=6), nn.BatchNorm2d)


def test_the_public_names_are_there():
    """Everything in `__all__` can be had, and a name that is not there is an AttributeError."""
    assert all(getattr(normbench, name) is not None for name in normbench.__all__)
    assert not hasattr(normbench, "leaderboard_of_all_times")


def test_one_norm_needs_no_list(tmp_path):
    """A name alone is one norm, not its letters."""
    results = normbench.run("quick", norms="none", **SMALL, out=tmp_path)

    assert ["none"] == [trial.norm for trial in results.trials()]

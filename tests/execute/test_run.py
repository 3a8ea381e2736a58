"""What a run does with a store: what is done, what is tried again, in which order, and what is recorded."""

import dataclasses
import functools
import itertools
import json
import math
import re
from pathlib import Path

import msgspec
import pytest
import torch
from torch import nn

import normbench
from normbench import environment, plugins, prints
from normbench.boards.grid import gather
from normbench.errors import UsageError
from normbench.execute import Request, prepare, run
from normbench.execute.packs import packs
from normbench.plan import wanted
from normbench.store import Store
from normbench.store.records import Series


class _Raising(nn.Module):
    """Raises at its third step, which no dry run finds."""

    def __init__(self, error):
        super().__init__()
        self.error = error
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        if self.calls > 2:
            raise self.error
        return x


@pytest.fixture
def request_for(request_for):
    """Return the function that makes a request for the tiny suite, without fresh seeds: test_stages.py has those."""
    return functools.partial(request_for, fresh=False)


def raising(name, error):
    plugins.register(normbench.Norm(name, lambda site: _Raising(error), summary=name))


def test_running_again_finishes_the_rest(request_for):
    """More seeds run only the new ones; the same again runs nothing, and is recorded as a run."""
    ran = [run(prepare(request_for(seeds=seeds))).ran for seeds in (1, 2, 2)]

    assert [4, 4, 0] == ran
    assert 3 == len(Store(request_for().out).runs())


def test_a_seed_of_every_norm_comes_before_the_next_seed(request_for):
    """An interrupted run leaves boards that compare like with like."""
    work = prepare(request_for()).work

    assert [0] * 4 + [1] * 4 == [item.trial.seed for item in work]
    assert ["fine", "fine", "other", "other"] == [item.trial.norm for item in work[:4]]


@pytest.mark.parametrize(
    ("error", "options", "again"),
    [
        (RuntimeError("boom"), {}, 2),
        (torch.OutOfMemoryError("too much"), {}, 0),
        (torch.OutOfMemoryError("too much"), {"retry": True}, 2),
        (normbench.Unsupported("never"), {"retry": True}, 0),
    ],
)
def test_only_outcomes_that_say_nothing_of_the_layer_are_tried_again(request_for, error, options, again):
    """`error` is tried by the next run, `oom` with --retry, a final outcome never."""
    raising("bad", error)
    run(prepare(request_for(norms=["bad"], seeds=1)))

    summary = run(prepare(request_for(norms=["bad"], seeds=1, **options)))

    assert again == summary.ran


def test_a_layer_whose_code_changed_is_trained_again(request_for, tmp_path):
    """The store keeps what the old code gave; the same layer is left alone."""
    file = tmp_path / "edited_layer.py"
    text = "import normbench\nfrom torch import nn\n\n@normbench.hookimpl\ndef normbench_norms():\n"
    file.write_text(text + "    yield normbench.Norm('edited', lambda site: nn.Identity(), summary='E')\n")
    asked = {"norms": ["edited"], "seeds": 1, "plugin_files": [file]}
    first = run(prepare(request_for(**asked)))
    same = prepare(request_for(**asked))
    file.write_text(text + "    yield normbench.Norm('edited', lambda site: nn.Tanh(), summary='E')\n")
    prints._hashed.cache_clear()
    plugins.current.cache_clear()

    edited = prepare(request_for(**asked))

    assert (2, 0, 2) == (first.ran, len(same.todo), len(edited.todo))
    assert 2 == len(list(Store(request_for().out).results()))


def test_a_probe_that_a_stored_trial_lacks_makes_it_run_again(request_for, stepping):
    """--probe asks for a series; a record that has it is done, and one that has more than is asked."""
    asked = {"norms": ["fine"], "seeds": 1}
    run(prepare(request_for(**asked)))

    ran = [run(prepare(request_for(**asked, probes=probes))).ran for probes in (["epochs"], ["epochs"], [])]

    assert [2, 0, 0] == ran
    assert [1.0] == list(Store(request_for().out).trials())[-1].series["epoch"]


class Stepping:
    """Gives the step, a number that is not finite, and fails or does not apply where it is asked to."""

    def __init__(self, training, every=1, fails=False, applies=True):
        self.every, self.fails = every, fails
        if not applies:
            raise normbench.Unsupported("not here")

    def on_step(self, step):
        if self.fails:
            raise ValueError("lost")
        return {"step": step, "odd": [math.nan, 0.5]}


class Epochs:
    """Looks after epochs alone, and counts them."""

    def __init__(self, network):
        pass

    def on_epoch(self, epoch):
        return {"epoch": epoch}


@pytest.fixture
def stepping(tiny):
    """Register the probes `stepping` and `epochs`."""
    plugins.register(normbench.Probe("stepping", Stepping, summary="S"))
    plugins.register(normbench.Probe("epochs", Epochs, summary="E"))


def stepping_in(traces):
    return [trace for trace in traces if trace.probe == "stepping"]


def test_every_trial_has_a_line_with_its_loss(request_for):
    """Asked for or not, of the probe `curve`, and no record says that this watched."""
    run(prepare(request_for(norms=["fine"], seeds=1)))
    store = Store(request_for().out)

    trials = list(store.trials())
    assert [(one.key, "curve", {}) for one in trials] == [(t.key, t.probe, t.probe_params) for t in store.traces()]
    assert [list(range(one.steps)) for one in trials] == [trace.series["loss"].step for trace in store.traces()]
    assert [[], []] == [trial.probes for trial in trials]


def test_what_a_probe_saw_has_a_line_of_its_own(request_for, stepping):
    """One for each trial and probe, which stands alone; what is not finite is a word, and boards read none of it."""
    run(prepare(request_for(norms=["fine"], seeds=1, probes=["stepping(every=2)"])))
    store = Store(request_for().out)

    first, last = stepping_in(store.traces())
    trials = list(store.trials())

    assert [trial.key for trial in trials] == [first.key, last.key]
    assert [["stepping(every=2)"]] * 2 == [trial.probes for trial in trials]
    assert ("tiny", "fine", {"every": 2}, trials[0].norm_print) == (
        *(first.task, first.norm, first.probe_params, first.norm_print),
    )
    assert {"step": Series([0, 2], [0.0, 2.0]), "odd": Series([0, 2], [["nan", 0.5]] * 2)} == first.series


def test_a_trial_is_done_for_a_probe_with_these_parameters(request_for, stepping):
    """Defaults that are spelled out change nothing; another value trains again, and the last trace counts."""
    spellings = ["stepping", "stepping(every=1)", "stepping(every=2, fails=false)", "stepping(every=2)"]
    asked = {"norms": ["fine"], "seeds": 1, "settings": {"rates": [0.1]}}

    ran = [run(prepare(request_for(**asked, probes=[spelling]))).ran for spelling in spellings]

    store = Store(request_for().out)
    assert [1, 0, 1, 0] == ran
    run(prepare(request_for(**asked, probes=["stepping(every=2)", "epochs"])))
    assert [1, 2, 2] == [trace.probe_params.get("every", 1) for trace in stepping_in(store.traces())]
    exported = msgspec.json.decode(store.export(list(store.trials())))
    kept = [trace.get("probe_params", {}) for trace in exported["traces"] if trace["probe"] == "stepping"]
    assert [{}, {"every": 2}] == kept
    assert 1 == sum(trace["probe"] == "curve" for trace in exported["traces"])


def test_a_probe_that_fails_is_named_and_tried_again(request_for, stepping):
    """Its trial is stored without it; one that does not apply is stored with the reason, and not tried again."""
    asked = {"norms": ["fine"], "seeds": 1, "settings": {"rates": [0.1]}}

    failed = [run(prepare(request_for(**asked, probes=["stepping(fails=true)"]))) for _ in range(2)]
    inapplicable = [run(prepare(request_for(**asked, probes=["stepping(applies=false)"]))) for _ in range(2)]

    assert [1, 1] == [summary.ran for summary in failed]
    [warning] = failed[0].warnings
    assert re.fullmatch(
        r"probe 'stepping\(fails=true\)' failed, and has no trace of trial \w+ \(fine\): "
        r"ValueError: lost \(test_run.py:\d+\)",
        warning,
    )
    assert [1, 0] == [summary.ran for summary in inapplicable]
    note = "probe 'stepping(applies=false)' does not apply to norm 'fine': not here"
    assert [[note], []] == [list(summary.notes.values()) for summary in inapplicable]
    assert ["not here"] == [trace.reason for trace in stepping_in(Store(request_for().out).traces())]


def test_a_suites_probes_watch_too(request_for, stepping):
    """Those that are asked for replace the suite's of the same name."""
    request = request_for()
    with Path(request.suite).open("a") as suite:
        suite.write("[probes]\nstepping = { every = 2 }\nepochs = {}\n")

    own, replaced = (prepare(request_for(probes=probes)).request.probes for probes in ([], ["stepping(every=3)"]))

    assert ["stepping(every=2)", "epochs"] == own
    assert ["epochs", "stepping(every=3)"] == replaced


def test_a_record_stands_alone(request_for):
    """A trial's line has its task's measure, its recipe, its prints, its environment, and what it ran with."""
    run(prepare(request_for(norms=["fine"], seeds=1)))
    store = Store(request_for().out)

    record = next(store.trials())

    assert ("accuracy", "%", "up", 0.5, 1.0) == (
        record.measure.name,
        record.measure.unit,
        record.measure.direction,
        record.measure.chance,
        record.measure.reference,
    )
    assert {"rate": 0.1, "batch_size": 8, "epochs": 1} == record.recipe
    assert torch.__version__.partition("+")[0] in store.environments()[record.environment].packages["torch"]
    assert (1, 1, 3, "cpu") == (record.threads, record.lanes, record.steps, record.device)
    assert None not in (record.norm_print, record.task_print)


def test_progress_counts_what_was_stored_before(request_for):
    """After one of two seeds, the first trial of the second run is the fifth of eight."""
    run(prepare(request_for(seeds=1)))
    seen = []

    run(prepare(request_for(seeds=2)), lambda progress: seen.append((progress.done, progress.total)))

    assert [(5, 8), (6, 8), (7, 8), (8, 8)] == seen


def test_outcomes_are_stored_as_they_come(request_for):
    """An interruption in the middle keeps what was finished, and the next run does the rest."""

    def stop(progress):
        if progress.done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(prepare(request_for(seeds=1)), stop)

    assert 3 == len(list(Store(request_for().out).results()))
    assert 1 == run(prepare(request_for(seeds=1))).ran


def test_a_tuned_value_that_the_task_can_not_have_is_found_before_training(request_for, tmp_path):
    """A tuned value that no training can have ends the run before anything is stored, as a fixed one does."""
    with (tmp_path / "tiny.toml").open("a") as suite:
        suite.write("[tune]\ndropout = [0, 0.5]\n")

    with pytest.raises(UsageError, match=r"dropout is 0\.5; its network has no dropout"):
        run(prepare(request_for(seeds=1)))

    assert [] == list(Store(request_for().out).results())


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "mps", "cuda:x"])
def test_a_device_that_is_not_there_is_refused(device):
    """The message says which devices there are."""
    with pytest.raises(UsageError, match=f"device '{device}'"):
        environment.resolve(device)


def test_an_environment_names_versions_and_hardware_but_no_machine():
    """What is stored says what ran, not where or by whom."""
    import socket

    described = msgspec.to_builtins(environment.describe("cpu"))

    assert {"schema", "environment", "python", "platform", "processor", "cores", "packages"} == set(described)
    assert socket.gethostname() not in str(list(itertools.chain(described.values(), described["packages"].values())))


def test_the_data_folder_is_the_option_else_the_variable_else_the_cache(tmp_path, monkeypatch):
    """--data-dir comes before NORMBENCH_DATA, and a folder that is not there is refused."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setenv("NORMBENCH_DATA", str(elsewhere))

    assert tmp_path == Request("", data_dir=tmp_path).data_folder()
    assert elsewhere == Request("").data_folder()
    monkeypatch.setenv("NORMBENCH_DATA", str(tmp_path / "absent"))
    with pytest.raises(UsageError, match=r"NORMBENCH_DATA=.*there is no such folder"):
        Request("").data_folder()
    with pytest.raises(UsageError, match="there is no such folder"):
        Request("", data_dir=tmp_path / "absent").data_folder()
    monkeypatch.delenv("NORMBENCH_DATA")
    assert "normbench" in str(Request("").data_folder())


PLUGIN = """
import pathlib
import normbench
from torch import nn

def layer(site):
    return nn.BatchNorm1d(site.channels, eps=float(pathlib.Path(__file__).with_name("eps.txt").read_text()))

@normbench.hookimpl
def normbench_norms():
    yield normbench.Norm("mine", layer, summary="Reads a file beside it")
"""


@pytest.fixture
def reading(request_for, tmp_path):
    """Return a function that makes a request for a norm that reads a file, which has a value."""

    def made(eps, **options):
        (tmp_path / "mine.py").write_text(PLUGIN)
        (tmp_path / "eps.txt").write_text(eps)
        return request_for(norms=["fine", "mine"], plugin_files=[tmp_path / "mine.py"], **options)

    return made


def test_edited_file_that_a_layer_reads(reading):
    """What no code print sees is seen all the same; the other norm is not trained again, nor is the same value."""
    prepared = []
    for eps in ("1e-5", "1e-5", "100", "100"):
        prepared.append(prepare(reading(eps, seeds=1)))
        run(prepared[-1])

    assert [4, 0, 2, 0] == [len(one.todo) for one in prepared]
    assert [[], [], ["norm 'mine' is trained again: eps.txt was changed since"], []] == [one.anew for one in prepared]


SECOND = """
import normbench

@normbench.hookimpl
def normbench_norms():
    yield normbench.Norm("second", lambda site, module, on=False: module, summary="A second", placement="weight")
"""


def test_norm_made_of_two_plugins(reading, tmp_path):
    """An edit of either trains it again; the plugins of both travel to a worker, which trains nothing else."""
    second = tmp_path / "second.py"
    asked = {"norms": ['mine(with="second( on=true )")'], "plugin_files": [tmp_path / "mine.py", second], "seeds": 1}
    prepared = []
    for text, eps in ((SECOND, "1e-5"), (SECOND, "1e-5"), (SECOND + "# edited", "1e-5"), (SECOND + "# edited", "1")):
        second.write_text(text)
        prepared.append(prepare(dataclasses.replace(reading(eps), **asked)))
        run(prepared[-1])
    travels = dataclasses.replace(reading("1"), **asked, executor="processes")
    [pack, _] = packs(sent := prepare(travels), wanted(sent.cells, {}))

    assert [2, 0, 2, 2] == [len(one.todo) for one in prepared]
    assert ['mine(with="second(on=true)")'] == [row.label for grid in gather(prepared[0].store) for row in grid.rows]
    assert {"mine", "second"} < set(pack.plugins)
    assert sent.cells[0].norm_id in json.loads(pack.cell)


def test_board_of_a_file_that_was_edited(reading):
    """Trials of other files than the newest's are left out, and counted."""
    run(prepare(reading("1e-5", seeds=[0, 1])))
    run(prepare(reading("100", seeds=[0])))

    [grid] = gather(Store(reading("100").out))

    assert [{0, 1}, {0}] == [{seed for seed, _, _ in row.results} for row in grid.rows]
    assert "'mine': 2 of 4 trials were made from other files than its newest" in "; ".join(grid.notes)


def test_file_that_is_edited_during_a_run(reading, tmp_path):
    """What was loaded is what the record says: the rest of the run is of the old code, and the next one trains anew."""
    request = reading("1e-5", seeds=1)
    edits = iter([PLUGIN.replace("BatchNorm1d(site.channels", "BatchNorm1d(site.channels, momentum=0.5")])

    run(prepare(request), on_progress=lambda _: (tmp_path / "mine.py").write_text(next(edits, PLUGIN + "# again\n")))
    store = Store(request.out)
    prints_of = {(trial.norm_print, trial.sources) for trial in store.trials() if trial.norm == "mine"}

    assert 1 == len(prints_of)
    assert 2 == len(prepare(request).todo)


def test_record_without_a_list_is_done_by_its_prints(reading):
    """Trials that were stored before files were recorded stay done, and `plan` counts them."""
    request = reading("1e-5", seeds=1)
    run(prepare(request))
    trials = request.out / "trials.jsonl"
    trials.write_text(re.sub(r'"sources":"[0-9a-f]+",', "", trials.read_text()))

    prepared = prepare(request)

    assert (0, 2) == (len(prepared.todo), prepared.on_prints_alone)


def test_what_another_run_stored_meanwhile_is_not_trained_again(request_for):
    """A plan that is older than what the folder holds is made again, once the folder is held."""
    first, second = prepare(request_for()), prepare(request_for())

    assert [8, 0] == [run(prepared).ran for prepared in (first, second)]
    assert 8 == len(list(Store(request_for().out).trials()))


READING_TASK = """
import torch
import normbench
from torch import nn

def data(folder, recipe):
    inputs = torch.tensor([[float(word)] for word in (folder / "numbers.txt").read_text().split()])
    split = (inputs, (inputs[:, 0] > 0).long())
    return normbench.Splits(split, split, split)

def network(place, recipe):
    return nn.Sequential(place(nn.Linear(1, 4), "relu"), nn.Linear(4, 2))

@normbench.hookimpl
def normbench_tasks():
    recipe = normbench.Recipe(rate=0.1, batch_size=2, epochs=1)
    scores = {"chance": 0.5, "reference": 1.0}
    yield normbench.Task("of-a-folder", 1, summary="T", recipe=recipe, data=data, network=network, **scores)
"""


@pytest.fixture
def on_data(request_for, tmp_path):
    """Return a function that makes a request for a task that reads its data from one of two folders."""
    (tmp_path / "task_of_a_folder.py").write_text(READING_TASK)
    for name, numbers in (("a", "1 -1 2 -2"), ("b", "1 -1 3 -3"), ("copy", "1 -1 2 -2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "numbers.txt").write_text(numbers)
    suite = tmp_path / "folder.toml"
    suite.write_text((tmp_path / "tiny.toml").read_text().replace('"tiny"]', '"of-a-folder"]'))

    def made(name, **options):
        request = request_for(plugin_files=[tmp_path / "task_of_a_folder.py"], data_dir=tmp_path / name, **options)
        return dataclasses.replace(request, suite=str(suite))

    return made


def test_other_data_is_trained_anew(on_data):
    """What was trained on one folder of data is not shown for another; where only the path is another, it stays."""
    ran = [run(prepare(on_data(name))).ran for name in ("a", "copy", "b", "b")]

    assert [8, 0, 8, 0] == ran
    assert 2 == len({trial.data for trial in Store(on_data("a").out).trials()})


def test_data_that_is_other_between_the_stages(on_data):
    """Fresh seeds are not trained beside a grid on other data: that is trained again, and then they are."""
    asked = {"norms": ["fine"], "seeds": 1, "fresh": True}

    def stop(progress):
        if progress.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(prepare(on_data("a", **asked)), stop)

    assert [3, 0, 3] == [run(prepare(on_data(name, **asked))).ran for name in ("b", "b", "a")]


def test_trials_on_two_kinds_of_data_are_marked(on_data):
    """Where trials on other data stand side by side all the same, the board says so."""
    run(prepare(on_data("a", seeds=2)))
    run(prepare(on_data("b", seeds=[0])))

    [grid] = gather(Store(on_data("a").out))

    assert "mixed: trials on other data stand side by side" in grid.notes


def test_edit_of_a_module_that_this_process_has_loaded(request_for, tmp_path, monkeypatch):
    """What can't be loaded a second time is named, with what to do; nothing is trained by the old code."""
    helper = tmp_path / "elsewhere" / "helper_of_the_tests.py"
    helper.parent.mkdir()
    helper.write_text("from torch import nn\ndef layer(site):\n    return nn.Identity()\n")
    source = PLUGIN.partition("def layer")[0] + "from helper_of_the_tests import layer\n"
    (tmp_path / "edited.py").write_text(source + PLUGIN.partition("float(")[2].partition("\n")[2])
    monkeypatch.syspath_prepend(helper.parent)
    request = request_for(norms=["fine", "mine"], plugin_files=[tmp_path / "edited.py"], seeds=1)
    assert 4 == run(prepare(request)).ran

    helper.write_text("from torch import nn\ndef layer(site):\n    return nn.Tanh()\n")

    with pytest.raises(UsageError, match=r"helper_of_the_tests\.py: edited since this process loaded it"):
        prepare(request)

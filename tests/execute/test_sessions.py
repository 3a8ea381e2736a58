"""Which throughput sessions a run measures, what they store, and what makes one measured."""

import dataclasses
from pathlib import Path

import msgspec
import pytest
import torch
from torch import nn

import normbench
from normbench import plugins, prints
from normbench.calls import Workplace
from normbench.errors import UsageError
from normbench.execute import Request, prepare, run
from normbench.registry import Registry
from normbench.sources import AtHand
from normbench.store import Store
from normbench.store.kinds import SESSIONS
from normbench.throughput import session
from normbench.throughput.wanted import measure_all, missing, of_folder, sessions

SUITE = """
name = "tiny"
summary = "A suite of the tests"
tasks = ["tiny"]
norms = ["base", "fine"]
baseline = "base"
rates = [0.1]
seeds = 1
"""

PLUGIN = """
import normbench
from torch import nn


@normbench.hookimpl
def normbench_norms():
    yield normbench.Norm({name!r}, lambda site: {layer}, summary="One of the tests")
"""


class Failing(nn.Module):
    """Raises after some calls: more than the dry run and a training of one epoch take."""

    calls = 0

    def __init__(self, error, after):
        super().__init__()
        self.error, self.after = error, after

    def forward(self, x):
        type(self).calls += 1
        if type(self).calls > self.after:
            raise self.error
        return x


class Drawing(nn.Module):
    """Draws in training, so that a foreign draw would show in its losses."""

    def forward(self, x):
        return x + 0.1 * torch.randn_like(x)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Make a session a matter of milliseconds: three rounds of the shortest blocks."""
    monkeypatch.setattr(session, "TRAINING", 1e-4)
    monkeypatch.setattr(session, "EVALUATION", 1e-4)
    monkeypatch.setattr(session, "LOOKS", (3,))
    monkeypatch.setattr(Failing, "calls", 0)


@pytest.fixture
def asked(tmp_path, tiny):
    """Return a function that makes a request for the tiny suite, run in this folder on the CPU."""
    for name in ("base", "fine", "other"):
        plugins.register(normbench.Norm(name, lambda site: nn.Identity(), summary=name))
    plugins.register(normbench.Norm("drawing", lambda site: Drawing(), summary="Draws"))
    (tmp_path / "tiny.toml").write_text(SUITE)

    def made(**options):
        made = {"out": tmp_path / "out", "device": "cpu", "executor": "serial", **options}
        return Request(str(tmp_path / "tiny.toml"), **made)

    return made


@pytest.fixture
def edited(tmp_path):
    """Return a function that writes a norm's plugin, in place of what it held, and gives its file."""

    def write(name, layer):
        file = tmp_path / f"{name}_in_{tmp_path.name}.py"
        file.write_text(PLUGIN.format(name=name, layer=layer))
        prints._hashed.cache_clear()
        plugins.current.cache_clear()
        return file

    return write


def go(request):
    """Run what is asked for; return the sessions that it measured."""
    return run(prepare(request)).sessions


def timed(record):
    """Return the norms that a session was asked for, beside its baseline."""
    return [timing.norm for timing in record.norms]


def failing(name, error, after=0):
    plugins.register(normbench.Norm(name, lambda site: Failing(error, after), summary=name))


def test_a_run_ends_with_a_session_of_its_norms(asked):
    """All norms of a table are measured in one session, with the baseline twice and `none`, and the record says how."""
    [record] = go(asked())

    [stored] = Store(asked().out).sessions()
    assert record == stored
    assert ("tiny", 1, {}, "cpu", 3) == (
        stored.task,
        stored.task_version,
        stored.condition,
        stored.device,
        stored.rounds,
    )
    assert ("base", "base", "none", ["fine"]) == (
        stored.baseline.norm,
        stored.again.norm,
        stored.without.norm,
        timed(stored),
    )
    for timing in (*stored.timings, stored.again, stored.without):
        assert ("measured", 3, 3) == (timing.outcome, len(timing.train), len(timing.evaluation))
        assert timing.norm_print
    assert stored.environment in Store(asked().out).environments()
    assert (8, 24) == (stored.recipe.batch_size, stored.batch)


def test_running_again_measures_nothing(asked):
    """What is measured is not measured again, by the same run or by one that asks for less."""
    go(asked())

    again, fewer = prepare(asked()), prepare(asked(norms=["fine"]))

    assert ([], []) == (again.sessions, fewer.sessions)
    assert [] == go(asked())


def test_throughput_may_be_left_out(asked):
    """Without throughput nothing is measured; the next run makes up for it."""
    left_out = go(asked(throughput=False))

    assert ([], 1) == (left_out, len(go(asked())))


def test_an_added_norm_is_measured_beside_the_baseline_again(asked):
    """A norm that joins an old folder gets a session of its own: the baseline again, and no other norm."""
    go(asked())

    [added] = go(asked(norms=["base", "fine", "other"]))

    assert ("base", ["other"]) == (added.baseline.norm, timed(added))
    assert 3 == len(added.baseline.train) == len(added.again.train)


def test_the_baseline_is_measured_where_it_was_not_asked_for(asked):
    """--norm without the baseline still times the baseline, and `none`."""
    [record] = go(asked(norms=["other"]))

    assert ("base", "none", ["other"]) == (record.baseline.norm, record.without.norm, timed(record))


def test_none_asked_for_is_timed_once(asked):
    """`none` as one of the norms is a norm and what the share is reckoned against."""
    [record] = go(asked(norms=["none", "base"]))

    assert ["none"] == timed(record)
    assert record.norms[0] == record.without


def test_none_may_be_the_baseline(asked, tmp_path):
    """A suite whose baseline is `none` compares with it."""
    (tmp_path / "tiny.toml").write_text(SUITE.replace('baseline = "base"', 'baseline = "none"'))

    [record] = go(asked())

    assert ("none", ["base", "fine"]) == (record.baseline.norm, timed(record))
    assert record.baseline == record.without


def test_each_condition_has_a_session(asked, tmp_path):
    """Sessions are of a task and condition; what one lacks is measured there alone."""
    (tmp_path / "tiny.toml").write_text(SUITE + "[vary]\nbatch_size = [4, 8]\n")

    records = go(asked())

    assert [{"batch_size": 4}, {}] == [record.condition for record in records]
    assert [4, 8] == [record.recipe.batch_size for record in records]
    assert [] == go(asked())


def test_an_edited_norm_is_measured_again(asked, edited):
    """Figures of the old code do not count, nor does measuring again forget them."""
    file = edited("mine", "nn.Identity()")
    first = go(asked(norms=["mine", "fine"], plugin_files=[file]))
    edited("mine", "nn.Tanh()")

    second = go(asked(norms=["mine", "fine"], plugin_files=[file]))

    assert [["mine", "fine"], ["mine"]] == [timed(record) for record in (*first, *second)]
    assert first[0].norms[0].norm_print != second[0].norms[0].norm_print
    assert 2 == len(Store(asked().out).sessions())


def test_an_edited_baseline_is_compared_with_anew(asked, edited, tmp_path):
    """A ratio to the baseline's old code is no ratio to its new one: all norms are measured again."""
    (tmp_path / "tiny.toml").write_text(SUITE.replace('baseline = "base"', 'baseline = "mine"'))
    file = edited("mine", "nn.Identity()")
    go(asked(plugin_files=[file]))
    edited("mine", "nn.Tanh()")

    [record] = go(asked(plugin_files=[file]))

    assert ["base", "fine"] == timed(record)


def test_another_baseline_is_compared_with_anew(asked, tmp_path):
    """A suite that gets another baseline measures all its norms beside that."""
    go(asked())
    (tmp_path / "tiny.toml").write_text(SUITE.replace('baseline = "base"', 'baseline = "fine"'))

    [record] = go(asked())

    assert ("fine", ["base"]) == (record.baseline.norm, timed(record))


def test_another_kind_of_device_is_measured_anew(asked):
    """What a GPU gave says nothing of this CPU."""
    [record] = go(asked())
    file = asked().out / SESSIONS
    file.write_bytes(msgspec.json.encode(msgspec.structs.replace(record, device="cuda")) + b"\n")

    assert 1 == len(go(asked()))


def test_a_norm_without_a_print_is_always_measured_anew(asked, tmp_path):
    """Where nobody can tell whether a norm was edited, its figures count for the run that measured them alone."""
    [wanted] = prepare(asked()).sessions
    blind = dataclasses.replace(wanted, cells=[msgspec.structs.replace(cell, norm_print=None) for cell in wanted.cells])
    store = Store(asked().out)
    with store.writer() as writer:
        list(measure_all([blind], writer, Workplace(plugins.current(), "cpu", tmp_path)))

    [left] = missing([blind], store, "cpu", AtHand(plugins.current(), store.sources()))

    assert ["base", "fine"] == [cell.norm for cell in left.cells]


@pytest.mark.parametrize(
    ("error", "options", "again"),
    [
        (RuntimeError("no luck"), {}, 1),
        (torch.OutOfMemoryError("too much"), {}, 0),
        (torch.OutOfMemoryError("too much"), {"retry": True}, 1),
        (normbench.Unsupported("never"), {}, 0),
        (normbench.Unsupported("never"), {"retry": True}, 0),
    ],
)
def test_only_what_says_nothing_of_the_norm_is_tried_again(asked, tmp_path, error, options, again):
    """As with trials: an error is tried again by the next run, a lack of memory with --retry, the unsupported never."""
    failing("bad", error)
    wanted = sessions(prepare(asked(norms=["bad"])).cells, "base", plugins.current(), "")
    store = Store(asked().out)
    with store.writer() as writer:
        [record] = measure_all(wanted, writer, Workplace(plugins.current(), "cpu", tmp_path))

    left = prepare(asked(norms=["bad", "base"], **options)).sessions

    assert "measured" != record.norms[0].outcome
    assert again == len(left)


def test_a_norm_that_fails_leaves_the_others_measured(asked):
    """A layer that raises once it is timed is stored with the reason and without figures, the others with theirs."""
    failing("bad", RuntimeError("no luck"), after=9)

    [record] = go(asked(norms=["base", "bad", "fine"]))

    [bad, fine] = record.norms
    assert ("error", [], []) == (bad.outcome, bad.train, bad.evaluation)
    assert bad.reason.startswith("RuntimeError: no luck (test_sessions.py:")
    assert ("measured", 3) == (fine.outcome, len(fine.train))
    assert "failed" != record.stopped


def test_without_a_baseline_a_session_has_no_figures_and_is_tried_again(asked, tmp_path):
    """A session whose baseline raises says so, holds no seconds, and is measured again by the next run."""
    (tmp_path / "tiny.toml").write_text(SUITE.replace('baseline = "base"', 'baseline = "bad"'))
    failing("bad", RuntimeError("no luck"))

    [record] = go(asked())

    assert ("failed", "error") == (record.stopped, record.baseline.outcome)
    assert record.baseline.reason.startswith("RuntimeError: no luck (test_sessions.py:")
    assert [] == [seconds for timing in (*record.timings, record.again) for seconds in timing.train]
    assert 1 == len(prepare(asked()).sessions)


def test_a_baseline_that_is_unsupported_is_not_tried_for_ever(asked, tmp_path):
    """Where the baseline can never be measured, there are no ratios to be had, and nothing is left to do."""
    (tmp_path / "tiny.toml").write_text(SUITE.replace('baseline = "base"', 'baseline = "bad"'))
    failing("bad", normbench.Unsupported("never"))

    [record] = go(asked())

    assert ("failed", "unsupported") == (record.stopped, record.baseline.outcome)
    assert [] == prepare(asked()).sessions


def test_an_interruption_keeps_what_was_finished(asked, tmp_path):
    """Ctrl-C in a round costs that session; those before it are stored, and the next run measures the rest."""
    (tmp_path / "tiny.toml").write_text(SUITE + "[vary]\nbatch_size = [4, 8]\n")

    def stop(measured, done):
        if measured.baseline.recipe.batch_size == 8 and done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(prepare(asked()), on_session=stop)

    assert [4] == [record.recipe.batch_size for record in Store(asked().out).sessions()]
    assert [8] == [record.recipe.batch_size for record in go(asked())]


def test_sessions_are_told_of(asked):
    """`on_session` is called with 0 as a session begins, and after each of its rounds."""
    told = []

    run(prepare(asked()), on_session=lambda measured, done: told.append((len(measured.entries), done)))

    assert [(3, 0), (3, 1), (3, 2), (3, 3)] == told


def test_a_session_moves_no_trial(asked, tmp_path):
    """Trials give the same losses and scores whether or not a session was measured before them."""
    request = asked(norms=["drawing", "fine"], throughput=False)
    run(prepare(request))
    other = asked(norms=["drawing", "fine"], out=tmp_path / "other")
    with Store(other.out).writer() as writer:
        list(measure_all(prepare(other).sessions, writer, Workplace(plugins.current(), "cpu", tmp_path)))

    run(prepare(other))

    plain, after = (
        [(trial.key, trial.series, trial.score) for trial in Store(folder).trials()]
        for folder in (request.out, other.out)
    )
    assert 2 == len(plain)
    assert plain == after


def test_a_plan_of_sessions_needs_no_none(asked):
    """Where no plugin offers `none` there is no share, and all else is measured."""
    prepared = prepare(asked())
    registry = Registry(norms={name: norm for name, norm in prepared.registry.norms.items() if name != "none"})

    [planned] = sessions(prepared.cells, "base", registry, "")

    assert None is planned.without
    assert ["base", "fine"] == [cell.norm for cell in planned.entries]


def test_none_that_is_made_with_another_norm_is_one(asked):
    """What others are measured against is `none` alone, not with a norm that wraps the linears."""
    plugins.register(normbench.Norm("second", lambda site, module: module, summary="S", placement="weight"))

    [planned] = prepare(asked(norms=['none(with="second")'])).asked_sessions

    assert ("none", {}) == (planned.without.norm, planned.without.params)


def test_the_norms_of_a_folder_are_those_of_its_runs(asked, tmp_path):
    """A folder's sessions have every norm of its runs, beside the latest run's baseline."""
    run(prepare(asked(throughput=False)))
    (tmp_path / "tiny.toml").write_text(SUITE.replace('baseline = "base"', 'baseline = "fine"'))
    run(prepare(asked(norms=["other"], throughput=False)))

    [found] = of_folder(Store(asked().out), plugins.current())

    assert ("fine", ["base", "fine", "other"]) == (found.baseline.norm, [cell.norm for cell in found.cells])


def test_a_folder_whose_norms_are_not_at_hand_is_refused(asked, tiny):
    """A folder is measured whole or not at all: the message names the folder and the norm, or the task's version."""
    run(prepare(asked(throughput=False)))
    here = plugins.current()
    store = Store(asked().out)
    stranger = Registry(norms={"base": here.norms["base"]}, tasks=here.tasks)
    newer = dataclasses.replace(tiny, version=2)
    offered = type(here.norms["base"])(newer, here.norms["base"].plugin)

    with pytest.raises(UsageError, match=r"out: no norm 'fine'"):
        of_folder(store, stranger)
    with pytest.raises(UsageError, match=r"out: has version 1 of task tiny; at hand is version 2"):
        of_folder(store, Registry(norms=here.norms, tasks={"tiny": offered}))


def test_a_folder_without_runs_has_no_sessions_to_measure(tmp_path):
    """Where no run is stored nobody asked for a norm."""
    assert [] == of_folder(Store(Path(tmp_path)), plugins.current())

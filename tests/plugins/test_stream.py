"""Sessions and fingerprints in workers: what a layer does to its worker costs its figures, and the command nothing."""

import multiprocessing
import re
import time
from pathlib import Path

import pytest
from torch import nn

import normbench
from normbench import plugins
from normbench.errors import UsageError
from normbench.execute import Request, prepare
from normbench.fingerprint.take import storing, take
from normbench.store import Store
from normbench.throughput.wanted import measure_all

FAULTY = Path(__file__).parents[1] / "faults" / "faulty.py"
#: In a worker a session is a matter of milliseconds: two rounds of the shortest blocks.
QUICK = """

if multiprocessing.parent_process() is not None:
    from normbench.throughput import session

    session.TRAINING, session.EVALUATION, session.LOOKS = 1e-4, 1e-4, (2,)
"""
SUITE = """
name = "blink"
summary = "Trials of milliseconds"
tasks = ["blink"]
norms = ["none", "layer-norm"]
baseline = "none"
rates = [0.1]
seeds = 1
"""


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    """Return a function that prepares a suite of faulty norms and `layer-norm`, beside `none`."""
    (tmp_path / "blink.toml").write_text(SUITE)
    plugin = tmp_path / f"faulty_in_{tmp_path.name}.py"
    plugin.write_text(FAULTY.read_text() + QUICK)
    monkeypatch.setenv("NORMBENCH_TEST_ONCE", str(tmp_path / "once"))

    def made(*norms, **options):
        options = {"device": "cpu", "out": tmp_path / "out", **options}
        return prepare(Request(str(tmp_path / "blink.toml"), norms=norms, plugin_files=[plugin], **options))

    return made


def measured(asked, on_session=None):
    """Measure throughput; return of each norm what is stored of it."""
    with asked.store.writer() as writer:
        list(measure_all(asked.sessions, writer, asked.workplace, on_session=on_session))
    return [timing for session in Store(asked.store.folder).sessions() for timing in session.timings]


def taken(asked):
    """Take fingerprints; return what is stored of each."""
    with asked.store.writer() as writer:
        take(asked.cells, asked.workplace, storing(writer, "cpu"))
    return Store(asked.store.folder).fingerprints()


def gone(workers):
    """Whether workers end within a time."""
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{worker}/stat").exists() for worker in workers):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


FAULTS = {
    'how="segfault", at=0': r"its worker was killed by signal 11 \(SIGSEGV\); it was in File",
    'how="exit", at=0': "its worker exited with status 0",
    'how="say", at=0': "its worker exited with status 3; it last printed 'these are my last words'",
    'how="kill", at=-1': r"its worker was killed by signal 9 \(SIGKILL\)",
    'how="interrupt", at=0': "KeyboardInterrupt",
}


@pytest.mark.parametrize("figures", [measured, taken])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_layer_that_harms_its_worker_costs_its_own_figures(prepared, figures, fault):
    """The layer is named with what it did, and the others have their figures: each is stored once."""
    found = {one.norm: one for one in figures(prepared(f"faulty({fault})", "none", "layer-norm"))}

    assert ["faulty", "layer-norm", "none"] == sorted(found)
    assert "error" == found["faulty"].outcome
    assert re.match(FAULTS[fault], found["faulty"].reason)
    assert {"measured", "taken"} >= {found["none"].outcome, found["layer-norm"].outcome}
    assert 1 == len(Store(prepared().store.folder).sessions() or [found])


@pytest.mark.parametrize("figures", [measured, taken])
def test_a_layer_that_hangs_costs_its_own_figures(prepared, figures):
    """With a timeout its turn is killed; it counts as what has had its time, and the others go on."""
    norms = ('faulty(how="hang", at=0)', "layer-norm")

    faulty, other = figures(prepared(*norms, options={"timeout": 2}))[-2:]

    assert {"timeout", "error"} >= {faulty.outcome}
    assert "killed after 2 s" == faulty.reason
    assert {"measured", "taken"} >= {other.outcome}


def test_a_norm_that_had_its_time_is_timed_again_where_that_is_asked(prepared):
    """As with trials: `--retry` tries again."""
    hangs = 'faulty(how="hang", at=0)'
    measured(prepared(hangs, options={"timeout": 2}))

    left = prepared(hangs).sessions, prepared(hangs, retry=True).sessions

    assert ([], ["faulty"]) == tuple([cell.norm for one in sessions for cell in one.cells] for sessions in left)


@pytest.mark.parametrize("executor", ["serial", "processes"])
@pytest.mark.parametrize("figures", [measured, taken])
def test_a_layer_that_forks_is_stored_once(prepared, figures, executor, monkeypatch):
    """The copy of the process ends; it stores nothing, and goes on with nothing."""
    for name, value in (("TRAINING", 1e-4), ("EVALUATION", 1e-4), ("LOOKS", (2,))):
        monkeypatch.setattr(f"normbench.throughput.session.{name}", value)
    norm = 'faulty(how="fork", at=0, once=true)'

    found = figures(prepared(norm, executor=executor))

    assert ["faulty"] == [one.norm for one in found if one.norm != "none"]
    assert {"measured", "taken"} >= {one.outcome for one in found}


def test_a_baseline_that_dies_is_named(prepared, tmp_path):
    """Without its baseline there are no figures, and the session says why."""
    prepared()
    suite = tmp_path / "blink.toml"
    suite.write_text(SUITE.replace('baseline = "none"', "baseline = 'faulty(how=\"exit\", at=0)'"))

    measured(prepared("layer-norm"))

    [session] = Store(prepared().store.folder).sessions()
    assert ("failed", "error") == (session.stopped, session.baseline.outcome)
    assert session.baseline.reason.endswith("exited with status 0")
    assert [[]] == [timing.train for timing in session.norms]


def test_rounds_are_told_and_an_interruption_leaves_no_worker(prepared):
    """What is called after each round may end the session: its worker ends with it."""
    told, workers = [], []

    def stop(session, done):
        told.append(done)
        workers.extend(worker.pid for worker in multiprocessing.active_children())
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measured(prepared("layer-norm"), stop)

    assert [0, 1] == told
    assert workers
    assert gone(workers)
    assert [] == Store(prepared().store.folder).sessions()


def test_what_was_registered_in_this_session_reaches_the_worker(prepared, monkeypatch):
    """A norm of a notebook travels by value, as it does for trials."""
    monkeypatch.setattr(plugins, "_session", [])
    prepared()
    plugins.register(normbench.Norm("mine", lambda site: nn.Identity(), summary="S"))

    [found] = taken(prepared("mine"))

    plugins.current.cache_clear()
    assert ("mine", "taken") == (found.norm, found.outcome)


def test_a_users_mistake_in_a_worker_is_one(prepared, tmp_path):
    """It has the words that it has in this process, and no trace."""
    asked = prepared("layer-norm", settings={"channels_last": True})

    with pytest.raises(UsageError, match="task blink: channels_last is a memory format of images") as refused:
        measured(asked)

    assert refused.value.__cause__ is None

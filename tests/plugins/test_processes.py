"""Trials in worker processes, beyond the rules of all executors: words, checkpoints, ranks, GPUs, who may start one."""

import math
import multiprocessing
import os
import re
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import forked_ranks
import msgspec
import pytest
import zygote
from torch import nn

import normbench
from normbench import plugins
from normbench.errors import UsageError
from normbench.execute import Request, prepare, run
from normbench.execute.packs import packs
from normbench.plan import wanted
from normbench.store import Store
from normbench_plugins.executors.processes import driver

FAULTY = Path(__file__).parents[1] / "faults" / "faulty.py"
SUITE = """
name = "blink"
summary = "Trials of milliseconds"
tasks = ["blink"]
norms = ["none"]
baseline = "none"
rates = [0.01, 0.1]
seeds = 2
"""


@pytest.fixture
def request_for(tmp_path, monkeypatch):
    """Return a function that makes a request for a suite of a faulty norm, or others, and `none`."""
    (tmp_path / "blink.toml").write_text(SUITE)
    monkeypatch.setenv("NORMBENCH_TEST_ONCE", str(tmp_path / "once"))

    def made(*norms, **options):
        options = {"throughput": False, "fresh": False, "device": "cpu", "out": tmp_path / "out", **options}
        norms = ["none", *norms]
        return Request(str(tmp_path / "blink.toml"), norms=norms, plugin_files=[FAULTY], **options)

    return made


def stored(request, norm):
    """Return the records of a norm's trials."""
    return [record for record in Store(request.out).trials() if record.norm == norm]


def gone(processes):
    """Whether processes end within a time; a zombie is none."""
    deadline = time.monotonic() + 10
    while any(map(_alive, processes)):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def _alive(process):
    try:
        return " Z " not in Path(f"/proc/{process}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize(
    ("how", "outcome", "reason"),
    [
        ("segfault", "error", r"its worker died twice: it was killed by signal 11 \(SIGSEGV\); it was in File"),
        ("say", "error", "exited with status 3; it last printed 'these are my last words'"),
        ("sys-exit", "error", "SystemExit"),
        ("oom", "oom", "OutOfMemoryError: CUDA out of memory"),
        ("fork", "not-trained", ""),
        ("interrupt", "error", "KeyboardInterrupt"),
    ],
)
def test_a_layer_that_harms_its_worker_costs_its_own_trials(request_for, how, outcome, reason):
    """Each trial is stored once: those of the layer with what it did, the others as if it were not there."""
    request = request_for(f'faulty(how="{how}")', seeds=1)

    summary = run(prepare(request))

    faulty = stored(request, "faulty")
    assert {outcome} == {record.outcome for record in faulty}
    assert [] == [record.reason for record in faulty if not re.search(reason, record.reason)]
    assert {"not-trained"} == {record.outcome for record in stored(request, "none")}
    assert [1] * 4 == list(Counter(record.key for record in Store(request.out).trials()).values())
    assert (4, 0 if how == "fork" else 2) == (summary.ran, len(summary.failed))


def test_the_traces_of_workers_are_for_who_asks(request_for, monkeypatch, capfd):
    """With NORMBENCH_TRACEBACK what a layer raises in a worker is on stderr, whole; else the reason is all."""
    request = request_for('faulty(how="raise")', seeds=1, settings={"rates": 0.1})
    run(prepare(request))
    quiet = capfd.readouterr()
    monkeypatch.setenv("NORMBENCH_TRACEBACK", "1")

    run(prepare(request))

    assert ("", "") == quiet
    trace = capfd.readouterr().err
    assert "Traceback (most recent call last):" in trace
    assert '"raise": lambda: 1 / 0' in trace


def test_a_trial_whose_worker_dies_goes_on_from_its_checkpoint(request_for, tmp_path):
    """The second worker takes up the step that the first did not end; nothing is left of the checkpoint afterwards."""
    norm = 'faulty(how="kill", at=2, once=true)'
    request = request_for(norm, seeds=1, settings={"rates": 0.1}, checkpoint_every=0)

    run(prepare(request))

    [record], [plain] = stored(request, "faulty"), stored(request, "none")
    steps = (tmp_path / "steps").read_text().split()
    assert ["0", "0", "0", "1", "2", "2"] == steps, "two of the dry run, four of the trial"
    assert (plain.outcome, plain.score, plain.series) == (record.outcome, record.score, record.series)
    assert not (request.out / "checkpoints").exists()


def test_a_trial_that_failed_keeps_its_checkpoint_for_the_next_run(request_for, tmp_path):
    """What died of its machine, and not of itself, need not begin anew, whether the next run saves or not."""
    norm = 'faulty(how="kill", at=2)'
    asked = {"seeds": 1, "settings": {"rates": 0.1}}
    run(prepare(request_for(norm, checkpoint_every=0, **asked)))
    before = len((tmp_path / "steps").read_text().split())

    run(prepare(request_for(norm, **asked)))

    steps = (tmp_path / "steps").read_text().split()[before:]
    assert ["0", "0", "2", "2"] == sorted(steps), "two of the dry run, two of the trial"


def test_a_trial_past_its_time_is_final(request_for):
    """Also where it prints without an end; it is a `timeout`, which a later run does not try again."""
    options = {"options": {"timeout": 3}, "seeds": 1, "settings": {"rates": 0.1}}
    request = request_for('faulty(how="print")', **options)

    run(prepare(request))

    [record] = stored(request, "faulty")
    assert ("timeout", True) == (record.outcome, record.reason.startswith("killed after 3 s"))
    assert [] == prepare(request).todo


@pytest.mark.parametrize(
    ("norm", "message"),
    [
        ('faulty(how="kill", at=-1)', r"faulty.* on blink, in the first step: its worker died twice"),
        ('faulty(how="hang", at=0)', r"faulty.* on blink, in the first step: killed after 3 s"),
    ],
)
def test_what_the_first_step_kills_is_refused_before_training(request_for, norm, message):
    """The dry run happens in a worker too, so that it can't harm the command."""
    request = request_for(norm, options={"timeout": 3})

    with pytest.raises(UsageError, match=message):
        run(prepare(request))

    assert [] == stored(request, "faulty")


@pytest.mark.parametrize("victims", ["all", "idle"])
def test_workers_killed_from_outside_cost_nothing(request_for, victims):
    """A worker that is killed at work is replaced and its trial repeated; one killed between trials is replaced."""
    request = request_for("layer-norm", options={"jobs": 1 if victims == "idle" else 2})
    killed = []

    def kill(progress):
        if progress.done == 2:
            for worker in multiprocessing.active_children():
                killed.append(worker.pid)
                os.kill(worker.pid, signal.SIGKILL)

    run(prepare(request), kill)

    assert {record.outcome for record in Store(request.out).trials()} <= {"trained", "not-trained"}
    assert [1] * 8 == list(Counter(record.key for record in Store(request.out).trials()).values())
    assert killed


def test_the_ranks_of_a_worker_are_killed_with_it(request_for, monkeypatch, tmp_path):
    """A trial on several devices is more than its worker: it has a process a device, and a folder for them."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv(forked_ranks.ENVIRON, str(tmp_path / "ranks"))
    ranks, folders = [], []
    request = request_for(settings={"rates": 0.1, "devices": 2}, options={"jobs": 1})

    def stop(progress):
        ranks.extend((tmp_path / "ranks").read_text().split())
        folders.extend(tmp_path.glob("normbench-*/*"))
        for rank in ranks:
            os.kill(int(rank), signal.SIGSTOP)  # or it would see that its worker is gone, and end by itself
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(prepare(request), stop)

    assert 2 == len(ranks)
    assert gone(ranks)
    assert (1, []) == (len(folders), list(tmp_path.glob("normbench-*")))


FEW_FILES = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))"
CALLER = """
import multiprocessing, os, sys
import normbench

def called(out):
    try:
        results = normbench.run(sys.argv[1], norms="none", seeds=1, settings={"rates": 0.1}, out=out, device="cpu",
                                plugin_files=sys.argv[2], throughput=False)
        print(*{trial.outcome for trial in results.trials()}, flush=True)
    except normbench.UsageError as error:
        print("refused:", error)

def forked(out):
    if not (copy := os.fork()):
        called(out)
        sys.stdout.flush()
        os._exit(0)
    os.waitpid(copy, 0)

def daemonic(out):
    process = multiprocessing.get_context("fork").Process(target=called, args=(out,), daemon=True)
    process.start()
    process.join()
"""


def _called(request, calls, limit="", env=None):
    script = limit + CALLER + "".join(f"\n{call}({str(request.out) + str(i)!r})" for i, call in enumerate(calls))
    command = [sys.executable, "-c", script, request.suite, str(FAULTY)]
    return zygote.run(command, env=env)


def test_a_copy_of_a_process_that_has_trained_trains_too(request_for):
    """A fork has its parent's notion of a server of workers that is not its own; the parent's goes on."""
    ran = _called(request_for(), ["called", "forked", "called"])

    assert ("not-trained\n" * 3, 0) == (ran.stdout, ran.returncode), ran.stderr


@pytest.mark.parametrize(
    ("call", "folder", "limit", "words"),
    [
        ("daemonic", "", "", "this process is a daemon of multiprocessing's, .*: use the executor serial"),
        (
            "called",
            "x" * 100,
            "",
            r"no worker can be started here: .* too long \(temporary files are in .*x, TMPDIR; .*",
        ),
        ("called", "", FEW_FILES, "no worker can be started here: Too many open files .*"),
    ],
    ids=["daemon", "long TMPDIR", "few files"],
)
def test_where_no_worker_can_be_started_it_is_one_line(request_for, tmp_path, call, folder, limit, words):
    """What the system refuses is no bug of normbench's; where it was is said, and what to do."""
    (tmp_path / folder).mkdir(exist_ok=True)
    environ = {**os.environ, "TMPDIR": str(tmp_path / folder)} if folder else None

    ran = _called(request_for(), [call], limit, environ)

    assert re.fullmatch(f"refused: {words}\n", ran.stdout), ran.stdout + ran.stderr
    assert 0 == ran.returncode


def test_a_trial_gives_the_same_bits_wherever_it_runs(request_for, tmp_path):
    """In this process, in one worker, and beside others: the same score and losses to the last bit."""
    found = []
    ways = [("serial", {}), ("processes", {"jobs": 1}), ("processes", {"jobs": 2})]
    for i, (executor, options) in enumerate(ways):
        request = Request(
            "quick",
            norms=["batchnorm", "batchnorm-after"],
            seeds=1,
            settings={"epochs": 1, "rates": [1]},
            executor=executor,
            options=options,
            throughput=False,
            out=tmp_path / str(i),
            device="cpu",
        )
        run(prepare(request))
        found.append({record.key: (record.score, record.series) for record in Store(request.out).trials()})

    assert 2 == len(found[0])
    assert found[0] == found[1] == found[2]


def test_a_script_needs_no_main_guard_and_its_norms_reach_the_workers(request_for, tmp_path):
    """The script is not run again in a worker; a norm it defines travels by value."""
    request_for()
    script = tmp_path / "script.py"
    script.write_text(
        "import normbench\n"
        "from torch import nn\n"
        "print('once')\n"
        "class Mine(nn.Module):\n"
        "    def forward(self, x):\n"
        "        return x - x.mean(0)\n"
        "normbench.register(normbench.Norm('mine', lambda site, x=1.0: Mine(), summary='S'))\n"
        f"results = normbench.run({str(tmp_path / 'blink.toml')!r}, norms='mine', plugin_files={str(FAULTY)!r},\n"
        f"    out={str(tmp_path / 'out')!r}, throughput=False, fresh=False, jobs=2)\n"
        "print(*{trial.outcome for trial in results.trials()})\n"
    )

    ran = zygote.run([sys.executable, str(script)])

    assert ("once\nnot-trained\n", 0) == (ran.stdout, ran.returncode), ran.stderr


def test_what_can_not_travel_to_a_worker_is_named(request_for, monkeypatch):
    """The message names the norm, and what to do."""
    monkeypatch.setattr(plugins, "_session", [])
    plugins.current.cache_clear()
    lock = multiprocessing.Lock()
    plugins.register(normbench.Norm("locked", lambda site: nn.Identity() if lock else None, summary="S"))

    with pytest.raises(UsageError, match=r"locked was registered .* use the executor serial"):
        run(prepare(request_for("locked")))

    plugins.current.cache_clear()


def test_what_a_worker_prints_does_not_reach_stdout(request_for, capfd):
    """The command's stdout is its result."""
    run(prepare(request_for('faulty(how="say")', seeds=1, settings={"rates": 0.1})))

    assert "last words" not in "".join(capfd.readouterr())


@pytest.mark.parametrize(
    ("shape", "per_gpu", "expected"),
    [
        (driver._Shape("cuda", 1, 1), 1, ["0", "2", "3"]),
        (driver._Shape("cuda", 1, 1), 2, ["0", "2", "3", "0", "2", "3"]),
        (driver._Shape("cuda:1", 1, 1), 1, ["2"]),
        (driver._Shape("cuda", 2, 1), 1, ["0,2"]),
    ],
)
def test_each_worker_sees_its_own_gpus(monkeypatch, shape, per_gpu, expected):
    """GPUs are those that the command may see; a trial of several has its own ones."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,2,3")

    room = driver._room(shape, per_gpu)

    assert expected == [environ["CUDA_VISIBLE_DEVICES"] for environ in room]


def test_more_devices_than_there_are_gpus_are_refused(monkeypatch):
    """The message says how many there are."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")

    with pytest.raises(UsageError, match="devices is 4; torch sees 2 GPUs here"):
        driver._room(driver._Shape("cuda", 4, 1), 1)


def test_a_worker_counts_its_gpus_from_0(request_for):
    """What is asked of the command's second GPU is the worker's first."""
    prepared = prepare(request_for())
    [pack, *_] = packs(prepared, wanted(prepared.cells, {}))

    [(shape, attempts)] = driver._by_shape([msgspec.structs.replace(pack, device="cuda:1")])

    assert ("cuda:1", "cuda") == (shape.device, attempts[0].pack.device)


@pytest.mark.parametrize(
    "parameters",
    [{"jobs": -1}, {"per_gpu": 0}, *({"timeout": seconds} for seconds in (-1.0, 1e20, 1e300, math.inf, math.nan))],
    ids=str,
)
def test_parameters_that_can_not_be(parameters):
    """They are refused before anything starts."""
    with pytest.raises(UsageError, match="jobs and timeout are 0 or more"):
        driver.run([], print, **parameters)


@pytest.mark.parametrize(("devices", "threads", "expected"), [(1, 1, 8), (1, 3, 2), (2, 2, 2), (8, 8, 1)])
def test_workers_share_the_cores(monkeypatch, devices, threads, expected):
    """A trial takes a core for each thread of each device; one always runs."""
    monkeypatch.setattr(driver.environment, "cores", lambda: 8)

    assert expected == len(driver._room(driver._Shape("cpu", devices, threads), 1))


def test_an_option_that_the_executor_does_not_have_is_refused(request_for):
    """Serial has neither jobs nor a timeout that kills."""
    with pytest.raises(UsageError, match="timeout: the executor serial has no such option"):
        prepare(request_for(executor="serial", options={"timeout": 1}))


def test_an_executor_takes_parameters_in_brackets(request_for):
    """As a norm does; an unknown one gets the nearest name."""
    assert {"jobs": 3} == prepare(request_for(executor="processes(jobs=3)")).executor.params
    with pytest.raises(UsageError, match="no parameter 'job'; did you mean 'jobs'"):
        prepare(request_for(executor="processes(job=3)"))

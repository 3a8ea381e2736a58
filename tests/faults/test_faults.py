"""kill -9 of driver and workers at random moments, a full disk, two drivers: nothing recorded is lost or doubled.

What a plugin can do to its worker is in tests/plugins/test_processes.py, lines cut at every byte in tests/store. Each
kind of fault is tried once; `tox -e faults` sets NORMBENCH_TEST_FAULTS to try the random ones so often.
"""

import itertools
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import zygote

import normbench
from normbench.store import Store

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="looks processes up in /proc"),
]
PLUGIN = Path(__file__).with_name("faulty.py")
RUNS = int(os.environ.get("NORMBENCH_TEST_FAULTS", "1"))
#: How often a run is struck before it is left to end.
STRIKES = 2


SUITE = """
name = "blink"
summary = "Trials of a fifth of a second"
tasks = ["blink"]
norms = ["none", "layer-norm", { norm = "faulty", how = "nap" }]
baseline = "none"
rates = [0.01, 0.1, 1]
seeds = 2
"""
TRIALS = 24


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    """Return the suite's file."""
    file = tmp_path_factory.mktemp("suite") / "blink.toml"
    file.write_text(SUITE)
    return str(file)


@pytest.fixture
def start(tmp_path, suite):
    """Return a function that starts `normbench run` of the suite into a folder, a process group of its own."""
    started = []

    def begun(out, *options, before="pass"):
        command = [sys.executable, "-c", f"{before}; from normbench.cli.main import main; main()"]
        command += ["run", suite, "--out", str(out)]
        command += ["--plugin", str(PLUGIN), "--no-throughput", "--jobs", "2", *options]
        environ = {**os.environ, "NORMBENCH_TEST_ONCE": str(tmp_path / "once")}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environ}
        started.append(zygote.Popen(command, start_new_session=True, **pipes))
        return started[-1]

    yield begun
    for process in started:
        for one in [process.pid, *descendants(process.pid)]:
            kill(one)
        process.communicate()


def wait_for_trials(process, count):
    """Read the progress of a run until so many more trials are stored."""
    trials = (line for line in process.stderr if re.match(r"\[ *\d+/", line))
    for _ in itertools.islice(trials, count):
        pass


def kill(process):
    """Kill a process by -9, if it is there."""
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def descendants(process):
    """Return the processes that a process has started, and those that they have."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if fields[0] != "Z":
            parents[int(stat.parent.name)] = int(fields[1])
    found = [process]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found[1:]


def gone(processes, seconds=20):
    """Whether all of these processes end within a time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not any(_alive(one) for one in processes):
            return True
        time.sleep(0.02)
    return False


def _alive(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture(scope="module")
def expected(tmp_path_factory, suite):
    """Return what each trial gives where nothing is killed, by key."""
    out = tmp_path_factory.mktemp("expected")
    normbench.run(suite, out=out, plugin_files=PLUGIN, throughput=False, executor="serial")
    return recorded(out)[0]


def recorded(out):
    """Return what each record says of its trial, by key, and how many records each has."""
    store = Store(out)
    records = list(store.trials())
    assert all(bad.reason == "its end is missing" for bad in store.unreadable)
    return {record.key: (record.outcome, record.score, record.series) for record in records}, Counter(
        record.key for record in records
    )


def strike(process, driver, draw, counts):
    """Kill the driver, or one of its workers, at a random moment."""
    wait_for_trials(process, draw.randrange(1, 5))
    time.sleep(draw.uniform(0, 0.3))
    below = descendants(process.pid)
    if driver:
        counts["drivers killed"] += process.poll() is None and kill(process.pid)
        process.wait()
        assert gone(below), "workers outlive their driver"
        return
    # The oldest descendants are the servers that workers are forked from: without them there are none.
    for worker in draw.sample(below[2:], min(1, len(below[2:]))):
        counts["workers killed"] += kill(worker)
    process.communicate(timeout=120)


@pytest.mark.parametrize("seed", range(RUNS))
def test_nothing_is_lost_or_doubled(start, tmp_path, seed, expected, counts):
    """What was recorded stays as it was; the same command finishes the rest, each trial once, with the same numbers."""
    draw = random.Random(seed)
    out, before = tmp_path / "out", {}
    options = ["--checkpoint-every", "0"] if seed % 2 else []
    for turn in range(STRIKES):
        strike(start(out, *options), (seed // 2 + turn) % 2 == 0, draw, counts)
        found, _ = recorded(out)
        assert before.items() <= found.items()
        before = found

    last = start(out)
    _, said = last.communicate(timeout=120)
    found, times = recorded(out)

    assert last.returncode in (0, 4), said
    assert {1} == set(times.values())
    assert TRIALS == len(found)
    assert expected == found
    counts["trials recorded once"] += len(found)


def test_ctrl_c_ends_the_run_and_its_workers(start, tmp_path):
    """Exit status 130, no worker left, and what was finished is stored."""
    process = start(tmp_path / "out")
    wait_for_trials(process, 2)
    below = descendants(process.pid)

    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)

    assert 130 == process.returncode, said
    assert gone(below)
    assert 2 <= len(recorded(tmp_path / "out")[0]) < TRIALS


def test_ctrl_c_while_workers_start_ends_at_once(start, tmp_path):
    """Nothing that was asked for comes later: no worker, and no trace of one that finds its driver gone."""
    process = start(tmp_path / "out")
    process.stderr.readline()
    time.sleep(0.5)
    below = descendants(process.pid)

    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, said = process.communicate(timeout=60)

    assert (130, 1) == (process.returncode, said.count("\n")), said
    assert gone(below)


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"])
@pytest.mark.parametrize("seed", range(min(RUNS, 3)))
def test_stopped_again_and_again_a_run_ends_as_stopped_once(start, tmp_path, sent, status, seed):
    """Signals in a burst neither hang the command nor change its status; workers are gone, what was finished stored."""
    draw = random.Random(seed)
    process = start(tmp_path / "out")
    wait_for_trials(process, draw.randrange(1, 5))
    time.sleep(draw.uniform(0, 0.3))
    below = descendants(process.pid)

    for _ in range(draw.randrange(2, 8)):
        os.killpg(process.pid, sent)  # as a terminal does
        time.sleep(draw.choice([0, 0.0005, 0.003, 0.01, 0.03]))
    _, said = process.communicate(timeout=60)

    assert (status, True) == (process.returncode, said.endswith("and the same command goes on\n")), said
    assert gone(below)
    assert 1 <= len(recorded(tmp_path / "out")[0]) < TRIALS


def test_a_second_driver_is_refused(start, tmp_path):
    """It names the first, and the first goes on."""
    first = start(tmp_path / "out")
    wait_for_trials(first, 1)
    first.send_signal(signal.SIGSTOP)  # or it might end before the second has begun

    second = start(tmp_path / "out")
    _, said = second.communicate(timeout=60)
    first.send_signal(signal.SIGCONT)
    first.communicate(timeout=120)

    assert (2, True) == (second.returncode, f"another run holds this folder (process {first.pid} on " in said)
    assert TRIALS == len(recorded(tmp_path / "out")[0])


def keys(out):
    return Counter(record.key for record in Store(out).trials())


#: Lets no file of a process grow beyond some records.
LIMIT = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))"


@pytest.fixture
def small_disk(tmp_path):
    """Return a folder with room for some records."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=20k", "none", str(folder)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_limit_on_a_files_size_ends_the_run_and_nothing_is_lost(start, tmp_path, counts):
    """Exit status 4, one line; without the limit the same command finishes the rest."""
    out = tmp_path / "out"
    full = start(out, before=LIMIT)
    _, said = full.communicate(timeout=120)
    before = keys(out)

    again = start(out)
    again.communicate(timeout=120)

    assert (4, True) == (full.returncode, "the disk is full; what was stored before is kept" in said), said
    assert 0 < len(before) < TRIALS
    assert 0 == again.returncode
    assert [1] * TRIALS == list(keys(out).values())
    counts["disks filled"] += 1


def test_a_full_file_system_ends_the_run_and_nothing_is_lost(start, tmp_path, small_disk, counts):
    """The same on a disk without room; what it holds can be read, and goes on elsewhere."""
    full = start(small_disk / "out")
    _, said = full.communicate(timeout=120)
    before = keys(small_disk / "out")
    shutil.copytree(small_disk / "out", tmp_path / "out")

    again = start(tmp_path / "out")
    again.communicate(timeout=120)

    assert (4, True) == (full.returncode, "the disk is full; what was stored before is kept" in said), said
    assert before.items() <= keys(tmp_path / "out").items()
    assert [1] * TRIALS == list(keys(tmp_path / "out").values())
    counts["disks filled"] += 1

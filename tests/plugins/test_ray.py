"""Trials as tasks of a Ray cluster: a head that trains nothing, and two nodes of one CPU."""

import dataclasses
import os
import secrets
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import forked_ranks
import pytest
import zygote

from normbench.errors import UsageError
from normbench.execute import Request, prepare, run
from normbench.execute.packs import packs
from normbench.plan import wanted
from normbench.store import Store
from normbench.testing.executors import ExecutorChecks
from normbench.train.ranks import parent
from normbench_plugins.ray_cluster import driver, task

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
#: Bytes for a node's store of objects, near the least that Ray takes.
STORE = 80 << 20


@pytest.fixture(scope="module")
def guarded():
    """Have clusters ask for a token of these tests' own: Ray would write one into the home folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(16))
        patch.setenv("RAY_worker_niceness", "0")  # or tasks come after whatever else the machine has to do
        pytest.importorskip("ray", reason="Ray is not installed")
        yield


#: The nodes that train, by name.
nodes = {}


def add_node(cluster, name):
    """Add a node of one CPU, whose processes know its name; what workers are forked from is forked there."""
    helpers = Path(zygote.__file__).parent
    path = [str(helpers), str(helpers / "ray_node"), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    environ = {"TEST_NODE": name, "PYTHONPATH": os.pathsep.join(filter(None, path))}
    nodes[name] = cluster.add_node(num_cpus=1, object_store_memory=STORE, env_vars=environ)


@pytest.fixture(scope="module")
def cluster(guarded):
    """Return a cluster that this process is connected to."""
    import ray
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": STORE}
    zygote.share()  # before there are nodes, which have this environment
    cluster = Cluster(initialize_head=True, head_node_args=head)
    for name in ["one", "other"]:
        add_node(cluster, name)
    answer = signal.getsignal(signal.SIGTERM)
    ray.init(cluster.address, logging_level="ERROR", log_to_driver=False)
    signal.signal(signal.SIGTERM, answer)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture
def request_for(tmp_path, monkeypatch):
    """Return a function that makes a request for a suite of a faulty norm, or others, and `none`."""
    (tmp_path / "blink.toml").write_text(SUITE)
    monkeypatch.setenv("NORMBENCH_TEST_ONCE", str(tmp_path / "once"))

    def made(*norms, **options):
        always = {"throughput": False, "fresh": False, "device": "cpu", "executor": "ray"}
        options = {**always, "out": tmp_path / "out", **options}
        return Request(str(tmp_path / "blink.toml"), norms=["none", *norms], plugin_files=[FAULTY], **options)

    return made


@pytest.fixture
def command(request_for, tmp_path):
    """Return a function that starts the command for a faulty norm and `none`, and says where its output goes."""
    started = []

    def start(norm, *options):
        request = request_for(norm)
        line = [sys.executable, "-c", "from normbench.cli.main import main; main()", "run", request.suite]
        line += ["--norm", "none", "--norm", norm, "--plugin", str(FAULTY), "--out", str(request.out)]
        line += ["--no-throughput", "--no-fresh", "--device", "cpu", "--executor", "ray", *options]
        with (tmp_path / "stdout").open("w") as out, (tmp_path / "stderr").open("w") as errors:
            started.append(zygote.Popen(line, stdout=out, stderr=errors))
        return started[-1], request

    yield start
    for process in started:
        process.kill()
        process.wait()


def stored(request, norm=None):
    """Return the records of a norm's trials, or of all."""
    return [record for record in Store(request.out).trials() if norm in (None, record.norm)]


def wait_until(condition, process=None):
    """Wait until a condition holds; fail where it does not, or a process has ended that was to go on."""
    deadline = time.monotonic() + 180
    while not condition():
        assert time.monotonic() < deadline
        assert process is None or process.poll() is None
        time.sleep(0.02)


def gone(process):
    """Whether a process is not there, or a zombie."""
    try:
        return " Z " in Path(f"/proc/{process}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


def written(file):
    """Whether a file has something in it."""
    return file.exists() and file.read_text() != ""


@pytest.mark.usefixtures("cluster")
class TestRay(ExecutorChecks):
    executor = "ray"


def test_a_node_removed_while_trials_run_loses_nothing(cluster, request_for, tmp_path):
    """The trial that it was at would hang there for ever; elsewhere it goes as any other, and each is stored once."""
    request = request_for('faulty(how="hang", once=true)')
    removed = []

    def remove(progress):
        if written(tmp_path / "once") and not removed:
            removed.append((tmp_path / "once").read_text())
            cluster.remove_node(nodes.pop(removed[0]), allow_graceful=False)

    run(prepare(request), remove)

    add_node(cluster, removed[0])
    assert ["not-trained"] * 8 == [record.outcome for record in stored(request)]
    assert 8 == len({record.key for record in stored(request)})


def test_a_driver_killed_and_started_again_resumes(cluster, command, tmp_path):
    """What it was at ends with it; what was stored stays; the rest is trained once."""
    process, request = command('faulty(how="child", once=true)', "--address", cluster.address)
    wait_until(lambda: written(tmp_path / "child") and len(stored(request)) >= 2, process)
    process.kill()
    process.wait()
    before = [record.key for record in stored(request)]

    summary = run(prepare(request))

    wait_until(lambda: gone((tmp_path / "child").read_text()))
    assert before == [record.key for record in stored(request)][: len(before)]
    assert (len(before), 8 - len(before)) == (summary.stored_before, summary.ran)
    assert {"not-trained": 8} == Counter(record.outcome for record in stored(request))
    assert 8 == len({record.key for record in stored(request)})


@pytest.mark.parametrize(("once", "outcome"), [("true", "not-trained"), ("false", "error")])
def test_a_ray_worker_that_dies_costs_a_trial_only_so_many_attempts(cluster, request_for, monkeypatch, once, outcome):
    """A trial that always takes its Ray worker with it does not go on for ever."""
    monkeypatch.setattr(driver, "LOSSES", 1)
    request = request_for(f'faulty(how="orphan", once={once})', seeds=1, settings={"rates": 0.1})

    run(prepare(request))

    [record] = stored(request, "faulty")
    assert outcome == record.outcome
    assert ("", "what it ran on was lost 2 times")[outcome == "error"] in record.reason
    assert ["not-trained"] == [record.outcome for record in stored(request, "none")]


def on_two_nodes(request, norm, **options):
    """Return what comes of a trial of a norm on two nodes; without its first step, which takes a group of its own."""
    prepared, found = prepare(dataclasses.replace(request, norms=[norm])), []
    driver.run(packs(prepared, wanted(prepared.cells, {})), found.append, **options)
    return found


@pytest.mark.slow
def test_a_trial_on_two_nodes_is_that_on_two_devices(cluster, request_for, monkeypatch, tmp_path):
    """A rank a node: the same losses and score as of two ranks on one; where ranks die, from those that come next."""
    monkeypatch.setattr(parent, "Launched", forked_ranks.Forked)
    one = request_for(seeds=1, settings={"rates": 0.1, "devices": 2}, executor="serial")
    two = request_for(seeds=1, settings={"rates": 0.1, "num_nodes": 2})

    run(prepare(one))
    [found] = on_two_nodes(two, 'faulty(how="kill", once=true)')

    [expected] = stored(one)
    assert (expected.score, expected.series) == (found.score, found.series)
    steps = (tmp_path / "steps").read_text().split()
    assert [4, 2] == [steps.count("0"), steps.count("2")], "two groups of two ranks, of which one came to its last step"


@pytest.mark.slow
def test_a_trial_on_two_nodes_past_its_time_is_killed(cluster, request_for, tmp_path):
    """And what its ranks started, with it."""
    request = request_for(seeds=1, settings={"rates": 0.1, "num_nodes": 2})

    [found] = on_two_nodes(request, 'faulty(how="child")', timeout=40)

    assert ("timeout", "killed after 40 s") == (found.outcome, found.reason)
    wait_until(lambda: gone((tmp_path / "child").read_text()))


def listening(process):
    """Return the addresses at which a process and its descendants listen by TCP, in hex as Linux has them."""
    family, inodes = [process], set()
    for member in family:
        for children in Path("/proc").glob(f"{member}/task/*/children"):
            family += [int(child) for child in children.read_text().split()]
        for descriptor in Path("/proc").glob(f"{member}/fd/*"):
            with suppress(OSError):
                inodes.add(os.readlink(descriptor).removeprefix("socket:[").removesuffix("]"))
    rows = [row.split() for name in ("tcp", "tcp6") for row in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    return {row[1].partition(":")[0] for row in rows if row[3] == "0A" and row[9] in inodes}


@pytest.mark.slow
def test_a_ray_started_here_is_this_machines_and_ends_with_the_command(guarded, command, tmp_path):
    """It listens on loopback alone, which in IPv6 is written behind FFFF.

    SIGTERM gives the exit status that it gives without Ray; no process is left, and stdout is the result alone.
    """
    process, request = command('faulty(how="child")')
    wait_until(lambda: written(tmp_path / "child") and stored(request), process)

    reached = listening(process.pid)
    process.terminate()

    assert {"0100007F", "0000000000000000FFFF00000100007F"} == reached | {"0100007F"}

    assert 143 == process.wait(60)
    assert "" == (tmp_path / "stdout").read_text()
    wait_until(lambda: gone((tmp_path / "child").read_text()))


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:1", "address 127.0.0.1:1: no Ray cluster to be had there: Connection refused"),
        ("127.0.0.1", "address 127.0.0.1: an address is auto, or HOST:PORT of a cluster's head"),
        ("ray://127.0.0.1:10001", "address ray://.*: an address is auto, or HOST:PORT"),
        ("127.0.0.1:99999", "address 127.0.0.1:99999: no Ray cluster to be had there"),
    ],
)
def test_an_address_without_a_cluster_is_refused(guarded, request_for, monkeypatch, address, message):
    """At once, where Ray would try for minutes."""
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)

    with pytest.raises(UsageError, match=message):
        run(prepare(request_for(options={"address": address})))


def test_without_ray_the_message_says_what_to_install(request_for, monkeypatch):
    """The executor is listed all the same."""
    monkeypatch.setitem(sys.modules, "ray", None)

    with pytest.raises(UsageError, match=r"the executor ray needs Ray: pip install 'normbench\[ray\]'"):
        run(prepare(request_for()))


def test_listing_the_executor_does_not_import_ray():
    """Which costs more than a second."""
    script = (
        "import sys; from normbench import plugins; plugins.current().executor('ray'); sys.exit('ray' in sys.modules)"
    )

    assert 0 == subprocess.run([sys.executable, "-c", script], check=False).returncode


def test_a_node_has_the_drivers_environment_and_versions(monkeypatch):
    """Variables of normbench are as they are where the run was started; another version is refused."""
    monkeypatch.setenv("NORMBENCH_TEST_HERE", "driver")
    home = task.Home.here()
    monkeypatch.setenv("NORMBENCH_TEST_HERE", "node")
    monkeypatch.setenv("NORMBENCH_TEST_ELSEWHERE", "node")

    home.settle()

    assert ("driver", None) == (os.environ["NORMBENCH_TEST_HERE"], os.environ.get("NORMBENCH_TEST_ELSEWHERE"))
    with pytest.raises(UsageError, match=r"torch is .* on node .*, and 1\.0 where the run was started"):
        task.Home({}, {**home.versions, "torch": "1.0"}).settle()

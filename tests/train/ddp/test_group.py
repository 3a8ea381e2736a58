"""The group of processes: what ends it, what is tried again, and that nothing is left of it. Here of two on a CPU."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
import torch
import zygote

from normbench.errors import UsageError
from normbench.train import fit_pack
from normbench.train.ranks import parent
from normbench.trials import Outcome


@pytest.mark.parametrize("dry", [True, False])
def test_a_norm_that_refuses_costs_no_group(dry, pack, trial, trained):
    """All ranks refuse alike, and none is left in the trial: the group is kept."""
    trained("plain", devices=2)
    kept = parent._kept[0]

    found = list(fit_pack(pack(trial("refusing", devices=2), dry=dry)))

    expected = [] if dry else [("unsupported", "not on a Tuesday")]
    assert expected == [(outcome.outcome, outcome.reason) for outcome in found]
    assert trained("plain", devices=2).score is not None
    assert kept is parent._kept[0]


@pytest.mark.parametrize(
    ("recipe", "device", "words"),
    [
        ({"num_nodes": 2}, "cpu", "num_nodes is 2: several machines need the executor ray"),
        ({"devices": 3}, "cuda", "devices is 3; torch sees 2 GPUs here"),
        ({"devices": 2}, "cuda:1", "devices is 2; with several, the device is cuda, not cuda:1"),
    ],
)
def test_devices_that_are_not_there(monkeypatch, pack, trial, recipe, device, words):
    """What this machine does not have is the user's mistake, in one line, and nothing is started."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)

    with pytest.raises(UsageError, match=re.escape(words)):
        list(fit_pack(pack(trial("plain", **recipe), device=device)))


class Started:
    """Ranks that end before they say hello, in the stead of real ones."""

    def __init__(self, exits, killed):
        self.early, self.killed = exits, killed

    def process_groups(self, ranks):
        return [1, *ranks]

    def exits(self, patience):
        return self.early

    def kill(self, ranks):
        self.killed.append(ranks)


@pytest.mark.parametrize(
    ("exits", "words"),
    [
        ({1: 3}, "rank 1 ended with exit status 3 at the start"),
        ({0: -signal.SIGSEGV}, "rank 0 was killed by SIGSEGV at the start"),
        ({}, "the ranks ended at the start"),
    ],
    ids=str,
)
def test_ranks_that_can_not_start(monkeypatch, pack, trial, exits, words):
    """What ended them is the reason, after a second attempt; nothing is waited for, or left."""
    parent.close()
    killed, told = [], []
    monkeypatch.setattr(parent, "Launched", lambda *given: Started(exits, killed))

    [found] = fit_pack(pack(trial("plain", devices=2)), parent.Keeper(tell=told.append))

    assert ("error", f"its group died twice: {words}") == (found.outcome, found.reason)
    assert [[], []] == killed
    assert [[1], [], [1], []] == told


def test_a_copy_of_the_process_leaves_the_group_alone(trained):
    """A fork that ends does not take its parent's ranks with it."""
    trained("plain", devices=2)
    kept = parent._kept[0]
    copy = os.fork()
    if not copy:
        parent.close()
        os._exit(0)
    os.waitpid(copy, 0)

    assert trained("plain", devices=2).score is not None
    assert kept is parent._kept[0]


def test_a_rank_that_dies_between_trials(trained, numbers):
    """The next trial is trained on a new group."""
    once = trained("plain", devices=2)
    os.kill(parent._kept[0]._pids[0], signal.SIGKILL)

    again = trained("plain", devices=2)

    assert numbers(once) == numbers(again)


def test_an_interruption_ends_the_group(monkeypatch, trained):
    """Ctrl-C does not leave ranks behind that go on with a trial nobody waits for."""
    trained("plain", devices=2)
    pids = list(parent._kept[0]._pids.values())

    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(parent, "wait", interrupt)

    with pytest.raises(KeyboardInterrupt):
        trained("plain", devices=2)

    assert [] == parent._kept
    assert gone(pids)


@pytest.mark.parametrize(
    ("norm", "kind", "reason"),
    [
        ("fails-on-one", "error", "rank 1: RuntimeError: boom (ranks_plugin.py:"),
        ("fails-on-all", "error", "RuntimeError: boom (ranks_plugin.py:"),
        ("lacks-memory-on-one", "oom", "rank 1: OutOfMemoryError: too much"),
    ],
)
def test_what_one_rank_raises_is_the_trials_outcome(monkeypatch, norm, kind, reason, trained):
    """The others wait for it in vain, and are killed; the reason names the rank, unless all raised alike."""
    monkeypatch.setattr(parent, "GRACE", 1.0)

    found = trained(norm, devices=2)

    assert kind == found.outcome
    assert found.reason.startswith(reason)


def test_a_mistake_that_a_dry_run_finds_on_one_rank_is_the_users(monkeypatch, pack, trial):
    """It arrives as the one line that it is, with norm and site."""
    monkeypatch.setattr(parent, "GRACE", 1.0)

    with pytest.raises(UsageError, match=r"norm wrong-on-one at site 0 of double .*: the layer returned the shape"):
        list(fit_pack(pack(trial("wrong-on-one", devices=2), dry=True)))


#: Trains a pack, says whom it told of and what came of it, and waits.
PROGRAM = """
import sys
import msgspec
from normbench.train import fit_pack
from normbench.train.ranks.parent import Keeper
from normbench.trials import Pack

told = []
outcomes = list(fit_pack(msgspec.json.decode(sys.argv[1], type=Pack), Keeper(tell=told.append)))
print(msgspec.json.encode((told, outcomes)).decode(), flush=True)
sys.stdin.read()
"""


def test_ranks_under_torchrun(tmp_path, pack, trial, numbers):
    """A killed rank ends its group; the trial is tried again, on new processes, and gives what it would have given.

    What a group listens at, torchrun included, is loopback: torch's stores unpickle what a stranger sends. Where the
    parent is killed, nothing that it started goes on; nothing was printed to its output.
    """
    trials = trial("dies-once", devices=2), trial("plain", devices=2)
    both = msgspec.json.encode(pack(*trials, checkpoint_every=0.0)).decode()  # JSON has no infinity
    environ = {**os.environ, "TMPDIR": str(tmp_path), "NORMBENCH_TEST_DIED": str(tmp_path / "died")}
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)

    with zygote.Popen([sys.executable, "-c", PROGRAM, both], env=environ, text=True, **pipes) as process:
        said = process.stdout.readline()
        told, [found, after] = msgspec.json.decode(said, type=tuple[list[list[int]], list[Outcome]])
        first = told[told.index([]) - 1]
        assert gone(first)
        assert all(alive(pid) for pid in told[-1])
        assert sys.platform != "linux" or [set(), *[{"0100007F"}] * 2] == list(map(listening, told[-1]))
        process.kill()
        more = process.communicate(timeout=60)

    assert numbers(after) == numbers(found)
    assert (tmp_path / "died").exists()
    assert [3, 3] == [len(first), len(told[-1])]
    assert gone(told[-1])
    assert ("", "") == more
    assert [] == list(tmp_path.glob("normbench-*"))


def listening(process):
    """Return the addresses at which a process listens by TCP, in hex as Linux has them."""
    inodes = set()
    for descriptor in Path(f"/proc/{process}/fd").iterdir():
        with suppress(FileNotFoundError):
            inodes.add(os.readlink(descriptor).removeprefix("socket:[").removesuffix("]"))
    rows = [row.split() for name in ("tcp", "tcp6") for row in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    return {row[1].partition(":")[0] for row in rows if row[3] == "0A" and row[9] in inodes}


def reached():
    """Return at which addresses each process of the group that is kept listens."""
    kept = parent._kept[0]
    return [listening(process) for process in kept._ranks.process_groups(list(kept._pids.values()))]


@pytest.mark.skipif(sys.platform != "linux", reason="looks sockets up in /proc")
def test_nobody_else_can_reach_ranks_that_share_with_some(trained):
    """Loopback is all that ranks listen at where they make further groups among them."""
    assert trained("sync-batchnorm", devices=4, sync_ranks=2).score is not None

    assert [{"0100007F"}] * 4 == reached()


def test_a_rank_that_forks_trains_as_one_that_does_not(trained, numbers):
    """Its copy is gone before it says anything to the other ranks, or to the parent."""
    forked, plain = trained("forks-on-one", devices=2), trained("plain", devices=2)

    assert numbers(plain) == numbers(forked)


def test_a_trial_that_kills_every_group_is_an_error(trained, numbers, pack, trial):
    """The reason says which rank died, and of what; the next trial of the pack is trained."""
    pack = pack(trial("dies", devices=2), trial("plain", devices=2))

    died, after = fit_pack(pack)

    assert ("error", "its group died twice: rank 1 was killed by SIGKILL") == (died.outcome, died.reason)
    assert numbers(trained("plain", devices=2)) == numbers(after)


def test_folders_of_ranks_go_with_their_group(monkeypatch, tmp_path, trained):
    """Whatever becomes of it: a rank that died, an interruption, an end in peace."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    parent.close()
    trained("plain", devices=2)
    during = list(tmp_path.glob("normbench-*"))
    os.kill(parent._kept[0]._pids[0], signal.SIGKILL)

    trained("plain", devices=2)
    parent.close()

    assert (1, []) == (len(during), list(tmp_path.glob("normbench-*")))


def test_a_folder_whose_name_is_too_long_is_one_line(monkeypatch, tmp_path, trained):
    """A socket's path has some hundred characters at most."""
    (tmp_path / ("x" * 100)).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("x" * 100)))
    parent.close()

    with pytest.raises(
        UsageError, match=r"^no ranks can be started with temporary files in .*x \(TMPDIR\): .* too long$"
    ):
        trained("plain", devices=2)

    assert [] == list((tmp_path / ("x" * 100)).iterdir())


def gone(pids):
    """Whether processes end within a time: a kill is not done where it is asked for."""
    for _ in range(200):
        if not any(alive(pid) for pid in pids):
            return True
        time.sleep(0.05)
    return False


def alive(pid):
    """Whether a process is there, and no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"

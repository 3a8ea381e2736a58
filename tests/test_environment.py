"""What a machine is found to have."""

import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from normbench import environment

MOUNT = "30 23 0:26 {root} {point} rw,nosuid - {kind} none rw,{options}\n"


def group(folder, limit, kind):
    """Write the limit of a control group: microseconds of a tenth of a second, none where it is None."""
    folder.mkdir(parents=True, exist_ok=True)
    if limit == "unset":
        return
    if kind == "cgroup2":
        (folder / "cpu.max").write_text(f"{'max' if limit is None else limit} 100000\n")
    else:
        (folder / "cpu.cfs_quota_us").write_text(f"{-1 if limit is None else limit}\n")
        (folder / "cpu.cfs_period_us").write_text("100000\n")


@pytest.mark.parametrize("kind", ["cgroup", "cgroup2"])
@pytest.mark.parametrize(
    ("root", "path", "limits", "expected"),
    [
        ("/", "/", ["unset"], 8),
        ("/", "/", [None], 8),
        ("/", "/a/b", [None, 350_000, None], 3),
        ("/", "/a/b", ["unset", 600_000, 250_000], 2),
        ("/", "/a/b", [150_000, 600_000, 250_000], 1),
        ("/", "/", [20_000], 1),
        ("/", "/", [6_400_000], 8),
        ("/docker/7f", "/docker/7f", [200_000], 2),
        ("/docker/7f", "/docker/7f/a", [400_000, None], 4),
        ("/", "/../elsewhere", [200_000], 2),
    ],
)
def test_a_containers_quota_limits_the_cores(monkeypatch, tmp_path, kind, root, path, limits, expected):
    """Of both versions of cgroups; the least of nested ones, rounded down, at least one."""
    point, process = tmp_path / "mounted", tmp_path / "self"
    inside = [part for part in Path(path.removeprefix(root)).parts if part != "/"][: len(limits) - 1]
    for depth, limit in enumerate(limits):
        group(point.joinpath(*inside[:depth]), limit, kind)
    process.mkdir()
    mounts = MOUNT.format(root="/", point="/", kind="ext4", options="rw")
    mounts += MOUNT.format(root=root, point=point, kind=kind, options="cpu,cpuacct" if kind == "cgroup" else "rw")
    (process / "mountinfo").write_text(mounts)
    (process / "cgroup").write_text(f"4:memory:/x\n3:cpu,cpuacct:{path}\n" if kind == "cgroup" else f"0::{path}\n")
    monkeypatch.setattr(environment, "_PROCESS", process)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(8), raising=False)

    assert expected == environment.cores()
    assert expected == environment.describe("cpu").cores


def test_without_control_groups_there_are_as_many_cores_as_may_be_used(monkeypatch, tmp_path):
    """As on a system that has none."""
    monkeypatch.setattr(environment, "_PROCESS", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(8), raising=False)

    assert 8 == environment.cores()


@pytest.mark.parametrize(
    ("argv", "command"),
    [
        (["/usr/bin/normbench", "run", "quick"], ["normbench", "run", "quick"]),
        (["/lib/ipykernel_launcher.py", "-f", "/tmp/kernel-1.json"], ["ipykernel_launcher.py"]),
    ],
)
def test_a_record_says_which_command_made_it(monkeypatch, argv, command):
    """A notebook's kernel is no command to repeat: what it was given is of that moment."""
    monkeypatch.setattr(sys, "argv", argv)

    assert command == environment.origin(datetime.now(UTC))["command"]

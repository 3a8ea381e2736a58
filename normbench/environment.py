"""What a trial ran on: versions, processor, accelerator, and what asked for it. No name of a machine or a person."""

from __future__ import annotations

import importlib.metadata
import math
import os
import platform
import re
import secrets
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

from normbench.errors import UsageError
from normbench.store.records import EnvironmentRecord
from normbench.texts import storable

#: What Linux says of this process.
_PROCESS = Path("/proc/self")
_PACKAGES = ("normbench", "torch", "pytorch-lightning", "numpy")


def describe(device: str) -> EnvironmentRecord:
    """Return the environment of trials on a device."""
    described: dict[str, Any] = {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": cores(),
        "packages": {name: _version(name) for name in _PACKAGES},
    }
    if device.startswith("cuda"):
        import torch

        described["accelerator"] = torch.cuda.get_device_name(device)
        described["cuda"] = torch.version.cuda
    return EnvironmentRecord.of(**described)


def cores() -> int:
    """Return how many cores this process may use: those that it may run on, or fewer where it is in a container.

    A container's share of the time of all cores is rounded down.
    """
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.floor(min([usable, *_quotas()])))


def new_id(started: datetime) -> str:
    """Return a name for a run or a session that no other has: when it began, and six random digits."""
    return f"{started:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


def origin(started: datetime) -> dict[str, Any]:
    """Return what a record says of where it comes from: when it began, the command, and the version of normbench."""
    name = Path(sys.argv[0]).name
    # A notebook's kernel is given a file of this moment.
    words = [name, *([] if name == "ipykernel_launcher.py" else sys.argv[1:])]
    return {
        "started": started.isoformat(timespec="seconds"),
        "command": [storable(word) for word in words],
        "version": importlib.metadata.version("normbench"),
    }


def likely(device: str) -> str:
    """Return what `resolve` should give, without importing torch: what a plan assumes.

    Raises UsageError for what is no device's name.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise UsageError(f"device {device!r}: a device is auto, cpu, cuda or cuda:N")
    if device != "auto":
        return device
    driver = Path("/proc/driver/nvidia/version").exists()
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    return "cuda" if driver and not hidden and not _version("torch").endswith("+cpu") else "cpu"


def resolve(device: str) -> str:
    """Return a device's name with "auto" resolved: a CUDA GPU where torch sees one, else the CPU.

    Raises UsageError for a device that is not there.
    """
    if likely(device) == "cpu" and (device == "cpu" or sys.platform == "linux"):
        return "cpu"  # on Linux there is no GPU without the driver: torch need not be asked
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if int(device.partition(":")[2] or 0) >= torch.cuda.device_count():
        raise UsageError(f"device {device!r}: torch sees {torch.cuda.device_count()} CUDA devices here")
    return device


def kind(device: str) -> str:
    """Return the kind of a device, which is part of what makes a trial done: "cpu" or "cuda"."""
    return device.partition(":")[0]


def _quotas() -> Iterator[float]:
    """Yield the cores' worth of time that each control group of this process has: its own, and all that it is in."""
    try:
        groups = [line.split(":", 2) for line in (_PROCESS / "cgroup").read_text().splitlines()]
        mounts = [line.split(" ") for line in (_PROCESS / "mountinfo").read_text(errors="replace").splitlines()]
    except OSError:
        return  # there are none but on Linux
    own = {controller: path for _, controllers, path in groups for controller in controllers.split(",")}
    for _, _, _, root, point, *_, kind, _, options in mounts:
        controller = {"cgroup2": "", "cgroup": "cpu"}.get(kind)
        if controller not in own or (kind == "cgroup" and "cpu" not in options.split(",")):
            continue
        top, path = Path(point), PurePosixPath(own[controller])
        folder = top / path.relative_to(root) if path.is_relative_to(root) else top
        for group in (folder, *folder.parents):
            yield _quota(group)
            if group == top:
                break


def _quota(group: Path) -> float:
    """Return the cores' worth of time that a control group has; infinite where it has no limit."""
    with suppress(OSError, ValueError):
        files = [group / "cpu.max"]  # of version 2; those of version 1 are a number each
        if not files[0].exists():
            files = [group / "cpu.cfs_quota_us", group / "cpu.cfs_period_us"]
        quota, period = (float(word) for file in files for word in file.read_text().split())
        if quota > 0 and period > 0:
            return quota / period
    return math.inf


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()

"""What holds for all tests: torch computes in one thread, and nothing waits for the disk but where that is tested."""

import os
import sys
from pathlib import Path

import pytest
import zygote

# Before torch is imported, here and in workers: more threads than cores cost time and give nothing.
os.environ.setdefault("OMP_NUM_THREADS", "1")

SYNCED = [Path(__file__).parent / name for name in ("store", "faults")]
#: It waits for Ray more than it computes, so that beside it two more processes share two cores.
LONGEST = Path(__file__).parent / "plugins" / "test_ray.py"


def pytest_configure(config):
    """Have one process from which those that train are forked, workers' servers as well.

    Keep pytest-xdist from beginning with the files that have the most tests: those with few take the longest.
    """
    config.option.loadscopereorder = False
    if getattr(config.option, "numprocesses", None):
        zygote.share()
        # Workers begin once it has loaded: each would compile what no environment has compiled before.
        import scipy.stats  # noqa: F401

        zygote.run([sys.executable, "-c", ""])
    zygote.fork_servers()


def pytest_collection_modifyitems(items):
    """Begin with the files that take long, which have slow tests: at the end no process is left alone with one."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path != LONGEST, item.path not in slow))


def pytest_runtest_setup(item):
    """Let Ray's tests, which take the longest and have time limits, have a core when they want one."""
    if "PYTEST_XDIST_WORKER" in os.environ and item.path != LONGEST and not os.getpriority(os.PRIO_PROCESS, 0):
        os.nice(5)


@pytest.fixture(autouse=True)
def unsynced(request, monkeypatch):
    """Leave out `fsync`, except in the tests of the store and of faults."""
    if not any(folder in request.path.parents for folder in SYNCED):
        monkeypatch.setattr(os, "fsync", lambda descriptor: None)

"""What holds for all tests: torch computes in one thread, and nothing waits for the disk but where that is tested."""

import os
from pathlib import Path

import pytest

# Before torch is imported, here and in workers: more threads than cores cost time and give nothing.
os.environ.setdefault("OMP_NUM_THREADS", "1")

SYNCED = [Path(__file__).parent / name for name in ("store", "faults")]


@pytest.fixture(autouse=True)
def unsynced(request, monkeypatch):
    """Leave out `fsync`, except in the tests of the store and of faults."""
    if not any(folder in request.path.parents for folder in SYNCED):
        monkeypatch.setattr(os, "fsync", lambda descriptor: None)

"""Image data for the tests: made up, or real where the machine has it, and a cache folder of the tests' own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from normbench import plugins
from normbench.registry import Registry

DATA = Path(os.environ.get("NORMBENCH_DATA", "."))


@pytest.fixture(scope="session")
def builtin() -> Registry:
    return plugins.load()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder that data is unpacked into where the data folder is read-only; nothing is there yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "normbench" / "data"


@pytest.fixture(scope="session")
def session_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def real(session_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder that NORMBENCH_DATA names, with MNIST and Fashion-MNIST, unpacked once a session."""
    if not all((DATA / name / "raw").is_dir() for name in ("MNIST", "FashionMNIST")):
        pytest.skip("NORMBENCH_DATA names no folder with MNIST/raw and FashionMNIST/raw")
    monkeypatch.setenv("XDG_CACHE_HOME", str(session_cache))
    return DATA


@pytest.fixture(scope="session")
def cifar10(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a folder with both official versions of CIFAR-10, made from the compact form that NORMBENCH_DATA has."""
    tool = DATA.parent / "tools" / "unpack_cifar10.py"
    if not tool.is_file() or not list((DATA / "cifar10").glob("*.zip")):
        pytest.skip("NORMBENCH_DATA has no cifar10/*.zip with ../tools/unpack_cifar10.py")
    folder = tmp_path_factory.mktemp("cifar10")
    subprocess.run([sys.executable, tool, folder, "--src", DATA / "cifar10"], check=True, capture_output=True)
    yield folder
    shutil.rmtree(folder)

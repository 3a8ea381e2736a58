"""The command line, called in this process: a folder of its own for each test, and small runs of real training."""

import importlib
import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import zygote

from normbench import plugins, prints
from normbench.cli.main import status
from normbench.errors import UsageError
from normbench.execute import Request, prepare

ROOT = Path(__file__).resolve().parents[2]
#: In this process, on the CPU: what worker processes do is tested where they are.
HERE = ("--device", "cpu", "--executor", "serial")
#: One rate, one seed, one epoch, no throughput: a tenth of a second a norm once torch is imported.
SMALL = (*HERE, "--seeds", "1", "--set", "rates=[0.1]", "--set", "epochs=1", "--no-throughput")


@dataclass(frozen=True)
class Ran:
    """What a command gave: its exit status, and all it wrote."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """Give each test its own current folder, no settings from outside, and no plugins from another test."""
    _unset(monkeypatch)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.chdir(tmp_path)
    _forget(tmp_path)
    yield
    _forget(tmp_path)


@pytest.fixture
def forget(tmp_path):
    """Return a function that forgets the plugins that were loaded, as a new process would."""
    return lambda: _forget(tmp_path)


@pytest.fixture
def normbench(capsys, monkeypatch):
    """Return a function that runs a command in this process."""

    def call(*args: object) -> Ran:
        words = [str(word) for word in args]
        monkeypatch.setattr(sys, "argv", ["normbench", *words])
        capsys.readouterr()
        found = status(words)
        out, err = capsys.readouterr()
        return Ran(found, out, err)

    return call


@pytest.fixture
def small(normbench):
    """Return a function that runs the suite `quick` at one rate, for one seed and one epoch, and what is asked."""
    return lambda *args: normbench("run", "quick", *SMALL, *args)


@pytest.fixture
def spawn():
    """Return a function that starts a command in a process of its own; what still runs at the end is killed."""
    started = []

    def start(*args: object, **options: Any) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "normbench.cli.main", *(str(word) for word in args)]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "encoding": "utf-8"}
        process = zygote.Popen(command, **{**streams, **options})
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


@pytest.fixture
def plugin(tmp_path):
    """Return a function that writes a plugin's file with one norm: the body of its layer's forward, and its options.

    The body `return late(x, self.calls)` raises after a few steps, which no dry run finds.
    """

    def write(name: str, forward: str, options: str = "") -> Path:
        path = tmp_path / f"{name.replace('-', '_')}_of_the_tests.py"
        head = f"""
            import os
            import time

            import normbench
            from torch import nn


            def late(x, calls):
                if calls > 3:
                    raise RuntimeError("no luck")
                return x


            class Layer(nn.Module):
                calls = 0

                def forward(self, x):
                    self.calls += 1
                    {forward}


            @normbench.hookimpl
            def normbench_norms():
                yield normbench.Norm("{name}", lambda site: Layer(), summary="One of the tests", {options})
            """
        path.write_text(dedent(head), encoding="utf-8")
        return path

    return write


@pytest.fixture
def installed(tmp_path):
    """Return a function that installs a plugin, as pip would: a module of that name, and its entry point."""

    def install(name: str, source: str) -> None:
        site, info = tmp_path / "site", tmp_path / "site" / f"{name}-1.0.dist-info"
        info.mkdir(parents=True)
        (site / f"{name}.py").write_text(dedent(source), encoding="utf-8")
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
        (info / "entry_points.txt").write_text(f"[normbench]\n{name} = {name}\n", encoding="utf-8")
        sys.path.append(str(site))
        importlib.invalidate_caches()

    return install


@pytest.fixture(scope="session")
def train(tmp_path_factory):
    """Return a function that trains two norms, as `small` does, for tests that share the folder it returns."""

    def trained(*args: str, out: Path | None = None) -> Path:
        folder = out or tmp_path_factory.mktemp("trained") / "quick"
        asked = ("--norm", "none", "--norm", "batchnorm", *SMALL, *args, "--out", str(folder), "--quiet")
        with pytest.MonkeyPatch.context() as patch:
            _unset(patch)
            assert 0 == status(["run", "quick", *asked])
        return folder

    return trained


@pytest.fixture(scope="session")
def trained(train):
    """Train at two rates, and a fresh seed at the better, once for all tests, and return the folder."""
    return train("--set", "rates=[0.1, 1]")


@pytest.fixture
def results(trained):
    """Return results/quick in the current folder: two norms, two rates, one seed and a fresh one, one epoch."""
    shutil.copytree(trained, "results/quick")
    return Path("results/quick")


@pytest.fixture(scope="module")
def laid_out(tmp_path_factory):
    """Return a function that lays out files for all mistakes of a module, and makes their folder the current one.

    Where nothing is made, tests need no folder of their own, and plugins are loaded once.
    """
    with pytest.MonkeyPatch.context() as patch:

        def lay_out(files: dict[str, str | bytes]) -> None:
            folder = tmp_path_factory.mktemp("mistakes")
            stored = (ROOT / "results" / "mnist-lr.json").read_bytes()
            common = {"stored.json": stored, "a-file": "no results", "results/quick/runs.jsonl": ""}
            for name, content in {**common, **files}.items():
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content.encode() if isinstance(content, str) else content)
            (folder / "folder").mkdir()
            patch.chdir(folder)

        _unset(patch)
        patch.setattr(sys, "path", list(sys.path))
        patch.setattr(sys, "dont_write_bytecode", True)
        plugins.current.cache_clear()
        yield lay_out
        plugins.current.cache_clear()


@pytest.fixture
def refusal(capsys):
    """Return a function that gives the one line by which a command, or what it asks for, is refused."""

    def refused(asked: list[str] | Request) -> str:
        if isinstance(asked, Request):
            with pytest.raises(UsageError, match=r"\A[^\n]+\Z") as raised:
                prepare(asked)
            return str(raised.value)
        found = status(asked)
        out, err = capsys.readouterr()
        assert (2, "") == (found, out), err
        assert re.fullmatch(r"normbench: [^\n]+\n", err), err
        return err

    return refused


@pytest.fixture
def lines():
    """Return a function that gives the records in a results folder's file."""

    def read(folder: Path | str, name: str = "trials.jsonl") -> list[Any]:
        return [json.loads(line) for line in (Path(folder) / name).read_text(encoding="utf-8").splitlines()]

    return read


def _unset(patch: pytest.MonkeyPatch) -> None:
    for name in ("NORMBENCH_PLUGINS", "NORMBENCH_STRICT_PLUGINS", "NORMBENCH_DATA", "NO_COLOR", "FORCE_COLOR"):
        patch.delenv(name, raising=False)
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
        patch.delenv(name, raising=False)


def _forget(folder: Path) -> None:
    plugins.current.cache_clear()
    plugins._session.clear()
    prints._hashed.cache_clear()
    prints._imports.cache_clear()
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(folder)):
            del sys.modules[name]

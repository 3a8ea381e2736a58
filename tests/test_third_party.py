"""A stranger's package, from `new-plugin` to a run, in an environment of its own: the whole way a third party goes.

The environment gets the libraries of the one that runs the tests as hard links, so that nothing is downloaded but the
build backend, where that is not cached.
"""

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from normbench.cli.main import status

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Return the folder of the package that `normbench new-plugin` writes for the norm my-norm."""
    folder = tmp_path_factory.mktemp("third-party")
    assert 0 == status(["new-plugin", "my-norm", "--in", str(folder)])
    return folder / "normbench-my-norm"


@pytest.fixture(scope="module")
def python(project):
    """Return the Python of a fresh environment, in which normbench and the package are installed as wheels."""
    folder = project.parent
    _uv("venv", "--python", sys.executable, folder / "venv")
    _link_libraries(next((folder / "venv").glob("lib/python*/site-packages")))
    for source in (ROOT, project):
        _uv("build", "--wheel", "--out-dir", folder / "wheels", source)
    python = folder / "venv" / "bin" / "python"
    _uv("pip", "install", "--no-deps", "--python", python, *sorted((folder / "wheels").glob("*.whl")))
    return python


@pytest.fixture
def normbench(python, tmp_path):
    """Return a function that runs the environment's `normbench` in an empty folder, and gives what it printed."""
    return lambda *args: _run(python.with_name("normbench"), *args, cwd=tmp_path)


def test_the_package_is_a_plugin(normbench):
    """`normbench plugins` lists the package with its version and its norm."""
    listed = json.loads(normbench("plugins", "--json"))

    [found] = [plugin for plugin in listed["plugins"] if plugin["name"] == "my-norm"]
    assert ("0.1.0", {"norms": ["my-norm"]}) == (found["version"], found["offers"])
    assert [] == listed["quarantined"]


def test_what_runs_is_what_was_installed(python, tmp_path):
    """The environment has wheels of normbench and of the package, not the folders that they were built from."""
    script = "import normbench, normbench_plugins, normbench_my_norm as mine; print(normbench.__file__, mine.__file__)"

    files = _run(python, "-c", script, cwd=tmp_path).split()

    assert all(Path(file).is_relative_to(python.parents[1]) for file in files)


def test_its_norm_is_listed(normbench):
    """`normbench list norms` has the norm beside the built-in ones."""
    listed = json.loads(normbench("list", "norms", "--json"))["norms"]

    assert {"my-norm", "batchnorm", "none"} <= {norm["name"] for norm in listed}


def test_its_norm_is_run(normbench):
    """`normbench run` trains the norm like any other."""
    options = ("--norm", "my-norm", "--seeds", "1", "--set", "rates=[0.1]", "--set", "epochs=1", "--device", "cpu")
    options += ("--no-throughput",)

    boards = json.loads(normbench("run", "quick", *options, "--json"))["boards"]

    assert [("accuracy", ["my-norm"])] == [(board["board"], [row["norm"] for row in board["rows"]]) for board in boards]


def test_its_own_tests_pass(python, project):
    """The tests that the package is written with pass where it is installed."""
    # -P: what is tested is what is installed, not the folder.
    said = _run(python, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests", cwd=project)

    passed = re.search(r"^(\d+) passed", said, re.MULTILINE)
    assert passed is not None
    assert int(passed[1]) > 30


def _uv(*args):
    """Run uv: from what is cached if that will do, else with the package registry."""
    uv = shutil.which("uv")
    if uv is None:
        from uv import find_uv_bin

        uv = find_uv_bin()
    command = [uv, *(str(word) for word in args)]
    for more in (["--offline"], []):
        ran = subprocess.run([*command, *more], capture_output=True, text=True, check=False)
        if ran.returncode == 0:
            return
    pytest.fail(f"{' '.join(command)}\n{ran.stderr}")


def _link_libraries(target):
    """Link all that is installed where these tests run, apart from normbench and plugins of it."""
    ours = set()
    for distribution in importlib.metadata.distributions():
        if distribution.entry_points.select(group="normbench"):
            ours |= {file.parts[0] for file in distribution.files or () if file.parts[0] != ".."}
    for source in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for entry in Path(source).iterdir():
            if entry.name in ours or entry.name in ("__pycache__", "_virtualenv.py", "_virtualenv.pth"):
                continue
            if entry.is_dir():
                shutil.copytree(entry, target / entry.name, copy_function=_link, dirs_exist_ok=True)
            else:
                _link(entry, target / entry.name)


def _link(source, target):
    try:
        os.link(source, target)
    except OSError:  # another file system
        os.symlink(source, target)


def _run(*command, cwd):
    """Return what a command printed, run without the settings of this process; it has to succeed."""
    foreign = ("NORMBENCH_", "PYTHON", "PYTEST_", "GITHUB_", "VIRTUAL_ENV")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    ran = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert 0 == ran.returncode, ran.stdout + ran.stderr
    return ran.stdout

"""`normbench new-plugin`: the files it writes, and what it refuses; tests/test_third_party.py installs them."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = {
    "pyproject.toml",
    "README.md",
    "normbench_my_norm/__init__.py",
    "normbench_my_norm/layer.py",
    "normbench_my_norm/definition.py",
}


@pytest.fixture
def package(normbench):
    """Return the folder of a package that was written for the norm my-norm."""
    assert 0 == normbench("new-plugin", "my-norm").status
    return Path("normbench-my-norm")


def test_a_package_is_written(normbench, tmp_path):
    """The package lies in a folder of its own under the current one, and what to do next is printed."""
    ran = normbench("new-plugin", "my-norm")

    written = {str(path.relative_to("normbench-my-norm")) for path in Path("normbench-my-norm").rglob("*.*")}
    assert (0, "") == (ran.status, ran.err)
    assert FILES | {"tests/test_normbench_my_norm.py"} == written
    assert "normbench-my-norm written" in ran.out
    assert "    pip install -e normbench-my-norm\n" in ran.out
    assert "    normbench check my-norm\n" in ran.out
    assert "    normbench run quick --norm my-norm --norm batchnorm\n" in ran.out


def test_in_names_the_folder(normbench):
    """--in DIR writes there, and makes that folder."""
    ran = normbench("new-plugin", "my-norm", "--in", "some/where")

    assert 0 == ran.status
    assert Path("some/where/normbench-my-norm/pyproject.toml").is_file()


def test_the_entry_point_names_the_package(package):
    """The package registers under normbench's entry point group, and depends on normbench and torch."""
    described = tomllib.loads((package / "pyproject.toml").read_text(encoding="utf-8"))

    project = described["project"]
    assert {"my-norm": "normbench_my_norm"} == project["entry-points"]["normbench"]
    assert "normbench-my-norm" == project["name"]
    assert {"normbench", "torch"} == set(project["dependencies"])


def test_a_package_that_was_not_installed_is_named(normbench, package):
    """Whoever forgets pip is told so, instead of the names of other norms."""
    for words in (("check", "my-norm"), ("plan", "quick", "--norm", "+my-norm")):
        ran = normbench(*words)

        assert (2, "") == (ran.status, ran.out)
        assert f"{package} is not installed yet: pip install -e {package}\n" in ran.err


def test_its_norm_is_found_and_computes(normbench, package, monkeypatch):
    """The norm that is written works as it stands: its module registers it, and its layer trains."""
    monkeypatch.syspath_prepend(package.resolve())
    Path("as_a_file.py").write_text("from normbench_my_norm import normbench_norms\n")

    ran = normbench(
        "run", "quick", "--plugin", "as_a_file.py", "--norm", "my-norm", "--seeds", "1", "--device", "cpu",
        "--executor", "serial", "--set", "rates=[0.1]", "--set", "epochs=2", "--no-throughput", "--json",
    )  # fmt: skip

    [row] = ran.json["boards"][0]["rows"]
    assert (0, "my-norm") == (ran.status, row["norm"])
    assert row["accuracy"] > 30


@pytest.mark.parametrize("name", ["my-norm", "x", "a-norm-2-with-a-long-name"])
def test_everything_written_compiles(normbench, name):
    """Every Python file is Python, whatever the norm is called."""
    normbench("new-plugin", name)

    files = list(Path(f"normbench-{name}").rglob("*.py"))
    assert 4 == len(files)
    assert all(ast.parse(file.read_text(encoding="utf-8")).body for file in files)


@pytest.mark.parametrize("command", [("check",), ("format", "--check")], ids=["lint", "format"])
def test_everything_written_is_linted(package, command):
    """What is written passes the rules that normbench itself is held to."""
    ruff = [sys.executable, "-m", "ruff", *command, "--no-cache", "--config", str(ROOT / "pyproject.toml")]

    ran = subprocess.run([*ruff, str(package)], capture_output=True, text=True, check=False)

    assert 0 == ran.returncode, ran.stdout + ran.stderr


def test_an_existing_folder_is_left_alone(normbench, package):
    """Asked again, the command refuses, and what was edited stays."""
    (package / "README.md").write_text("mine")

    ran = normbench("new-plugin", "my-norm")

    assert (2, "") == (ran.status, ran.out)
    assert "normbench-my-norm exists already; remove it, or choose another name" in ran.err
    assert "mine" == (package / "README.md").read_text()

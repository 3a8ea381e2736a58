"""A suite's own plugins: files beside it, and packages that are to be installed."""

from pathlib import Path

import pytest

from normbench import suites
from normbench.errors import UsageError
from normbench.execute import prepare, run
from normbench.execute.packs import packs
from normbench.execute.request import plugins_of
from normbench.registry import Plugin, Quarantined, Registry
from normbench.store import Store

OWN = """
import normbench
from torch import nn

@normbench.hookimpl
def normbench_norms():
    yield normbench.Norm("{0}", lambda site: nn.Identity(), summary="{0}")
"""


@pytest.fixture
def request_with(request_for, tmp_path, monkeypatch):
    """Return a function that makes a request for the tiny suite with plugins, asked for from another folder."""
    (tmp_path / "norms").mkdir()
    (tmp_path / "norms" / "own.py").write_text(OWN.format("own"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")

    def made(*files, **options):
        suite = tmp_path / "tiny.toml"
        listed = ", ".join(f'"{file}"' for file in files)
        suite.write_text(suite.read_text().replace('["fine", "other"]', '["fine", "own"]') + f"plugins = [{listed}]\n")
        return request_for(seeds=1, fresh=False, **options)

    return made


@pytest.fixture
def registry():
    """Return a registry with a plugin of an installed package, and one of another that failed."""
    failed = Quarantined("bad", "bad", "normbench-bad", "1.0", "ImportError: no torchvision")
    return Registry(plugins=[Plugin("good", "good", "normbench-good", "1.0")], quarantined=[failed])


def suite(*listed):
    table = {"name": "mine", "summary": "M", "tasks": ["t"], "norms": ["n"], "rates": [1], "plugins": list(listed)}
    return suites.from_table(table, "suite mine.toml")


def test_a_suites_file_is_loaded_from_beside_it(request_with, tmp_path):
    """Its norms are there for the suite's list, wherever the command runs, and the run's record names it."""
    summary = run(prepare(request_with("norms/own.py")))

    [stored] = Store(summary.folder).runs()
    assert ["norms/own.py"] == stored.suite["plugins"]
    assert {"fine", "own"} == {record.norm for record in Store(summary.folder).trials()}


def test_workers_load_a_suites_file_as_well(request_with, tmp_path):
    """What travels to a worker has the file, after those that were asked for, with its whole path."""
    (tmp_path / "asked.py").write_text(OWN.format("asked"))

    prepared = prepare(request_with("norms/own.py", plugin_files=[Path("../asked.py")], norms=["own", "asked"]))

    files = [str(tmp_path / "elsewhere" / ".." / "asked.py"), str(tmp_path / "norms" / "own.py")]
    todo = [(item.cell, item.trial, item.stage) for item in prepared.work]
    assert {tuple(files)} == {pack.plugin_files for pack in packs(prepared, todo)}
    assert files == [str(file.absolute()) for file in prepared.workplace.plugin_files]


def test_an_edited_file_of_a_suite_is_loaded_anew(request_with, tmp_path):
    """A session that runs a suite again has its plugins as they are then."""
    request = request_with("norms/own.py")
    prepare(request)
    (tmp_path / "norms" / "own.py").write_text(OWN.format("renamed"))

    with pytest.raises(UsageError, match="norms: no norm 'own'"):
        prepare(request)


def test_a_file_that_is_not_there_is_named_with_its_place(tmp_path, registry):
    """The message has the suite, the key, the index and the path."""
    (tmp_path / "own.py").touch()
    (tmp_path / "folder.py").mkdir()
    file = tmp_path / "mine.toml"

    assert [tmp_path / "own.py"] == plugins_of(suite("own.py"), file, registry, "suite mine")
    for name, why in (("absent.py", "there is no such file"), ("folder.py", "is a folder")):
        with pytest.raises(UsageError) as refused:
            plugins_of(suite("own.py", name), file, registry, "suite mine")
        assert f"suite mine: plugins[1]: {tmp_path / name}: {why}" == str(refused.value)


@pytest.mark.parametrize(
    ("package", "words"),
    [
        ("normbench-absent", "no plugin of normbench-absent is installed; pip install normbench-absent installs it"),
        ("normbench_bad", "plugin bad 1.0 failed: ImportError: no torchvision; to be rid of it: pip uninstall"),
    ],
)
def test_a_package_that_is_not_there_says_how_to_install_it(registry, package, words):
    """A package counts by the name that pip knows it by; one that failed says why."""
    with pytest.raises(UsageError) as refused:
        plugins_of(suite(package), Path("mine.toml"), registry, "suite mine")

    assert f"suite mine: plugins[0]: {words}" in str(refused.value)


def test_a_package_that_is_there_is_no_file(registry, monkeypatch):
    """Pip takes - and _ for the same. What the environment leaves out is told."""
    assert [] == plugins_of(suite("Normbench_good"), Path("mine.toml"), registry, "suite mine")
    monkeypatch.setenv("NORMBENCH_PLUGINS", "builtin")

    with pytest.raises(UsageError, match="NORMBENCH_PLUGINS=builtin leaves out other plugins"):
        plugins_of(suite("normbench-absent"), Path("mine.toml"), registry, "suite mine")


def test_a_norm_that_is_added_is_run_besides(request_for):
    """The suite's own stay, and one that it has already is refused by what asked for it."""
    prepared = prepare(request_for(norms=["+none"]))

    assert ["fine", "other", "none"] == [cell.label for cell in prepared.cells]
    with pytest.raises(UsageError, match=r"^norms\[1\]: the suite has 'fine' already$"):
        prepare(request_for(norms=["+none", "+fine"]))
    with pytest.raises(UsageError, match=r"^norms\[0\]: no norm 'nome'; did you mean 'none'"):
        prepare(request_for(norms=["+nome"]))


def test_a_norm_that_is_added_under_another_name(request_for, tmp_path):
    """A norm is the same whatever its label."""
    file = tmp_path / "tiny.toml"
    file.write_text(file.read_text().replace('"other"]', '{ norm = "other", label = "plain" }]'))

    with pytest.raises(UsageError, match=r"norms\[0\]: the suite has 'other' already, as 'plain'"):
        prepare(request_for(norms=["+other"]))

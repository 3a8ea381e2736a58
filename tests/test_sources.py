"""What a trial was made from: files that were really read, however they were; and whether they are as they were."""

import os
import shutil
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from normbench import loading, plugins, reads, sources
from normbench.errors import UsageError

HEAD = """
import normbench
from torch import nn

@normbench.hookimpl
def normbench_norms():
    yield normbench.Norm("mine", layer, summary="A norm of the tests")

"""

LAYER = """
def layer(site):
    return nn.Identity()
"""

#: How a plugin reads what decides its numbers: its file, the other files, and the one that is edited.
READS = {
    "its own file": (LAYER, {}, "mine.py"),
    "a factory's argument": (
        "from functools import partial\nfrom helper import build\nlayer = partial(build, eps=1e-5)\n",
        {"helper.py": "def build(site, eps): return site"},
        "mine.py",
    ),
    "a callable object of a helper": (
        "from helper import Build\nbuilt = Build(1e-5)\ndef layer(site): return built(site)\n",
        {"helper.py": "class Build:\n    def __init__(self, eps): pass\n    def __call__(self, site): return site"},
        "helper.py",
    ),
    "a helper under a decorator": (
        "import functools\nfrom helper import build\n@functools.lru_cache\ndef layer(site): return build(site)\n",
        {"helper.py": "import functools\n@functools.lru_cache\ndef build(site): return site"},
        "helper.py",
    ),
    "a package's __init__": (
        "import package.inner\ndef layer(site): return package.inner.build(site)\n",
        {"package/__init__.py": "EPS = 1", "package/inner.py": "from package import EPS\ndef build(site): return site"},
        "package/__init__.py",
    ),
    "a computed name": (
        "import importlib\ndef layer(site): return importlib.import_module('hel' + 'per').build(site)\n",
        {"helper.py": "def build(site): return site"},
        "helper.py",
    ),
    "a string": ("layer = 'helper:build'\n", {"helper.py": "def build(site): return site"}, "helper.py"),
    "a helper's helper": (
        "from helper import build\ndef layer(site): return build(site)\n",
        {
            "helper.py": "def build(site):\n    import deep\n    return deep.build(site)",
            "deep.py": "def build(site): return site",
        },
        "deep.py",
    ),
    "a JSON file": (
        "import pathlib\ndef layer(site): return pathlib.Path(__file__).with_name('it.json').read_text()\n",
        {"it.json": "{}"},
        "it.json",
    ),
    "code that is executed": (
        "import pathlib\nexec(pathlib.Path(__file__).with_name('code.txt').read_text())\n",
        {"code.txt": "def layer(site): return site"},
        "code.txt",
    ),
    "a module that is loaded by its path": (
        "import importlib.util, pathlib\nHERE = pathlib.Path(__file__).parent\ndef layer(site):\n"
        "    spec = importlib.util.spec_from_file_location('by_path', HERE / 'lib' / 'inner.py')\n"
        "    module = importlib.util.module_from_spec(spec)\n    spec.loader.exec_module(module)\n    return site\n",
        {"lib/inner.py": "def build(site): return site"},
        "lib/inner.py",
    ),
    "what a script beside reads": (
        "import pathlib, runpy\nHERE = pathlib.Path(__file__).parent\n"
        "def layer(site): return runpy.run_path(str(HERE / 'script.py'))\n",
        {"script.py": "import pathlib\npathlib.Path(__file__).with_name('it.txt').read_text()", "it.txt": "1"},
        "it.txt",
    ),
    "a file that another thread reads": (
        "import pathlib\nfrom concurrent.futures import ThreadPoolExecutor\nHERE = pathlib.Path(__file__).parent\n"
        "def layer(site): return list(ThreadPoolExecutor(1).map(pathlib.Path.read_text, [HERE / 'it.json']))\n",
        {"it.json": "{}"},
        "it.json",
    ),
    "an array that is mapped": (
        "import numpy, pathlib\nHERE = pathlib.Path(__file__).parent\n"
        "def layer(site): return numpy.memmap(HERE / 'it.npy')\n",
        {"it.npy": None},
        "it.npy",
    ),
    "a star": (
        "from package import *\ndef layer(site): return inner.build(site)\n",
        {"package/__init__.py": "__all__ = ['inner']", "package/inner.py": "def build(site): return site"},
        "package/inner.py",
    ),
    "an array": (
        "import numpy, os\ndef layer(site): return numpy.load(os.path.join(os.path.dirname(__file__), 'it.npy'))\n",
        {"it.npy": None},
        "it.npy",
    ),
}


@pytest.fixture(autouse=True)
def untouched(tmp_path, monkeypatch):
    """Leave the path, the modules and the session as they were."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(plugins, "_session", [])
    plugins.current.cache_clear()
    yield
    plugins.current.cache_clear()
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]
            reads.graph.nodes.pop(name, None)


@pytest.fixture
def write(tmp_path):
    """Return a function that writes files into a folder of the test's, and returns the folder."""

    def put(files, folder="plugin"):
        for name, text in files.items():
            path = tmp_path / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if text is None:
                import numpy

                numpy.save(path, numpy.zeros(3))
            else:
                path.write_text(dedent(text), encoding="utf-8")
        return tmp_path / folder

    return put


def loaded(file):
    """Return the registry of a plugin's file, its norm, and the norm's layer, built once."""
    loading.forget_edited([file])
    registry = plugins.load([file])
    assert [] == registry.quarantined
    offered = registry.norms["mine"]
    with reads.asking(offered.plugin.node, offered.plugin.base):
        built = offered.thing.build(None, {})
    return registry, offered, built


def files_of(offered):
    return {source.file: source.sha256 for source in sources.made_from(offered)}


@pytest.mark.parametrize(("source", "others", "edited"), READS.values(), ids=READS)
def test_what_was_read_is_in_the_list(write, source, others, edited):
    """However a plugin reads a file that decides its numbers, an edit of it is seen, by importing nothing."""
    folder = write({"mine.py": HEAD + source, **others})
    registry, offered, _ = loaded(folder / "mine.py")
    files = files_of(offered)
    assert ("plugin mine", edited) in files
    assert sources.AtHand(registry).changed(files) is None

    path = folder / edited
    content = path.read_bytes()
    before = path.stat()
    path.write_bytes(content.replace(b"site", b"Site") if b"site" in content else b" " * len(content))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    assert edited == sources.AtHand(registry).changed(files)


def test_nothing_of_a_person_or_machine_is_in_the_list(write, tmp_path):
    """Paths begin at the plugin's folder, or another that is no person's."""
    folder = write({"mine.py": HEAD + READS["a JSON file"][0], "it.json": "{}"})
    _, offered, _ = loaded(folder / "mine.py")

    assert [("plugin mine", "it.json"), ("plugin mine", "mine.py")] == sorted(files_of(offered))


def test_what_is_installed_is_in_no_list(write):
    """What a distribution installed, like torch, counts by its version, in the print."""
    _, offered, _ = loaded(write({"mine.py": HEAD + "import torch.fft, json, sklearn.cluster\n" + LAYER}) / "mine.py")

    assert [("plugin mine", "mine.py")] == list(files_of(offered))


def test_module_on_the_path(write, monkeypatch):
    """A module from elsewhere on the path is found by its name, wherever it lies then."""
    write({"pathhelper/__init__.py": "", "pathhelper/deep.py": "def build(site): return site"}, "elsewhere")
    folder = write({"mine.py": HEAD + "from pathhelper.deep import build\ndef layer(site): return build(site)\n"})
    sys.path.append(str(folder.parent / "elsewhere"))
    registry, offered, _ = loaded(folder / "mine.py")
    files = files_of(offered)
    assert {("plugin mine", "mine.py"), ("module", "pathhelper"), ("module", "pathhelper.deep")} == set(files)

    moved = folder.parent / "moved"
    shutil.move(folder.parent / "elsewhere", moved)
    sys.path[-1] = str(moved)
    assert sources.AtHand(registry).changed(files) is None
    (moved / "pathhelper" / "deep.py").write_text("def build(site): return 1")

    assert "pathhelper.deep" == sources.AtHand(registry).changed(files)


def test_link_that_is_pointed_elsewhere(write):
    """A file is known by the name by which it was opened: a link to another is seen."""
    folder = write({"mine.py": HEAD + READS["a JSON file"][0], "one.json": "{}", "two.json": "[]"})
    (folder / "it.json").symlink_to("one.json")
    registry, offered, _ = loaded(folder / "mine.py")
    files = files_of(offered)

    (folder / "it.json").unlink()
    (folder / "it.json").symlink_to("two.json")

    assert "it.json" == sources.AtHand(registry).changed(files)


def test_what_a_layer_writes_is_no_source(write):
    """What it wrote and reads back is in no list, by whatever name: written beside and renamed, too."""
    text = (
        "import os, pathlib, time\nHERE = pathlib.Path(__file__).parent\ndef layer(site):\n"
        "    (HERE / 'c.tmp').write_text(str(time.time()))\n    os.replace(HERE / 'c.tmp', HERE / 'c.txt')\n"
        "    return (HERE / 'c.txt').read_text()\n"
    )
    _, offered, _ = loaded(write({"mine.py": HEAD + text}) / "mine.py")

    assert [("plugin mine", "mine.py")] == list(files_of(offered))


def test_objects_of_a_module_beside_are_unpickled(write):
    """Pickle finds a class by the name that its module has for a script."""
    text = (
        "import pathlib, pickle, pickled_class\nHERE = pathlib.Path(__file__).parent\ndef layer(site):\n"
        "    return pickle.loads(b'cpickled_class\\nMine\\n.')\n"
    )
    _, _, built = loaded(write({"mine.py": HEAD + text, "pickled_class.py": "class Mine: pass"}) / "mine.py")

    assert "Mine" == built.__name__


def test_data_that_lies_around_a_plugin(write):
    """A data folder that holds the plugin does not make the plugin's files data."""
    folder = write({"mine.py": HEAD + READS["a JSON file"][0], "it.json": "{}"})
    reads.leave_out(folder)
    _, offered, _ = loaded(folder / "mine.py")

    assert ("plugin mine", "it.json") in files_of(offered)


def test_compiled_module(write):
    """A C extension that was built anew is seen."""
    markupsafe = pytest.importorskip("markupsafe._speedups")
    built = Path(markupsafe.__file__)
    folder = write({"mine.py": HEAD + "import _speedups\n" + LAYER})
    shutil.copy(built, folder / built.name)
    registry, offered, _ = loaded(folder / "mine.py")
    files = files_of(offered)
    assert ("plugin mine", built.name) in files

    with (folder / built.name).open("ab") as file:
        file.write(b"\0")

    assert built.name == sources.AtHand(registry).changed(files)


def test_two_plugins_with_a_layer_beside_each(write):
    """Each gets its own, and lists its own."""
    text = HEAD + "from beside import build\ndef layer(site): return build()\n"
    folders = [write({"mine.py": text, "beside.py": f"def build(): return {i}"}, f"plugin{i}") for i in range(2)]

    found = [loaded(folder / "mine.py") for folder in folders]

    assert [0, 1] == [built for _, _, built in found]
    assert 2 == len({files_of(offered)["plugin mine", "beside.py"] for _, offered, _ in found})
    assert all(len(files_of(offered)) == 2 for _, offered, _ in found)


def test_edited_plugin_is_loaded_anew(write):
    """In one process, the next request has the plugin as it is then, and what lies beside it."""
    folder = write({"mine.py": HEAD + "from beside import build\ndef layer(site): return build()\n"})
    write({"beside.py": "def build(): return 1"})
    first = loaded(folder / "mine.py")[2]
    before = (folder / "beside.py").stat()

    write({"beside.py": "def build(): return 2"})
    os.utime(folder / "beside.py", ns=(before.st_atime_ns, before.st_mtime_ns))

    assert (1, 2) == (first, loaded(folder / "mine.py")[2])


def test_edit_of_what_this_process_trains_with(write):
    """A file that can't be loaded a second time here is named, with what to do."""
    folder = write({"mine.py": HEAD + LAYER})
    _, offered, _ = loaded(folder / "mine.py")
    sources.require_unedited([offered])

    write({"mine.py": HEAD + LAYER + "# edited\n"})

    with pytest.raises(UsageError, match=r"mine\.py: edited since this process loaded it; start Python anew"):
        sources.require_unedited([offered])


def test_a_file_that_is_read_again_counts_as_it_was_first(write):
    """What was trained before the edit was trained with that: an edit between two readings is seen."""
    reading = "from pathlib import Path\ndef layer(site): return Path(__file__).with_name('it.txt').read_text()\n"
    folder = write({"mine.py": HEAD + reading, "it.txt": "one"})
    registry, offered, _ = loaded(folder / "mine.py")

    write({"it.txt": "two"})
    with reads.asking(offered.plugin.node, offered.plugin.base):
        assert "two" == offered.thing.build(None, {})

    assert "it.txt" == sources.AtHand(registry).changed(files_of(offered))


def test_data_and_results_are_in_no_list(write, tmp_path):
    """What is read below a folder that was left out, or what was written before, is no source."""
    reading = (
        "import pathlib\ndef layer(site): return (pathlib.Path(__file__).parent / 'data' / 'it.json').read_text()\n"
    )
    folder = write({"data/it.json": "{}", "mine.py": HEAD + reading})
    reads.leave_out(folder / "data")
    _, offered, _ = loaded(folder / "mine.py")

    assert [("plugin mine", "mine.py")] == list(files_of(offered))


def test_built_in_has_no_list():
    """What comes with normbench is pinned by versions."""
    assert () == sources.made_from(plugins.current().norms["batchnorm"], plugins.current().tasks["digits-cnn"])


@pytest.mark.parametrize(
    ("one", "other", "agreeing"),
    [
        ({"a": "1"}, {"a": "1", "b": "2"}, True),
        ({"a": "1"}, {"a": "2"}, False),
        ({"a": "1"}, {"b": "2"}, True),
        (None, {"a": "1"}, True),
    ],
    ids=["more was read", "a file was edited", "nothing in common", "no list"],
)
def test_lists_that_agree(one, other, agreeing):
    """Lists agree where no file that both have differs."""
    assert agreeing == sources.agree(one, other) == sources.agree(other, one)

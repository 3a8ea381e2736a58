"""Code prints: an edited layer is trained again, and nothing else is."""

import dataclasses
import functools
import importlib
import sys
import types

import pytest
from hashing import printed_by

from normbench import distributions, plugins, prints
from normbench.contract import Recipe, Task, Traits
from normbench.registry import Offered, Plugin

ENTRY = """
import normbench

def _norm(name, layer):
    return normbench.Norm(name, layer, summary="A norm")

@normbench.hookimpl
def normbench_norms():
    yield _norm("one", "ours.layers.one:layer")
    yield _norm("two", "ours.layers.two:layer")
"""

#: What stands in the file of norm "one", however it imports its helper. Neither file could be imported.
IMPORTS = {
    "absolute": "from ours.layers import helper",
    "a module's name": "import ours.layers.helper",
    "from a module": "from ours.layers.helper import anything",
    "a star": "from ours.layers.helper import *",
    "relative": "from .helper import anything",
    "from the folder": "from . import helper",
    "from above": "from ..layers.helper import anything",
    "in a function": "def layer(site):\n    from .helper import anything",
    "in a try": "try:\n    import ours.layers.helper as fast\nexcept ImportError:\n    fast = None",
}


def forget():
    """Forget what was read, as a new process does."""
    prints.read_anew()
    for read in (distributions.owners, distributions.version_of):
        read.cache_clear()


#: Prints of what is built in, of all but the files.
BUILTIN = {
    "batch-renorm": "735d173c7f8d4229",
    "batchnorm": "7cc42f9aa4cf0da4",
    "batchnorm-no-affine": "c2e8dfcccb2ec4e9",
    "batchnorm-after": "5f1ffe0648501ae4",
    "layer-norm": "fe408ccd0a98045b",
    "layer-scaling": "6c8f2401c2a83787",
    "none": "89120a79179136c2",
    "online-norm": "8e3f12a6adfe67bc",
    "sync-batchnorm": "8a19beaf96ce5c62",
}


@pytest.fixture(autouse=True)
def untouched(tmp_path, monkeypatch):
    """Leave the path, the modules and the caches as they were."""
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    forget()
    yield
    forget()
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a file, or adds to it."""

    def put(name, text, mode="w"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open(mode, encoding="utf-8") as file:
            file.write(text)
        importlib.invalidate_caches()
        forget()
        return path

    return put


@pytest.fixture
def edit(write):
    """Return a function that edits a file, so that its meaning stays."""
    return lambda name: write(name, "\n# edited\n", "a")


@pytest.fixture
def distribution(write):
    """Return a function that writes a distribution's metadata, and forgets what was read of it."""

    def put(name, version, entry=""):
        write(f"{name}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        write(f"{name}.dist-info/top_level.txt", name)
        write(f"{name}.dist-info/entry_points.txt", f"[normbench]\n{name} = {entry}\n" if entry else "")

    return put


@pytest.fixture
def package(write, distribution):
    """Return a function that installs a package of two norms in files of their own; "one" is the text of the first."""

    def put(one, entry="ours"):
        write("ours/__init__.py", ENTRY)
        write("ours/layers/__init__.py", "")
        write("ours/layers/one.py", f"{one}\nraise RuntimeError('imported')\n")
        write("ours/layers/two.py", "import math\n")
        write("ours/layers/helper.py", "from . import deep\nraise RuntimeError('imported')\n")
        write("ours/layers/deep.py", "from .helper import anything\n")
        write("ours/layers/unrelated.py", "import torch\n")
        distribution("ours", "1.0", entry)

    return put


@pytest.fixture
def print_of():
    """Return a function that gives the print of a norm as the plugins offer it now."""
    return lambda name, *files: prints.norm_print(plugins.load(files).norms[name], {})


def _layer(site, groups=8, kind=None):
    raise NotImplementedError


@pytest.mark.parametrize("one", IMPORTS.values(), ids=IMPORTS)
@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("ours/layers/one.py", True),
        ("ours/layers/helper.py", True),
        ("ours/layers/deep.py", True),
        ("ours/layers/two.py", False),
        ("ours/layers/unrelated.py", False),
        ("ours/__init__.py", False),
    ],
)
def test_edited_file_of_a_package(package, edit, print_of, one, file, changes):
    """Editing a norm's file, or one of its package that it imports in any way, changes its print; no other does."""
    package(one)
    before = print_of("one")

    edit(file)

    assert changes == (before != print_of("one"))


def test_same_code_same_print(package, print_of):
    """A print is a short hash, and reading again gives the same."""
    package("from .helper import anything")

    first, second = print_of("one"), print_of("one")

    assert first == second
    assert 16 == len(first)
    assert int(first, 16) >= 0


def test_print_imports_nothing(package, print_of):
    """Taking the prints of every norm, built in as well, imports no module: here importing would raise."""
    package("import torch\nfrom .helper import anything")
    registry = plugins.load()
    before = set(sys.modules)

    found = {name: prints.norm_print(offered, {}) for name, offered in registry.norms.items()}
    found |= {name: prints.task_print(offered) for name, offered in registry.tasks.items()}

    assert before == set(sys.modules)
    assert [] == [name for name, value in found.items() if value is None]


def test_norms_of_one_package_are_independent(package, edit, print_of):
    """Editing one norm's file leaves the print of another norm of the package as it was."""
    package("import math")
    one, two = print_of("one"), print_of("two")

    edit("ours/layers/two.py")

    assert one == print_of("one")
    assert two != print_of("two")


def test_plugin_that_is_an_object(package, edit, write, print_of):
    """Where an entry point names an object of a module, the files of its package count all the same."""
    package("from .helper import anything", entry="ours:plugin")
    hook = "\nclass Plugin:\n    normbench_norms = staticmethod(normbench_norms)\n\nplugin = Plugin()\n"
    write("ours/__init__.py", hook, "a")
    before = print_of("one")

    edit("ours/layers/helper.py")

    assert before != print_of("one")


def test_helper_that_is_no_python(package, write, print_of):
    """A file with a mistake in it has a print like any other: the trial will say what is wrong."""
    package("from .helper import anything")
    write("ours/layers/helper.py", "def broken(:\n")
    before = print_of("one")

    write("ours/layers/helper.py", "def broken():\n")

    assert None not in (before, print_of("one"))
    assert before != print_of("one")


@pytest.mark.parametrize(
    ("edited", "changes"), [("my_norms.py", True), ("beside_it.py", True), ("not_imported.py", False)]
)
def test_edited_file_beside_a_single_file(write, edit, print_of, edited, changes):
    """Of `--plugin FILE.py`, the file counts and what it imports from beside it, and no other file of the folder."""
    hook = ENTRY.replace('"ours.layers.one:layer"', "layer").replace('"ours.layers.two:layer"', "layer")
    file = write("my_norms.py", "def layer(site):\n    import beside_it\n" + hook)
    for name in ("beside_it.py", "not_imported.py"):
        write(name, "import math\n")
    before = print_of("one", file)

    edit(edited)

    assert changes == (before != print_of("one", file))


@pytest.mark.parametrize("layer", ['"ours.layers.one:layer"', "otherlib.Layer", '"otherlib:Layer"'])
def test_other_librarys_version(package, distribution, write, edit, print_of, layer):
    """What comes from another library counts by its distribution's version, not by its files."""
    package("import otherlib")
    write("otherlib.py", "class Layer:\n    def __init__(self, site):\n        pass\n")
    write("ours/__init__.py", "import otherlib\n" + ENTRY.replace('"ours.layers.one:layer"', layer))
    distribution("otherlib", "1.0")
    before = print_of("one")

    edit("otherlib.py")
    edited = print_of("one")
    distribution("otherlib", "1.1")

    assert before == edited
    assert before != print_of("one")


def test_normbenchs_own_version_does_not_count(package, write, print_of, monkeypatch):
    """A new version of normbench alone trains nothing again; a new version of what a layer imports does."""
    package("import normbench.contract\nfrom normbench import Site")
    write("ours/layers/two.py", "from torch import nn")
    owners = {"normbench": ["normbench"], "torch": ["torch"]}
    monkeypatch.setattr(importlib.metadata, "packages_distributions", lambda: owners)
    before = print_of("one"), print_of("two")

    monkeypatch.setattr(importlib.metadata, "version", lambda name: "99")
    distributions.version_of.cache_clear()

    assert before[0] == print_of("one")
    assert before[1] != print_of("two")


@pytest.mark.parametrize(
    "changes",
    [
        {"placement": "after"},
        {"params": {"eps": 1e-3}},
        {"layouts": {"NC"}},
        {"traits": Traits(centres=True)},
        {"traits": lambda eps: Traits(scale_invariant=eps < 1)},
        {"layer": "ours.layers.one:other"},
    ],
    ids=["placement", "params", "layouts", "traits", "traits of parameters", "layer"],
)
def test_changed_description(package, changes):
    """A norm with another placement, default or claim is another one, though no file changed."""
    package("import math")
    offered = plugins.load().norms["one"]
    before = Offered(dataclasses.replace(offered.thing, params={"eps": 1e-5}), offered.plugin)

    after = Offered(dataclasses.replace(before.thing, **changes), offered.plugin)

    assert prints.norm_print(before, {}) != prints.norm_print(after, {})


@pytest.mark.parametrize("changes", [{"summary": "Other words"}, {"paper": "Somebody 2020"}], ids=str)
def test_changed_words(package, changes):
    """Other words about a norm train nothing again."""
    package("import math")
    offered = plugins.load().norms["one"]

    after = Offered(dataclasses.replace(offered.thing, **changes), offered.plugin)

    assert prints.norm_print(offered, {}) == prints.norm_print(after, {})


@pytest.fixture
def task():
    """Return a function that makes a task, valid but for what it is given."""

    def make(**changes):
        recipe = Recipe(rate=0.1, batch_size=8, epochs=1)
        given = {"recipe": recipe, "chance": 0.1, "reference": 0.9, "data": _layer, "network": _layer}
        return Task("toy", 1, summary="Toy", **given | changes)

    return make


@pytest.mark.parametrize(
    ("edited", "changes"), [("toy.py", True), ("toy_data.py", True), ("toy_loss.py", True), ("other.py", False)]
)
def test_edited_task(write, edit, task, edited, changes):
    """Editing any file that a task's functions come from changes the task's print."""
    for name in ("toy_data", "toy_loss", "other"):
        write(f"{name}.py", "import math\n")
    module = write("toy.py", "import toy_data\n")
    toy = task(data="toy_data:data", network="toy:network", loss="toy_loss:loss")
    imported = types.ModuleType("toy")
    imported.__file__ = str(module)
    offered = Offered(toy, Plugin("toy", str(module), module=imported))
    before = prints.task_print(offered)

    edit(edited)

    assert changes == (before != prints.task_print(offered))


def test_changed_task(task):
    """Other arguments of a task's functions, parameters and draws are another task; other words are not."""
    changes = [
        {},
        {"data": functools.partial(_layer, groups=4)},
        {"data": functools.partial(_layer, groups=2)},
        {"params": {"width": 3}},
        {"augment_draws": 2},
    ]

    found = [prints.task_print(Offered(task(**one), Plugin("toy", "toy"))) for one in changes]
    reworded = dataclasses.replace(task(), summary="Other words")

    assert len(changes) == len({*found} - {None})
    assert found[0] == prints.task_print(Offered(reworded, Plugin("toy", "toy")))


def test_same_print_in_another_process(print_of):
    """A print is the same in every process, however Python orders its sets there."""
    code = "from normbench import plugins, prints; print(prints.norm_print(plugins.load().norms['batchnorm'], {}))"

    found = printed_by(code)

    assert {print_of("batchnorm")} == found


def test_prints_of_what_is_stored_stay():
    """What normbench learns to ask of a norm changes no print: only an edit of its files does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prints, "_parts", lambda fn, home: {fn})

        found = {name: prints.norm_print(offered, {}) for name, offered in plugins.load().norms.items()}

    assert BUILTIN.items() <= found.items()

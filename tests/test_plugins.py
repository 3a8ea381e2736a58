"""The plugin host: a bad plugin costs only itself, and says what is wrong with it."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from normbench import plugins
from normbench.contract import CONTRACT, Norm, Probe
from normbench.errors import UsageError
from normbench.registry import ONLY, STRICT

HEAD = """
import normbench

def layer(site, groups=8):
    raise NotImplementedError

@normbench.hookimpl
def normbench_probes():
    return [normbench.Probe("their-probe", layer, summary="Theirs")]
"""

THEIRS = """
@normbench.hookimpl
def normbench_norms():
    yield normbench.Norm("theirs", layer, summary="Theirs")
"""


@pytest.fixture(autouse=True)
def untouched(tmp_path, monkeypatch):
    """Leave the session, the path and the modules as they were."""
    monkeypatch.delenv(ONLY, raising=False)
    monkeypatch.delenv(STRICT, raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    plugins.current.cache_clear()
    yield
    plugins._session.clear()
    plugins.current.cache_clear()
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Return a function that installs a distribution with one module and its entry point."""
    site = tmp_path / "site"
    site.mkdir()
    sys.path.insert(0, str(site))

    def put(module, source, *, entry=None, value=None):
        (site / f"{module}.py").write_text(dedent(source), encoding="utf-8")
        info = site / f"{module}_dist-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}-dist\nVersion: 1.2\n", encoding="utf-8")
        (info / "entry_points.txt").write_text(
            f"[normbench]\n{entry or module} = {value or module}\n", encoding="utf-8"
        )
        importlib.invalidate_caches()

    return put


@pytest.fixture
def norm():
    """Return a function that makes a norm of a name."""

    def make(name, summary="Made in this session"):
        return Norm(name, lambda site: None, summary=summary)

    return make


BAD = {
    "fails at import": (THEIRS + 'raise RuntimeError("no luck\\nhere")', "RuntimeError: no luck here"),
    "exits at import": (THEIRS + "import sys; sys.exit(3)", "SystemExit: 3"),
    "lacks a library": ("import no_such_library", "ModuleNotFoundError: No module named 'no_such_library'"),
    "is no Python": ("def normbench_norms(:", "SyntaxError: "),
    "exits in a hook": (THEIRS + "    raise SystemExit(4)", "SystemExit: 4"),
    "yields a wrong object": (
        THEIRS + "    yield 'group-norm'",
        "normbench_norms yielded 'group-norm'; it yields normbench.Norm objects",
    ),
    "yields one object": (
        THEIRS.replace("yield", "return"),
        "normbench_norms returned one Norm; it yields them, or returns a list",
    ),
    "yields no objects": (THEIRS.replace("yield", "return 3 #"), "normbench_norms yielded 3; it yields"),
    "misspells a hook": (
        THEIRS.replace("normbench_norms", "normbench_norm"),
        "no hook 'normbench_norm'; did you mean 'normbench_norms'",
    ),
    "takes what no hook gives": (THEIRS.replace("norms()", "norms(registry)"), "Argument(s) {'registry'}"),
    "takes another's name": (
        THEIRS + "    yield normbench.Norm('batchnorm', layer, summary='Mine')",
        "norm 'batchnorm' is registered by plugin 'builtin' already",
    ),
    "gives a name twice": (
        THEIRS + "    yield normbench.Norm('theirs', layer, summary='Again')",
        "normbench_norms yielded 'theirs' twice",
    ),
    "describes what can't be": (
        THEIRS + "    yield normbench.Norm('Theirs', layer, summary='Mine')",
        "ValueError: norm name 'Theirs': a name is lower-case",
    ),
    "brings no suite": (
        THEIRS
        + dedent("""
        @normbench.hookimpl
        def normbench_suites():
            from pathlib import Path
            yield normbench.SuiteFile(Path("nowhere.toml"))
        """),
        "nowhere.toml: there is no such file",
    ),
    "is written for a newer contract": (
        THEIRS + "NORMBENCH_CONTRACT = 1000",
        f"failed: it is written for contract 1000; this normbench has {CONTRACT}, and is too old for it; ",
    ),
    "declares no version": (
        THEIRS + "NORMBENCH_CONTRACT = '2'",
        f"failed: NORMBENCH_CONTRACT is '2'; it is a whole number from 1, here at most {CONTRACT}; ",
    ),
}


@pytest.mark.parametrize(("source", "words"), BAD.values(), ids=BAD)
def test_bad_plugin_costs_only_itself(install, source, words):
    """A plugin that fails is left out whole, named with its version, error and remedy; all others work."""
    install("ours", HEAD.replace("their-probe", "our-probe") + THEIRS.replace("theirs", "ours"))
    install("a_bad_one", HEAD + source)

    registry = plugins.load()

    assert ["a_bad_one"] == [plugin.name for plugin in registry.quarantined]
    [bad] = registry.quarantined
    assert words in str(bad)
    assert "\n" not in str(bad)
    assert str(bad).startswith("plugin a_bad_one 1.2 failed: ")
    assert str(bad).endswith("; to be rid of it: pip uninstall a_bad_one-dist")
    assert {"batchnorm", "ours"} <= set(registry.norms)
    assert "our-probe" in registry.probes
    assert "theirs" not in registry.norms
    assert "their-probe" not in registry.probes
    assert "a_bad_one" not in [plugin.name for plugin in registry.plugins]
    assert "builtin" == registry.norms["batchnorm"].plugin.name


@pytest.mark.parametrize(("source", "words"), BAD.values(), ids=BAD)
def test_asking_for_what_a_bad_plugin_offers(install, source, words):
    """Who asks for a norm of a plugin that failed reads why it failed, in the words of `normbench plugins`."""
    install("a_bad_one", HEAD + source)
    registry = plugins.load()

    with pytest.raises(UsageError) as refused:
        registry.norm("theirs", "--norm")

    assert str(refused.value).startswith("--norm: ")
    assert "norm 'theirs'" in str(refused.value)
    assert str(registry.quarantined[0]) in str(refused.value)


def test_good_plugin_is_registered(install):
    """What an installed plugin offers is found by name, with the plugin and its version."""
    install("ours", HEAD + THEIRS)

    registry = plugins.load()

    assert "Theirs" == registry.norm("theirs").summary
    plugin = registry.norms["theirs"].plugin
    assert ("ours", "ours-dist", "1.2") == (plugin.name, plugin.distribution, plugin.version)
    assert {"norms": ("theirs",), "probes": ("their-probe",)} == plugin.offers
    assert [] == registry.quarantined


def test_plugin_may_be_an_object_of_a_module(install):
    """An entry point may name an object whose methods are the hooks; its module is still known as the plugin's."""
    source = """
    import normbench

    class Plugin:
        @normbench.hookimpl
        def normbench_norms(self):
            yield normbench.Norm("theirs", "ours:layer", summary="Theirs")

    plugin = Plugin()
    """
    install("ours", source, value="ours:plugin")

    registry = plugins.load()

    assert "Theirs" == registry.norm("theirs").summary
    assert sys.modules["ours"] is registry.norms["theirs"].plugin.module


def test_two_plugins_of_one_name(install):
    """Of two distributions whose entry points have one name, the first stays, and the second is told to rename."""
    install("ours", HEAD + THEIRS, entry="same")
    install("others", HEAD.replace("their-probe", "other-probe") + THEIRS.replace("theirs", "others"), entry="same")

    registry = plugins.load()

    assert {"others"} == {"others", "theirs"} & set(registry.norms)
    assert ["ValueError: a plugin named 'same' is loaded already; a name is for one plugin"] == [
        plugin.error for plugin in registry.quarantined
    ]
    assert "pip uninstall ours-dist" == registry.quarantined[0].remedy


def test_same_name_of_another_kind(install):
    """A probe may have the name that a norm has: names are unique within a kind."""
    install("ours", HEAD.replace("their-probe", "batchnorm") + THEIRS)

    registry = plugins.load()

    assert [] == registry.quarantined
    assert {"batchnorm"} == {"batchnorm"} & set(registry.norms) & set(registry.probes)


@pytest.mark.parametrize(
    ("only", "expected"), [("ours", {"ours"}), (" builtin , ours", {"builtin", "ours"}), ("", set()), ("none", set())]
)
def test_only_the_plugins_named(install, monkeypatch, only, expected):
    """NORMBENCH_PLUGINS loads only the plugins it names; empty, it loads none."""
    install("ours", HEAD + THEIRS)
    install("a_bad_one", "raise RuntimeError")
    monkeypatch.setenv(ONLY, only)

    registry = plugins.load()

    assert expected == {plugin.name for plugin in registry.plugins}
    assert [] == registry.quarantined


def test_missing_norm_says_what_was_left_out(monkeypatch):
    """Where NORMBENCH_PLUGINS leaves plugins out, a norm that is missing is refused with a word of it."""
    monkeypatch.setenv(ONLY, "")

    with pytest.raises(UsageError, match=r"no norm 'batchnorm'.*NORMBENCH_PLUGINS= leaves out other plugins"):
        plugins.load().norm("batchnorm")


@pytest.mark.parametrize("strict", ["1", "0", ""])
def test_strict_mode(install, monkeypatch, strict):
    """NORMBENCH_STRICT_PLUGINS=1 makes a plugin that failed a mistake of the user's; 0 and empty do not."""
    install("a_bad_one", "raise RuntimeError('no luck')")
    monkeypatch.setenv(STRICT, strict)

    try:
        message = f"went on with {len(plugins.current().quarantined)}"
    except UsageError as error:
        message = str(error)

    expected = (
        "plugin a_bad_one 1.2 failed: RuntimeError: no luck; to be rid of it: pip uninstall a_bad_one-dist "
        "(NORMBENCH_STRICT_PLUGINS is set)"
    )
    assert (expected if strict == "1" else "went on with 1") == message


def test_unknown_name_has_the_nearest():
    """A name with a typo is refused with the nearest one, after the place where it stands."""
    with pytest.raises(UsageError) as refused:
        plugins.load().norm("bacthnorm", "suite quick: norms")

    assert str(refused.value).startswith("suite quick: norms: no norm 'bacthnorm'; did you mean 'batchnorm")


def test_file_as_a_plugin(tmp_path):
    """`--plugin FILE.py` registers what the file offers, and what the file imports from beside it is found."""
    (tmp_path / "beside_my_norms.py").write_text("NAME = 'theirs'", encoding="utf-8")
    file = tmp_path / "my_norms.py"
    source = HEAD + THEIRS.replace("'theirs'", "NAME")
    file.write_text("from beside_my_norms import NAME\n" + source, encoding="utf-8")

    registry = plugins.load([file])

    assert [] == registry.quarantined
    assert "Theirs" == registry.norm("theirs").summary
    assert ("my_norms", str(file)) == (registry.plugins[-1].name, registry.plugins[-1].origin)


def test_file_for_a_newer_contract(tmp_path):
    """A file that was written for a newer contract is refused, with both versions."""
    file = tmp_path / "my_norms.py"
    file.write_text(HEAD + THEIRS + "NORMBENCH_CONTRACT = 1000\n", encoding="utf-8")

    with pytest.raises(UsageError, match=rf"plugin {file}: it is written for contract 1000; this normbench has \d+,"):
        plugins.load([file])


@pytest.mark.parametrize(("declares", "expected"), [("", None), ("NORMBENCH_CONTRACT = 1", 1)])
def test_version_of_the_contract_that_a_plugin_declares(install, declares, expected):
    """A plugin may declare an older version, or none."""
    install("ours", HEAD + THEIRS + declares)

    registry = plugins.load()

    assert expected == registry.norms["theirs"].plugin.contract


def test_file_given_by_a_relative_path(tmp_path, monkeypatch):
    """A file may be given relative to the current folder, and again later, from another folder."""
    (tmp_path / "my_norms.py").write_text(HEAD + THEIRS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    first = plugins.load([Path("my_norms.py")])

    monkeypatch.chdir("/")
    again = plugins.load([tmp_path / "my_norms.py"])

    assert [[], []] == [first.quarantined, again.quarantined]
    assert first.norm("theirs").layer is again.norm("theirs").layer


def test_file_given_twice(tmp_path):
    """A file given twice, however it is spelled, is one plugin."""
    file = tmp_path / "my_norms.py"
    file.write_text(HEAD + THEIRS, encoding="utf-8")

    registry = plugins.load([file, tmp_path / ".." / tmp_path.name / "my_norms.py"])

    assert [] == registry.quarantined
    assert ["my_norms"] == [plugin.name for plugin in registry.plugins if not plugin.distribution]


#: Lists of entry points that can't be read, and what is said of each.
UNREADABLE = {
    "no text": (b"[normbench]\nmine = \xff\n", "UnicodeDecodeError"),
    "no value": (b"[normbench]\nmine mine\n", "mine mine"),
    "no end of a section": (b"[normbench\nmine = mine\n", "[normbench"),
}


@pytest.mark.parametrize(("content", "words"), UNREADABLE.values(), ids=UNREADABLE)
def test_a_list_of_entry_points_that_cannot_be_read_is_named(install, tmp_path, content, words):
    """A distribution whose entry_points.txt is damaged is in quarantine, with the reason; everything else works."""
    install("ours", HEAD + THEIRS)
    install("mine", HEAD)
    (tmp_path / "site" / "mine_dist-1.2.dist-info" / "entry_points.txt").write_bytes(content)

    registry = plugins.load()

    [bad] = registry.quarantined
    assert str(bad).startswith("plugin mine-dist 1.2 failed: its entry_points.txt can't be read (")
    assert words in bad.error
    assert {"batchnorm", "theirs"} <= set(registry.norms)


def test_file_that_is_missing(tmp_path):
    """`--plugin` of a file that is not there is refused, naming the file."""
    with pytest.raises(UsageError, match=r"plugin .*missing\.py: there is no such file"):
        plugins.load([tmp_path / "missing.py"])


@pytest.mark.parametrize("name", ["ours.py", "json.py", "my-norms v1.2.py"])
def test_file_of_any_name(tmp_path, install, name):
    """A file may have the name of an installed module, or one that Python could not import: nobody else imports it."""
    install("ours", "raise RuntimeError('imported')", entry="other", value="no_such_module")
    (tmp_path / name).write_text(HEAD + THEIRS, encoding="utf-8")

    registry = plugins.load([tmp_path / name])

    assert ["other"] == [plugin.name for plugin in registry.quarantined]
    assert "Theirs" == registry.norm("theirs").summary
    assert json is sys.modules["json"]


def test_file_that_fails_can_be_mended(tmp_path):
    """A file that fails is an error; mended, it loads in the same session."""
    file = tmp_path / "my_norms.py"
    file.write_text("raise RuntimeError('no luck')", encoding="utf-8")
    with pytest.raises(UsageError, match=r"my_norms\.py, line 1: RuntimeError: no luck"):
        plugins.load([file])

    file.write_text(HEAD + THEIRS + "# mended, and of another length\n", encoding="utf-8")
    mended = plugins.load([file])

    assert "Theirs" == mended.norm("theirs").summary


def test_register_in_a_session(norm):
    """A registered norm is there at once, beside what plugins offer."""
    plugins.current()

    plugins.register(norm("mine"))

    assert {"mine", "batchnorm"} <= set(plugins.current().norms)
    assert "session" == plugins.current().norms["mine"].plugin.name


def test_register_again_replaces(norm):
    """A second norm of the same name replaces the first: in a notebook a cell is run again."""
    plugins.register(norm("mine", "First"))
    plugins.register(norm("other"))

    plugins.register(norm("mine", "Second"))

    assert "Second" == plugins.current().norm("mine").summary
    assert "other" in plugins.current().norms


def test_register_a_probe_of_a_norms_name(norm):
    """A norm and a probe of one name stand side by side."""
    plugins.register(norm("mine"))

    plugins.register(Probe("mine", lambda network: None, summary="Watches"))

    assert {"mine"} == {"mine"} & set(plugins.current().norms) & set(plugins.current().probes)


@pytest.mark.parametrize("strict", ["", "1"])
def test_register_a_name_that_is_taken(norm, monkeypatch, strict):
    """The name of a built-in norm is refused, naming the plugin that has it; the session stays as it was."""
    monkeypatch.setenv(STRICT, strict)
    plugins.register(norm("mine"))

    with pytest.raises(UsageError, match="norm 'batchnorm' is registered by plugin 'builtin' already"):
        plugins.register(norm("batchnorm"))

    assert "mine" in plugins.current().norms
    assert "builtin" == plugins.current().norms["batchnorm"].plugin.name
    assert [] == plugins.current().quarantined


def test_listing_imports_nothing_slow():
    """Loading every plugin imports neither torch nor what stands on it."""
    code = "import sys; from normbench import plugins; plugins.load(); print(*sys.modules)"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    modules = set(done.stdout.split())

    assert "normbench_plugins" in modules
    assert set() == {"torch", "pytorch_lightning", "torchvision", "scipy", "sklearn", "matplotlib"} & modules


def test_register_anything_else(norm):
    """What is no norm, task or probe is refused, not passed over in silence."""
    with pytest.raises(UsageError, match=r"register takes a normbench\.Norm, Task or Probe, not 'mine'"):
        plugins.register("mine")


def test_function_that_only_looks_like_a_hook(install):
    """A hook without its marker would register nothing, in silence; it is named."""
    install("ours", "def normbench_norms():\n    return []\n")

    registry = plugins.load()

    assert "normbench_norms is no hook without @normbench.hookimpl" in registry.quarantined[0].error


PRINTING = """
import os, sys
print("printed")
sys.stdout.write("written\\n")
os.write(1, b"past Python\\n")
os.system("echo by a program")
"""


@pytest.mark.parametrize("where", ["import", "hook"])
def test_what_a_plugin_prints_goes_to_stderr(install, capfd, where):
    """A command's result alone is on stdout; afterwards it is as it was."""
    in_hook = HEAD + THEIRS + PRINTING.replace("\n", "\n    ")
    install("ours", HEAD + PRINTING if where == "import" else in_hook)

    registry = plugins.load()
    print("the result")

    out, err = capfd.readouterr()
    assert [] == registry.quarantined
    assert "the result\n" == out
    assert ["by a program", "past Python", "printed", "written"] == sorted(err.splitlines())


@pytest.mark.parametrize("ending", ["", "\nraise RuntimeError('no luck')"])
def test_what_a_plugin_changes_is_put_back_and_named(install, monkeypatch, ending):
    """A plugin's import touches no other; who did it is said, also where it then fails."""
    monkeypatch.delenv("THEIRS", raising=False)
    install("ours", HEAD + "import os\nos.environ['THEIRS'] = '1'\nos.chdir('/')" + ending)
    before = Path.cwd()

    registry = plugins.load()

    expected = "plugin 'ours' changed the environment variable THEIRS and the working directory as it was loaded, which"
    assert [f"{expected} was put back"] == registry.notes
    assert (before, None) == (Path.cwd(), os.environ.get("THEIRS"))
    assert bool(ending) == bool(registry.quarantined)


def test_only_some_plugins_are_loaded(install, tmp_path):
    """A worker loads those of what it trains, by name, and what is built in."""
    for name in ("ours", "others"):
        install(name, f"open({str(tmp_path / name)!r}, 'w')\n" + HEAD.replace("their-probe", name))
    (tmp_path / "my_norms.py").write_text("raise RuntimeError", encoding="utf-8")

    registry = plugins.load([tmp_path / "my_norms.py"], ["ours", "builtin"])

    assert (True, False) == ((tmp_path / "ours").exists(), (tmp_path / "others").exists())
    assert {"builtin", "ours", "suites"} <= {plugin.name for plugin in registry.plugins}
    assert [] == registry.quarantined

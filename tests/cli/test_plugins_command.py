"""`normbench plugins`: which were found, what each offers, and which failed, with the remedy."""

import pytest

BAD = {
    "raises": ("raise RuntimeError('no luck')", "RuntimeError: no luck"),
    "is no Python": ("def normbench_norms(:", "SyntaxError: "),
    "misspells a hook": (
        "import normbench\n@normbench.hookimpl\ndef normbench_norm():\n    return []",
        "no hook 'normbench_norm'; did you mean 'normbench_norms'",
    ),
    "yields a name": (
        "import normbench\n@normbench.hookimpl\ndef normbench_norms():\n    yield 'mine'",
        "normbench_norms yielded 'mine'; it yields normbench.Norm objects",
    ),
    "takes a name": (
        "import normbench\n@normbench.hookimpl\ndef normbench_norms():\n"
        "    yield normbench.Norm('none', lambda site: None, summary='Mine')",
        "norm 'none' is registered by plugin 'builtin' already",
    ),
}


def test_what_is_built_in_is_a_plugin_as_well(normbench):
    """The built-in norms, tasks, probes and suites are listed by plugin, with the distribution and its version."""
    ran = normbench("plugins")

    assert (0, "") == (ran.status, ran.err)
    assert "builtin  normbench " in ran.out
    assert {"batchnorm", "batchnorm-after", "layer-norm", "none"} <= offered(ran.out, "norms")
    assert "digits-cnn" in offered(ran.out, "tasks")
    assert "quick" in offered(ran.out, "suites")
    assert "FAILED" not in ran.out


def offered(text, kind):
    """Return what a list of plugins says is offered of a kind."""
    lines = [line.partition(": ") for line in text.splitlines()]
    return {name for head, _, names in lines if head == f"    {kind}" for name in names.split(", ")}


def test_a_file_is_a_plugin(normbench, plugin):
    """--plugin FILE.py is listed with its file and what it offers."""
    file = plugin("mine", "return x")

    ran = normbench("plugins", "--plugin", file, "--json")

    [found] = [found for found in ran.json["plugins"] if found["name"] == "mine_of_the_tests"]
    assert {"norms": ["mine"]} == found["offers"]
    assert (str(file), None) == (found["origin"], found["contract"])
    assert [] == ran.json["quarantined"]


def test_the_contract_that_a_plugin_declares(normbench, plugin):
    """A plugin that declares which version of the contract it was written for is listed with it."""
    file = plugin("mine", "return x")
    file.write_text(f"{file.read_text()}\n\nNORMBENCH_CONTRACT = 1\n")

    text, listed = normbench("plugins", "--plugin", file), normbench("plugins", "--plugin", file, "--json").json

    assert f"mine_of_the_tests  {file}, for contract 1\n" in text.out
    assert 1 == listed["plugins"][-1]["contract"]


@pytest.mark.parametrize(("source", "words"), BAD.values(), ids=BAD)
def test_a_plugin_that_failed_is_listed_with_reason_and_remedy(normbench, installed, source, words):
    """What failed, why, and how to be rid of it is part of the list; everything else is there, exit status 0."""
    installed("a_bad_plugin", source)

    ran = normbench("plugins")

    assert (0, "") == (ran.status, ran.err)
    failed, reason, remedy = ran.out.splitlines()[-3:]
    assert "a_bad_plugin  a_bad_plugin 1.0 FAILED" == failed
    assert words in reason
    assert "    to be rid of it: pip uninstall a_bad_plugin" == remedy
    assert "quick" in offered(ran.out, "suites")


def test_json_has_what_failed(normbench, installed):
    """--json lists failed plugins apart, with error and remedy."""
    installed("a_bad_plugin", "raise RuntimeError('no luck')")

    ran = normbench("plugins", "--json")

    [bad] = ran.json["quarantined"]
    assert "RuntimeError: no luck" == bad["error"]
    assert ("a_bad_plugin", "pip uninstall a_bad_plugin") == (bad["name"], bad["remedy"])
    assert {"builtin", "suites"} <= {found["name"] for found in ran.json["plugins"]}


@pytest.mark.parametrize(("strict", "status"), [("1", 2), ("0", 0), ("", 0)])
def test_strict_is_exit_status_2_and_the_list(normbench, installed, monkeypatch, strict, status):
    """NORMBENCH_STRICT_PLUGINS=1, for CI, still lists everything."""
    installed("a_bad_plugin", "raise RuntimeError('no luck')")
    monkeypatch.setenv("NORMBENCH_STRICT_PLUGINS", strict)

    ran = normbench("plugins")

    assert status == ran.status
    assert "a_bad_plugin  a_bad_plugin 1.0 FAILED" in ran.out


def test_strict_is_content_where_nothing_failed(normbench, monkeypatch):
    """Strict mode without a failed plugin is exit status 0."""
    monkeypatch.setenv("NORMBENCH_STRICT_PLUGINS", "1")

    assert 0 == normbench("plugins").status


@pytest.mark.parametrize(
    ("source", "begins", "words"),
    [
        (
            BAD["takes a name"][0] + "\n    yield normbench.Norm('mine', lambda site: None, summary='Mine')",
            "normbench: --norm: norm 'mine': plugin a_bad_plugin 1.0 failed: ",
            BAD["takes a name"][1],
        ),
        (
            *BAD["raises"][:1],
            "normbench: --norm: no norm 'mine'; ",
            "plugin a_bad_plugin 1.0 failed: RuntimeError: no luck",
        ),
    ],
    ids=["known to be its", "perhaps its"],
)
def test_a_run_that_asks_for_a_failed_plugins_norm_is_refused(normbench, installed, source, begins, words):
    """The refusal repeats in one line why the plugin failed, and how to be rid of it."""
    installed("a_bad_plugin", source)

    ran = normbench("run", "quick", "--norm", "mine")

    assert (2, "") == (ran.status, ran.out)
    assert ran.err.startswith(begins)
    assert words in ran.err
    assert "pip uninstall a_bad_plugin" in ran.err
    assert 1 == ran.err.count("\n")


def test_a_run_with_a_failed_plugin_trains_the_rest(small, installed):
    """A bad plugin that nobody asked for is named on stderr, and the run is done."""
    installed("a_bad_plugin", "raise RuntimeError('no luck')")

    ran = small("--norm", "none")

    assert 0 == ran.status
    assert ran.err.startswith("normbench: plugin a_bad_plugin 1.0 failed: RuntimeError: no luck; ")
    assert "1  none" in ran.out

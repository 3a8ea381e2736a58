"""`normbench list`: what the plugins at hand offer, a bad one among them or not."""

import json
from pathlib import Path

import pytest

NAMES = {
    "norms": ["batchnorm", "batchnorm-no-affine", "batchnorm-after", "layer-norm", "none"],
    "tasks": ["digits-cnn"],
    "suites": ["quick"],
    "probes": ["activity", "gradients", "moments"],
    "executors": ["processes", "ray", "serial"],
}


@pytest.mark.parametrize("kind", NAMES)
def test_what_is_built_in_is_listed(normbench, kind):
    """Each kind is listed by name, a summary beside it."""
    ran = normbench("list", kind)

    assert (0, "") == (ran.status, ran.err)
    heads = [line.split()[0] for line in ran.out.splitlines() if not line.startswith(" ")]
    assert set(NAMES[kind]) <= set(heads)


@pytest.mark.parametrize("kind", NAMES)
def test_json_has_the_same(normbench, kind):
    """--json has the same names, each with its summary and the plugin that brings it."""
    ran = normbench("list", kind, "--json")

    entries = {entry["name"]: entry for entry in ran.json[kind]}
    assert {"schema", kind} == set(ran.json)
    assert set(NAMES[kind]) <= set(entries)
    assert all(entries[name]["summary"] and entries[name]["plugin"] for name in NAMES[kind])


def test_parameters_and_their_defaults(normbench):
    """Of a norm that is named, parameters are listed as a user would write them, beside what each takes."""
    ran = normbench("list", "norms", "group-norm", "none")

    group, none = (line for line in ran.out.splitlines() if not line.startswith(" "))
    assert ["group-norm", "none"] == [group.split()[0], none.split()[0]]
    assert "  groups=8     a whole number from 1\n  eps=1e-05    a number above 0\n  affine=true\n" in ran.out


def test_a_task_lists_its_recipe(normbench):
    """A task's version, recipe, chance and reference are listed."""
    ran = normbench("list", "tasks", "--json")

    [task] = [task for task in ran.json["tasks"] if task["name"] == "digits-cnn"]
    assert {"rate": 0.1, "batch_size": 64, "epochs": 6, "momentum": 0.9} == task["recipe"]
    assert (1, 0.1, "up") == (task["version"], task["chance"], task["better"])


def test_a_suite_lists_its_grid(normbench):
    """A suite's tasks, norms, rates and seeds are listed."""
    ran = normbench("list", "suites", "--json")

    [suite] = [suite for suite in ran.json["suites"] if suite["name"] == "quick"]
    assert [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0] == suite["rates"]
    assert (["digits-cnn"], 5, 3) == (suite["tasks"], len(suite["norms"]), suite["seeds"])


def test_lines_fit_the_terminal(normbench, monkeypatch):
    """At 60 columns everything is wrapped."""
    monkeypatch.setenv("COLUMNS", "60")

    ran = normbench("list", "norms", "batch-renorm", "batchnorm")

    assert max(len(line) for line in ran.out.splitlines()) <= 60


def test_a_file_joins_the_list(normbench, plugin):
    """--plugin FILE.py lists the norm of that file beside the others."""
    ran = normbench("list", "norms", "--plugin", plugin("mine", "return x"), "--json")

    listed = {norm["name"]: norm for norm in ran.json["norms"]}
    assert {"mine", *NAMES["norms"]} <= set(listed)
    assert "mine_of_the_tests" == listed["mine"]["plugin"]


DEFAULTS = """
import normbench
from torch import nn


def relu(x):
    return x


def layer(site, act=nn.ReLU, fn=relu, most=float("inf"), shape=(1, 2), clip=None, both=(nn.ReLU, 1)):
    return nn.Identity()


@normbench.hookimpl
def normbench_norms():
    yield normbench.Norm("odd", layer, summary="Has defaults of all kinds")
"""


def test_defaults_that_toml_or_json_has_not(normbench):
    """Classes and functions are listed by name, infinity by its word, a tuple as an array."""
    Path("odd_defaults.py").write_text(DEFAULTS)

    text = normbench("list", "norms", "odd", "--plugin", "odd_defaults.py")
    listed = normbench("list", "norms", "--plugin", "odd_defaults.py", "--json").json["norms"]

    [odd] = [norm for norm in listed if norm["name"] == "odd"]
    expected = {"act": "ReLU", "fn": "relu", "most": "inf", "shape": [1, 2], "clip": None, "both": ["ReLU", 1]}
    assert expected == odd["parameters"]
    assert "act=ReLU fn=relu most=inf shape=[1, 2] clip=null both=tuple" in " ".join(text.out.split())


def test_a_norm_that_is_always_trained_anew_is_named(normbench):
    """A function as a default has no value by which a print could tell it: a plan says so, and why."""
    Path("odd_defaults.py").write_text(DEFAULTS)

    planned = normbench("plan", "quick", "--no-time", "--norm", "odd", "--norm", "none", "--plugin", "odd_defaults.py")

    assert (
        "normbench: norm 'odd' is trained anew by every run: the default of its parameter 'fn' is a function, "
        "and not a value or a name\n"
    ) == planned.err


def test_a_plugin_that_failed_is_named_and_the_rest_listed(normbench, installed):
    """A bad plugin costs only itself: stderr names it, stdout has all the others."""
    installed("a_bad_plugin", "def normbench_norms(:")

    ran = normbench("list", "norms", "--json")

    assert 0 == ran.status
    assert ran.err.startswith("normbench: plugin a_bad_plugin 1.0 failed: SyntaxError: ")
    assert "; to be rid of it: pip uninstall a_bad_plugin\n" in ran.err
    assert set(NAMES["norms"]) <= {norm["name"] for norm in json.loads(ran.out)["norms"]}


def test_strict_refuses_where_a_plugin_failed(normbench, installed, monkeypatch):
    """With NORMBENCH_STRICT_PLUGINS=1 a listing with a bad plugin is exit status 2, in one line."""
    installed("a_bad_plugin", "import nothing_of_this_name")
    monkeypatch.setenv("NORMBENCH_STRICT_PLUGINS", "1")

    ran = normbench("list", "norms")

    assert (2, "") == (ran.status, ran.out)
    assert "ModuleNotFoundError" in ran.err
    assert ran.err.endswith("(NORMBENCH_STRICT_PLUGINS is set)\n")
    assert 1 == ran.err.count("\n")


def test_only_the_plugins_asked_for(normbench, monkeypatch):
    """NORMBENCH_PLUGINS leaves out all others, and a norm that is missing says why."""
    monkeypatch.setenv("NORMBENCH_PLUGINS", "suites")

    listed, missed = normbench("list", "norms", "--json"), normbench("plan", "quick", "--no-time")

    assert [] == listed.json["norms"]
    assert 2 == missed.status
    assert "NORMBENCH_PLUGINS=suites leaves out other plugins" in missed.err


DECLARED = """
from typing import Annotated, Literal

import msgspec
import normbench
from torch import nn


def layer(site, p="2", eps=1e-5):
    return nn.Identity()


def network(place, recipe, classes=4):
    raise NotImplementedError


@normbench.hookimpl
def normbench_norms():
    types = {"p": Literal["1", "2", "max"], "eps": Annotated[float, msgspec.Meta(gt=0)]}
    yield normbench.Norm("p-norm", layer, summary="Divides by a p-norm", types=types)


@normbench.hookimpl
def normbench_tasks():
    given = {"params": {"classes": 4}, "types": {"classes": Annotated[int, msgspec.Meta(ge=2)]}}
    given |= {"recipe": normbench.Recipe(rate=0.1, batch_size=8, epochs=1), "data": network, "network": network}
    yield normbench.Task(
        "guessed", 1, summary="Guess", chance="beside_declared:chance", reference=1.0, **given
    )


@normbench.hookimpl
def normbench_executors():
    run = lambda packs, on_outcome, order="any": None
    yield normbench.Executor("orderly", run, summary="In order", types={"order": Literal["any", "first"]})


@normbench.hookimpl
def normbench_claims():
    yield normbench.Claim(
        "it-helps", statement="It helps", sources=["Wu & He 2018"], effect="no_such_module:effect", unit="points"
    )
"""

GUESSED = """
name = "mine"
summary = "One task"
tasks = ["guessed"]
norms = ["none"]
rates = [0.1]
seeds = 1
"""


@pytest.fixture
def declared():
    """Write a plugin whose norm declares types, whose task's chance depends on a parameter, and that has a claim."""
    Path("declared.py").write_text(DECLARED)
    Path("beside_declared.py").write_text("def chance(classes):\n    return 1 / classes\n")
    return ("--plugin", "declared.py")


def test_what_parameters_of_a_declared_type_take(normbench, declared):
    """What a declared type allows is listed in words, beside the defaults."""
    text = normbench("list", "norms", "p-norm", *declared)
    listed = {norm["name"]: norm for norm in normbench("list", "norms", *declared, "--json").json["norms"]}

    words = 'p="2" one of "1", "2", "max" eps=1e-05 a number above 0 placement before'
    assert words in " ".join(text.out.split())
    assert {"p": 'one of "1", "2", "max"', "eps": "a number above 0"} == listed["p-norm"]["allowed"]
    assert {} == listed["none"]["allowed"]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (("quick", "--norm", "p-norm(p=3)"), '--norm: p-norm: p is 3; it takes one of "1", "2", "max"'),
        (("quick", "--norm", "p-norm(eps=0)"), "--norm: p-norm: eps is 0; it takes a number above 0"),
        (("guessed.toml",), "guessed.toml: tasks: guessed: classes is 1; it takes a whole number from 2"),
        (
            ("quick", "--executor", "orderly(order='last')"),
            '--executor orderly: order is \'last\'; it takes one of "any", "first"',
        ),
    ],
)
def test_a_value_of_no_declared_type_is_refused(normbench, declared, asked, words):
    """A value that the declared type does not allow is exit status 2, in one line."""
    Path("guessed.toml").write_text(GUESSED.replace("guessed", "guessed(classes=1)"))

    ran = normbench("run", *asked, *declared)

    assert (2, "") == (ran.status, ran.out)
    assert words in ran.err
    assert 1 == ran.err.count("\n")


def test_a_chance_that_depends_on_parameters(normbench, declared):
    """A task is listed with its chance at the defaults, and that it depends on parameters."""
    text = normbench("list", "tasks", "guessed", *declared)
    listed = {task["name"]: task for task in normbench("list", "tasks", *declared, "--json").json["tasks"]}

    assert "chance 0.25 reference 1.0 by parameters chance better up" in " ".join(text.out.split())
    assert (0.25, 1.0, ["chance"]) == tuple(
        listed["guessed"][key] for key in ("chance", "reference", "depend_on_parameters")
    )
    assert [] == listed["digits-cnn"]["depend_on_parameters"]


def test_a_chance_that_fails(normbench, declared):
    """A chance that can't be computed costs a listing no other task, and ends a plan; one line names it."""
    Path("beside_declared.py").write_text("def chance(classes):\n    return 1 / (classes - 4)\n")
    Path("guessed.toml").write_text(GUESSED)
    why = "raised ZeroDivisionError: division by zero"
    line = f"normbench: task guessed: its chance, a function of its parameters, {why}\n"

    listed, planned = normbench("list", "tasks", *declared), normbench("plan", "guessed.toml", "--no-time", *declared)

    assert (0, line) == (listed.status, listed.err)
    assert {"digits-cnn", "guessed"} <= {row.split()[0] for row in listed.out.splitlines() if not row.startswith(" ")}
    assert (2, "", line) == (planned.status, planned.out, planned.err)


def test_claims_are_listed(normbench, declared):
    """A claim is listed with its statement; its effect is not looked at, and without one there is none."""
    text = normbench("list", "claims", "it-helps", *declared)
    listed = normbench("list", "claims", *declared, "--json")

    said = "it-helps It helps sources Wu & He 2018 rule more margin 0.0 unit points plugin declared"
    assert said == " ".join(text.out.split())
    [claim] = listed.json["claims"]
    assert ("It helps", ["Wu & He 2018"], "more") == (claim["summary"], claim["sources"], claim["rule"])
    assert "no claims\n" == normbench("list", "claims").out

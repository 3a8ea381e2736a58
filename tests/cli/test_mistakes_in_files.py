"""Mistakes of users in files, suites and plugins: each is one line with the file and the key or line, and status 2."""

from __future__ import annotations

from pathlib import Path

import pytest

from normbench.execute import Request
from normbench.recipe import CHOICES
from normbench.suites import RECIPE_VALUES


def recipe_values():
    """Yield for each value of a recipe a wrong type, and a wrong value, where a suite or the command line has it."""
    for name in sorted(RECIPE_VALUES):
        yield f"--set {name}: table", ["plan", "quick", "--set", f"{name}={{}}"], name
        yield f"--set {name}: no TOML", ["plan", "quick", "--set", f"{name}=so"], name
        wrong = '"so"' if name in CHOICES or name == "milestones" else "-1"
        yield f"--set {name}: range", ["plan", "quick", "--set", f"{name}={wrong}"], name
        yield f"--set {name}: typo", ["plan", "quick", "--set", f"{name}z=1"], f"{name}z"
        yield f"[fix] {name}", suite(f"[fix]\n{name} = {{}}"), name
        yield f"[vary] {name}: no list", suite(f"[vary]\n{name} = {wrong}"), f"[vary] {name}"
        yield f"[vary] {name}: range", suite(f"[vary]\n{name} = [{wrong}]"), name
        yield f"[tune] {name}: range", suite(f"[tune]\n{name} = [{wrong}]"), name


#: Suites that tests write, by the names of their files.
SUITES: dict[str, str] = {}
SUITE = {
    "name": '"mine"',
    "summary": '"A suite of the tests"',
    "tasks": '["digits-cnn"]',
    "norms": '["batchnorm"]',
    "rates": "[0.1]",
}


def suite(rest: str = "", **keys: str | None) -> Request:
    """Return what asks for a suite: of one task, norm and rate, with these keys instead, and more below."""
    lines = [f"{key} = {value}" for key, value in {**SUITE, **keys}.items() if value is not None]
    return written("\n".join([*lines, rest]))


def written(text: str) -> Request:
    file = f"suite-{len(SUITES)}.toml"
    SUITES[file] = text
    return Request(file)


def planned(request: Request, *options: str) -> list[str]:
    return ["plan", request.suite, *options]


PUBLISHED = '[published.digits-cnn]\nsource = "a"\nsetting = "b"\nscores = {scores}\n'
BY_HAND = {
    "key": (planned(suite("seed = 3")), "no key 'seed'; did you mean 'seeds'"),
    "table": (suite("[fixed]"), "no key 'fixed'; did you mean 'fix'"),
    "nothing": (planned(written("")), "missing required field"),
    "not TOML": (planned(written('name = "')), "not TOML"),
    "twice a key": (suite(name='"mine"\nname = "yours"'), "not TOML"),
    **{f"without {key}": (suite(**{key: None}), key) for key in SUITE},
    **{f"{key} a number": (suite(**{key: "5"}), f"{key}: expected") for key in SUITE if key != "rates"},
    "rates a number": (suite(rates="5"), "rates: expected"),
    "rates a text": (suite(rates='"0.1"'), "rates: expected"),
    "rates of texts": (suite(rates='["0.1"]'), "rates"),
    "a rate of 0": (suite(rates="[0]"), "rates[0] is 0"),
    "rates by task, a number": (suite(rates="{ digits-cnn = 1 }"), "rates.digits-cnn is 1; a grid is a list"),
    "rates relative to what": (suite(rates="{ digits-cnn = { times = [1] } }"), "no key 'times'"),
    "name with a slash": (suite(name='"a/b"'), "name is 'a/b'; it is letters, digits and hyphens"),
    "name of dots": (suite(name='".."'), "name is '..'"),
    "name empty": (suite(name='""'), "name is ''"),
    "tasks none": (suite(tasks="[]"), "tasks is empty; name at least one"),
    "task": (planned(suite(tasks='["digits-cn"]')), "no task 'digits-cn'; did you mean 'digits-cnn'"),
    "task twice": (suite(tasks='["digits-cnn", "digits-cnn"]'), "'digits-cnn' twice"),
    "task's parameter": (suite(tasks='["digits-cnn(samples=1)"]'), "no parameter 'samples'"),
    "task a number": (suite(tasks="[5]"), "tasks"),
    "norms none": (suite(norms="[]"), "norms is empty; name at least one"),
    "norm of a suite": (planned(suite(norms='["layernorm"]')), "norms: no norm 'layernorm'; did you mean 'layer-norm'"),
    "norm a number": (suite(norms="[5]"), "norms"),
    "norm's table": (suite(norms="[{ eps = 1.0 }]"), 'a table of a norm has norm = "name"'),
    "norm's name a number": (suite(norms="[{ norm = 5 }]"), 'a table of a norm has norm = "name"'),
    "label a number": (suite(norms='[{ norm = "none", label = 5 }]'), "and perhaps a label"),
    "norm's parameter": (suite(norms='[{ norm = "batchnorm", ep = 1.0 }]'), "no parameter 'ep'; did you mean 'eps'"),
    "baseline": (planned(suite('baseline = "batch-norm"')), "baseline: no norm 'batch-norm'; did you mean 'batchnorm'"),
    "baseline a number": (suite("baseline = 5"), "baseline: expected"),
    "baseline empty": (suite('baseline = ""'), "baseline: '' is not a name"),
    "protocol": (planned(suite('protocol = "tune"')), "protocol"),
    "protocol with rates": (suite('protocol = "published"'), 'protocol is "published", which takes the recipe as it'),
    "seeds of a suite": (suite('seeds = "3"'), "seeds: expected"),
    "seeds a float": (suite("seeds = 1.5"), "seeds: expected"),
    "seeds of texts": (suite('seeds = ["a"]'), "seeds"),
    "seeds that are fresh": (suite("seeds = [0, 2000000]"), "seeds has 2000000; seeds from 1000000 on are fresh ones"),
    "seeds an empty list": (suite("seeds = []"), "seeds is []"),
    "seeds too many": (suite("seeds = 10001"), "seeds is 10001, the number of seeds, at most 10000"),
    "fix a number": (suite(fix="5"), "fix: expected"),
    "vary a number": (suite(vary="5"), "vary: expected"),
    "tune a text": (suite(tune='"a"'), "tune: expected"),
    "fix a typo": (suite("[fix]\nepoch = 2"), "[fix]: no recipe value 'epoch'; did you mean 'epochs'?"),
    "vary a typo": (suite("[vary]\nbatchsize = [2]"), "[vary]: no recipe value 'batchsize'; did you mean 'batch_size'"),
    "vary the rate": (suite("[vary]\nrate = [2]"), "[vary]: no recipe value 'rate'"),
    "vary nothing": (suite("[vary]\nepochs = []"), "[vary] epochs is empty; list the values to try"),
    "vary twice": (suite("[vary]\nepochs = [2, 2]"), "[vary] epochs lists 2 twice"),
    "in two tables": (suite("[fix]\nepochs = 2\n[vary]\nepochs = [2]"), "epochs stands under [fix] and under [vary]"),
    "lengths in two tables": (suite("[fix]\nsteps = 2\n[tune]\nepochs = [2]"), "epochs stands under [tune] and steps"),
    "a set value that varies": (
        planned(suite("[vary]\nepochs = [2]"), "--set", "epochs=1"),
        "--set epochs: the suite 'mine' has it",
    ),
    "gate": (planned(suite('[gate]\nacuracy = "-0.5pt"')), "[gate]: no metric 'acuracy'; did you mean 'accuracy'"),
    "gate a number": (suite("[gate]\naccuracy = 5"), "gate"),
    "gate's table": (suite("gate = 5"), "gate: expected"),
    "published a number": (suite(published="5"), "published: expected"),
    "published's norm": (suite(PUBLISHED.format(scores="{ none = 1 }")), "[published.digits-cnn]: no norm 'none'"),
    "published's key": (suite(PUBLISHED.format(scores="{}") + "year = 2"), "no key 'year'"),
    "published without": (suite("[published.digits-cnn]\nscores = {}"), "missing required field source"),
    "published's score": (suite(PUBLISHED.format(scores='{ batchnorm = "98%" }')), "expected float, got str"),
    "published's spread": (
        suite(PUBLISHED.format(scores="{}") + "spread = { batchnorm = -1 }"),
        "spread of 'batchnorm' is -1.0; a standard deviation is 0 or more",
    ),
    "published's runs": (
        suite(PUBLISHED.format(scores="{}") + "runs = { batchnorm = 0 }"),
        "runs of 'batchnorm' is 0; it is the number of runs, 1 or more",
    ),
    "rates by task, one missing": (
        suite(tasks='["digits-cnn", "mnist-cnn"]', rates="{ digits-cnn = [1] }"),
        "no grid for the task 'mnist-cnn'",
    ),
    "label twice": (
        suite(norms='[{ norm = "none", label = "a" }, { norm = "batchnorm", label = "a" }]'),
        "norms names 'a' twice",
    ),
    "norm under two labels": (
        suite(norms='["none", { norm = "none", label = "a" }]'),
        "'none' and 'a', which are the same",
    ),
    "published's task": (
        suite(PUBLISHED.replace("digits", "digit").format(scores="{}")),
        "no task 'digit-cnn'; did you mean",
    ),
}

HEAD = "import normbench\n\n"
HOOK = HEAD + "@normbench.hookimpl\ndef normbench_norms():\n    "
#: Plugins' files that fail, each with the line that is named, and what is said of it.
PLUGINS = {
    "raises": (HEAD + "raise RuntimeError('no luck')", 3, "RuntimeError: no luck"),
    "raises-lines": (HEAD + "raise RuntimeError('no\\nluck')", 3, "RuntimeError: no luck"),
    "raises-below": (HEAD + "def f():\n    1 / 0\n\nf()", 4, "ZeroDivisionError: division by zero"),
    "no-syntax": ("import normbench\n\ndef f(:", 3, "SyntaxError: invalid syntax"),
    "no-indent": ("import normbench\ndef f():\npass", 3, "IndentationError: "),
    "exits": ("import sys\nsys.exit(0)", 2, "SystemExit: 0"),
    "exits-in-hook": (HOOK + "raise SystemExit(3)", 5, "SystemExit: 3"),
    "lacks": ("import no_such_library", 1, "ModuleNotFoundError: No module named 'no_such_library'"),
    "raises-in-hook": (HOOK + "raise KeyError('a')", 5, "KeyError: 'a'"),
    "yields": (HOOK + "yield 'mine'", 3, "normbench_norms yielded 'mine'; it yields normbench.Norm objects"),
    "returns": (HOOK + "return 3", 3, "normbench_norms yielded 3; it yields normbench.Norm objects"),
    "returns-one": (HOOK + "return normbench.Norm('a', 'a:b', summary='c')", 3, "normbench_norms returned one Norm"),
    "misspells": (
        HOOK.replace("_norms", "_norm") + "yield",
        3,
        "no hook 'normbench_norm'; did you mean 'normbench_norms'",
    ),
    "unmarked": (
        HEAD + "def normbench_norms():\n    yield",
        3,
        "normbench_norms is no hook without @normbench.hookimpl",
    ),
    "argument": (HOOK.replace("norms()", "norms(a)") + "yield", None, "Argument(s) {'a'}"),
    "taken": (
        HOOK + "yield normbench.Norm('none', 'a:b', summary='c')",
        3,
        "norm 'none' is registered by plugin 'builtin'",
    ),
    "twice": (
        HOOK + "yield from [normbench.Norm('a', 'a:b', summary='c')] * 2",
        3,
        "normbench_norms yielded 'a' twice",
    ),
    "name": (HOOK + "yield normbench.Norm('A b', 'a:b', summary='c')", 5, "norm name 'A b': a name is lower-case"),
    "summary": (HOOK + "yield normbench.Norm('a', 'a:b', summary='')", 5, "summary is ''"),
    "layer": (HOOK + "yield normbench.Norm('a', 5, summary='c')", 5, "layer is 5; it is a function"),
    "parameter": (
        HOOK + "yield normbench.Norm('a', lambda site, x: 0, summary='c')",
        5,
        "parameter 'x' has no default",
    ),
    "option": (
        HOOK + "yield normbench.Norm('a', 'a:b', summary='c', layout='NC')",
        5,
        "unexpected keyword argument 'layout'",
    ),
    "layouts": (HOOK + "yield normbench.Norm('a', 'a:b', summary='c', layouts={'NHWC'})", 5, "'NHWC'"),
    "placement": (HOOK + "yield normbench.Norm('a', 'a:b', summary='c', placement='over')", 5, "'over'"),
    "nothing": ("x = 1", None, "probes or executors (normbench.register is for sessions)"),
    "empty": ("", None, "it offers nothing"),
    "no-norms": (HOOK + "return []", None, "it offers nothing"),
    "nul": ("a\0b", None, "SyntaxError: "),
    "latin": (b"x = '\xe9'", 1, "SyntaxError: "),
    "with.dots": ("x = 1", None, "it offers nothing"),
}


TABLE = [*recipe_values(), *((name, *mistake) for name, mistake in BY_HAND.items())]


def file_of(plugin: str) -> str:
    return f"{plugin}_of_the_tests.py"


@pytest.fixture(autouse=True, scope="module")
def alone(laid_out):
    """Lay out suites and plugins' files, once for all mistakes."""
    laid_out({**SUITES, **{file_of(name): text for name, (text, *_) in PLUGINS.items()}})


@pytest.mark.parametrize(("asked", "words"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_a_mistake_is_one_line_and_exit_status_2(refusal, asked, words):
    """A mistake in a suite is named with its key, and nothing is printed."""
    assert words in refusal(asked)


@pytest.mark.parametrize("name", PLUGINS)
def test_a_plugins_file_that_fails_is_named_with_its_line(refusal, name):
    """--plugin FILE.py that can't be loaded is a mistake, with the line of the file that it is about."""
    _, line, words = PLUGINS[name]
    file = file_of(name)

    said = refusal(Request("quick", plugin_files=[Path(file)]))

    assert said.startswith(f"plugin {file}, line {line}: " if line else f"plugin {file}: ")
    assert words in said

"""Descriptions: what a plugin author may write, what is refused, and in which words."""

import functools
import inspect
from typing import Annotated, Any, Literal

import pytest
from msgspec import Meta

from normbench import plugins
from normbench.contract import (
    Claim,
    Executor,
    Norm,
    Probe,
    Recipe,
    Site,
    Task,
    Traits,
    function,
    named_by,
)
from normbench.errors import UsageError
from normbench.spelling import checked

RECIPE = {"rate": 0.1, "batch_size": 64, "epochs": 6}
INF = float("inf")


@pytest.fixture
def norm():
    """Return a function that makes a norm, valid but for what it is given."""

    def make(**changes):
        given = {"name": "mine", "layer": "pkg.layers:mine", "summary": "What I made"} | changes
        return Norm(given.pop("name"), given.pop("layer"), **given)

    return make


@pytest.fixture
def task():
    """Return a function that makes a task, valid but for what it is given."""

    def make(**changes):
        given = {
            "name": "toy",
            "version": 1,
            "summary": "Two clouds of points",
            "recipe": Recipe(**RECIPE),
            "chance": 0.1,
            "reference": 0.9,
            "data": "pkg.toy:data",
            "network": "pkg.toy:network",
        } | changes
        return Task(given.pop("name"), given.pop("version"), **given)

    return make


def _no_default(site, groups):
    pass


def _swallows(site, **others):
    pass


def _swallows_positions(site, *others):
    pass


def _only_swallows(*others):
    pass


def _takes_no_site():
    pass


def _site_by_keyword(*, site=None, groups=8):
    pass


def _ordinary(site, groups=8, *, affine=True):
    return site, groups, affine


def _wrapper(site, module, power=2):
    return site, module, power


def _names_its_site(site, channels=3):
    pass


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "Group Norm"}, "norm name 'Group Norm'"),
        ({"name": "group_norm"}, "'group_norm': a name is lower-case letters, digits and hyphens"),
        ({"name": ""}, "norm name ''"),
        ({"name": 3}, "norm name 3"),
        ({"summary": "  "}, "summary is '  '; it is one line"),
        ({"summary": "two\nlines"}, "summary is 'two\\nlines'"),
        ({"layouts": {"NCHW", "NHWC"}}, "layouts has 'NHWC'; allowed: NC, NCHW, NCL, NLC"),
        ({"layouts": set()}, "layouts has nothing"),
        ({"placement": "behind"}, "placement has 'behind'; allowed: after, before, fused, weight"),
        ({"layer": "pkg.layers"}, "'package.module:name'"),
        ({"layer": "pkg.layers:Mine()"}, "'package.module:name'"),
        ({"layer": 3}, "layer is 3"),
        ({"layer": _no_default}, "parameter 'groups' has no default"),
        ({"layer": _swallows}, "takes **others, which would swallow a misspelt parameter"),
        ({"layer": _swallows_positions}, "takes *others, which"),
        ({"layer": _only_swallows}, "takes *others, which"),
        ({"layer": _takes_no_site}, "layer takes (site) first"),
        ({"layer": _site_by_keyword}, "layer takes (site) first"),
        ({"layer": lambda site: None, "placement": "weight"}, "layer takes (site, module) first"),
        ({"layer": _ordinary, "params": {"groups": 4}}, "params is for a layer given as a string"),
        ({"layer": _names_its_site}, "parameter 'channels' has a name that normbench uses itself"),
        ({"params": {"label": "x"}}, "parameter 'label' has a name that normbench uses itself"),
        ({"types": {"p": int}}, "types names 'p'; the parameters are none"),
        ({"params": {"p": 3}, "types": {"p": Literal["1", "2"]}}, '\'p\' is 3 by default; it takes one of "1", "2"'),
        ({"layer": _ordinary, "types": {"groups": Annotated[int, Meta(gt=8)]}}, "it takes a whole number above 8"),
        ({"params": {"p": None}, "types": {"p": complex}}, "it is none that TOML has values of: numbers, text"),
        ({"params": {"p": 3}, "types": {"p": "int"}}, "the type of parameter 'p' is 'int': Type ''int'' is not"),
    ],
)
def test_norm_that_contradicts_itself(norm, changes, words):
    """A norm that can't be is refused as it is made, and the message names what is wrong."""
    with pytest.raises((ValueError, TypeError)) as refused:
        norm(**changes)

    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "Toy"}, "task name 'Toy'"),
        ({"version": 0}, "version is 0; it is a whole number from 1"),
        ({"version": "1"}, "version is '1'"),
        ({"version": True}, "version is True"),
        ({"recipe": RECIPE}, "it is a normbench.Recipe"),
        ({"chance": 0.9, "reference": 0.1}, "reference 0.1 is no better than chance 0.9 (better: up)"),
        ({"direction": "down"}, "reference 0.9 is no better than chance 0.1 (better: down)"),
        ({"chance": float("nan")}, "no better than chance nan"),
        ({"chance": None}, "chance is None; it is a number, or a function of parameters"),
        ({"reference": "pkg.toy.best"}, "reference is 'pkg.toy.best'; as a string it is 'package.module:name'"),
        ({"augment": "pkg.toy:batch", "transform": "pkg.toy:sample"}, "a task has one of the two"),
        ({"types": {"classes": int}}, "types names 'classes'; the parameters are none"),
        ({"direction": "sideways"}, "direction has 'sideways'; allowed: down, up"),
        ({"data": "pkg.toy.data"}, "data is 'pkg.toy.data'"),
        ({"loss": 3}, "loss is 3; it is a function"),
    ],
)
def test_task_that_contradicts_itself(task, changes, words):
    """A task that can't be is refused as it is made, and the message names what is wrong."""
    with pytest.raises((ValueError, TypeError)) as refused:
        task(**changes)

    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "It Helps"}, "claim name 'It Helps'"),
        ({"statement": "two\nlines"}, "statement is 'two\\nlines'; it is one line of text"),
        ({"effect": "pkg.claims"}, "effect is 'pkg.claims'"),
        ({"rule": "equal"}, "rule has 'equal'; allowed: exact, less, more, same"),
        ({"margin": -1}, "margin is -1; it is a finite number, 0 or more"),
        ({"margin": float("nan")}, "margin is nan"),
        ({"sources": "Wu & He 2018"}, "sources is 'Wu & He 2018'; it is a list of lines of text"),
        ({"sources": [""]}, "sources is ''; it is one line of text"),
        ({"suites": "quick"}, "suites is 'quick'; it is a list"),
    ],
)
def test_claim_that_contradicts_itself(changes, words):
    """A claim that can't be is refused as it is made, and the message names what is wrong."""
    given = {"name": "mine", "statement": "It helps", "sources": ["Wu & He 2018"], "effect": "pkg.claims:effect"}

    with pytest.raises((ValueError, TypeError)) as refused:
        Claim(**{**given, **changes})

    assert words in str(refused.value)


def test_the_parameters_of_a_probe_by_step_are_those_of_watch():
    """They are read past `training`; a probe that is given the network alone has none, whatever it takes."""
    by_step = Probe("p", lambda training, every=10: None, summary="P")
    by_epoch = Probe("p", lambda network, *more, every=10: None, summary="P")

    assert (True, {"every": 10}) == (by_step.by_step, by_step.params)
    assert (False, {}) == (by_epoch.by_step, by_epoch.params)
    with pytest.raises(ValueError, match=r"watch takes \*\*rest, which would swallow a misspelt parameter"):
        Probe("p", lambda training, **rest: None, summary="P")


@pytest.mark.parametrize(("kind", "what"), [(Probe, "watch"), (Executor, "run")])
def test_probe_and_executor_need_a_function(kind, what):
    """A probe or an executor without a function is refused, naming the field."""
    with pytest.raises(TypeError, match=f"{what} is None; it is a function"):
        kind("mine", None, summary="What I made")


def test_task_whose_score_falls(task):
    """A task may say that a lower score is better."""
    made = task(chance=8.0, reference=1.2, direction="down", unit="bits")

    assert ("down", 8.0, 1.2) == (made.direction, made.chance, made.reference)


@pytest.mark.parametrize(
    ("layer", "placement", "expected"),
    [
        (_ordinary, "before", {"groups": 8, "affine": True}),
        (lambda site: None, "after", {}),
        (_wrapper, "weight", {"power": 2}),
        (functools.partial(_ordinary, groups=4), "fused", {"groups": 4, "affine": True}),
    ],
)
def test_parameters_are_read_from_the_signature(norm, layer, placement, expected):
    """A callable's keyword parameters, with their defaults, are the norm's parameters."""
    made = norm(layer=layer, placement=placement)

    assert expected == made.params


def test_class_as_a_layer(norm):
    """A class that takes the site may stand as the layer itself."""

    class Layer:
        def __init__(self, site, eps=1e-3):
            self.built = (site.channels, eps)

    made = norm(layer=Layer)

    assert {"eps": 1e-3} == made.params
    assert (3, 0.5) == made.build(Site(3, "NC"), {"eps": 0.5}).built


def test_declared_parameters_are_the_norms_own(norm):
    """Changing the dictionary that declared a norm's parameters does not change the norm."""
    declared = {"eps": 1e-5}
    made = norm(params=declared)

    declared["eps"] = 1.0

    assert {"eps": 1e-5} == made.params


def test_build_hands_over_the_wrapped_module(norm):
    """A norm with placement "weight" is given the linear that it wraps, after the site."""
    site = Site(3, "NC")

    built = norm(layer=_wrapper, placement="weight").build(site, {"power": 3}, "a linear")

    assert (site, "a linear", 3) == built


def test_traits_may_depend_on_parameters(norm):
    """Traits given as a function see the parameters as given, and the defaults of the others."""
    made = norm(layer=_ordinary, traits=lambda groups, affine: Traits(centres=groups == 1, scale_invariant=affine))

    traits = made.traits_with({"groups": 1})

    assert (True, True) == (traits.centres, traits.scale_invariant)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {}),
        ({"eps": 1}, {"eps": 1.0}),
        ({"groups": 4, "affine": False, "eps": 0.5}, {"affine": False, "eps": 0.5, "groups": 4}),
        ({"clip": 3}, {"clip": 3}),
        ({"clip": "auto"}, {"clip": "auto"}),
        ({"betas": [1, 0.5]}, {"betas": (1.0, 0.5)}),
        ({"shape": [2, 3]}, {"shape": (2, 3)}),
        ({"most": 7}, {"most": 7.0}),
    ],
)
def test_checked_parameters(given, expected):
    """Parameters come back sorted, each in the type of its default where TOML has another; None takes anything."""
    defaults = {"groups": 8, "eps": 1e-5, "affine": True, "clip": None, "betas": (0.9, 0.99), "shape": (), "most": INF}
    found = checked(defaults, given, "--norm")

    assert list(expected.items()) == list(found.items())
    assert [type(value) for value in expected.values()] == [type(value) for value in found.values()]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"gruops": 4}, "--norm: no parameter 'gruops'; did you mean 'groups'?"),
        ({"groups": 4.0}, "--norm: groups is 4.0; it takes an int, like its default 8"),
        ({"groups": True}, "groups is True; it takes an int"),
        ({"eps": True}, "eps is True; it takes a float"),
        ({"affine": 1}, "affine is 1; it takes a bool"),
        ({"eps": "small"}, "eps is 'small'; it takes a float"),
        ({"eps": float("inf")}, "eps is inf; a number is finite"),
        ({"eps": float("nan")}, "eps is nan; a number is finite"),
        ({"most": INF}, "most is inf; a number is finite"),
        ({"list": [1.0, INF]}, "list is [1.0, inf]; a number is finite"),
        ({"any": [{"deep": -INF}]}, "any is [{'deep': -inf}]; a number is finite"),
        ({"pair": [1.0, float("nan")]}, "pair is (1.0, nan); a number is finite"),
        ({"pair": 1.0}, "pair is 1.0; it takes a tuple, like its default (0.5, 0.5)"),
    ],
)
def test_checked_refuses(given, words):
    """A parameter of another name or type is refused, with the nearest name or what it takes."""
    defaults = {"groups": 8, "eps": 1e-5, "affine": True, "most": INF, "list": [], "any": None, "pair": (0.5, 0.5)}

    with pytest.raises(UsageError) as refused:
        checked(defaults, given, "--norm")

    assert words in str(refused.value)


TYPES = {
    "p": Literal["1", "2", "max"],
    "clip": Annotated[float | Literal["auto"] | None, Meta(description="where gradients are cut")],
    "eps": Annotated[float, Meta(gt=0)],
    "groups": Annotated[int, Meta(ge=1, le=64)] | bool,
    "share": Annotated[float, Meta(ge=0, lt=1, description="of channels")],
    "axes": tuple[int, ...] | str,
    "pair": tuple[float, bool],
    "names": Annotated[list[str], Meta(min_length=1)],
    "free": Any,
}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"p": "max"}, {"p": "max"}),
        ({"clip": 2}, {"clip": 2.0}),
        ({"clip": "auto"}, {"clip": "auto"}),
        ({"eps": 1}, {"eps": 1.0}),
        ({"groups": True}, {"groups": True}),
        ({"share": 0}, {"share": 0.0}),
        ({"axes": [1, 2]}, {"axes": (1, 2)}),
        ({"pair": [1, True]}, {"pair": (1.0, True)}),
        ({"names": ["a"]}, {"names": ["a"]}),
        ({"free": {"a": [1]}}, {"free": {"a": [1]}}),
    ],
)
def test_parameters_of_a_declared_type(given, expected):
    """A value comes back in the declared type, so that each has one spelling; TOML's arrays may be tuples."""
    found = checked(dict.fromkeys(TYPES), given, "--norm", TYPES)

    assert repr(expected) == repr(found)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"p": 3}, '--norm: p is 3; it takes one of "1", "2", "max"'),
        ({"p": 2}, 'p is 2; it takes one of "1", "2", "max"'),
        ({"clip": "none"}, "clip is 'none'; it takes a number or \"auto\""),
        ({"clip": INF}, "clip is inf; a number is finite"),
        ({"eps": 0.0}, "eps is 0.0; it takes a number above 0"),
        ({"eps": 10**400}, "it takes a number above 0"),
        ({"groups": 65}, "groups is 65; it takes a whole number from 1 and up to 64, true or false"),
        ({"groups": 2.0}, "groups is 2.0; it takes a whole number"),
        ({"share": 1}, "share is 1; it takes a number from 0 and below 1"),
        ({"axes": [1, 2.5]}, "axes is [1, 2.5]; it takes an array (each a whole number) or text"),
        ({"pair": [1]}, "pair is [1]; it takes an array [a number, one of true, false]"),
        ({"names": []}, "names is []; it takes an array of 1 or more (each text)"),
        ({"free": [INF]}, "free is [inf]; a number is finite"),
        ({"q": 1}, "no parameter 'q'"),
    ],
)
def test_what_a_declared_type_refuses(given, words):
    """A value of another type, or out of its range, is refused in one line that says what is allowed."""
    with pytest.raises(UsageError) as refused:
        checked(dict.fromkeys(TYPES), given, "--norm", TYPES)

    assert words in str(refused.value)


def _chance(classes):
    return 1 / classes


@pytest.mark.parametrize(
    ("changes", "given", "expected"),
    [
        ({"chance": _chance}, {}, (0.25, 0.9)),
        ({"chance": _chance}, {"classes": 2}, (0.5, 0.9)),
        ({"chance": 0, "reference": lambda: 1}, {"classes": 2}, (0, 1.0)),
        ({"reference": lambda width, classes: 0.5 + width / classes}, {"width": 1}, (0.1, 0.75)),
    ],
)
def test_chance_and_reference_of_parameters(task, changes, given, expected):
    """Each may be a function of those parameters that it names, given or at their defaults."""
    made = task(params={"classes": 4, "width": 0.5}, **changes)

    assert expected == made.chance_and_reference(given)


@pytest.mark.parametrize(
    ("chance", "message"),
    [
        (lambda classes: 1 / 0, "its chance, a function of its parameters, raised ZeroDivisionError: division by zero"),
        (lambda width: 0.1, "its chance, a function of its parameters, raised TypeError: "),
        ("no_such_module_here:chance", "its chance, a function of its parameters, raised ModuleNotFoundError: No"),
        (lambda: "0.1", "its chance, a function of its parameters, returned '0.1'; it returns a finite number"),
        (lambda: INF, "its chance, a function of its parameters, returned inf; it returns a finite number"),
        (lambda classes: 1 / classes, "reference 0.9 is no better than chance 1.0 (better: up)"),
    ],
)
def test_a_mistake_in_chance_is_named_in_a_line(task, chance, message):
    """A function that raises, returns no number, or one that no training is better than: the task is named with it."""
    made = task(params={"classes": 4}, chance=chance)

    with pytest.raises(UsageError) as refused:
        made.chance_and_reference({"classes": 1})

    assert str(refused.value).startswith(f"task toy(classes=1): {message}")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("traits", "message"),
    [
        (
            lambda eps: 1 / 0,
            "norm mine: its traits, a function of all its parameters, raised ZeroDivisionError: division",
        ),
        (lambda: Traits(), "norm mine: its traits, a function of all its parameters, raised TypeError: "),
        (
            lambda eps: {"centres": True},
            "norm mine: its traits returned {'centres': True}; they return normbench.Traits",
        ),
    ],
)
def test_a_mistake_in_traits_is_the_plugins(norm, traits, message):
    """A function of the parameters that raises, or returns something else, is named in one line."""
    made = norm(layer=lambda site, eps=1e-5: None, traits=traits)

    with pytest.raises(UsageError) as refused:
        made.traits_with({"eps": 1e-3})

    assert str(refused.value).startswith(message)
    assert "\n" not in str(refused.value)


def test_traits_are_traits_or_a_function(norm):
    """Anything else is refused as the norm is described."""
    with pytest.raises(TypeError, match=r"traits is \{'centres': True\}; it is normbench.Traits\(...\), or a function"):
        norm(traits={"centres": True})


def test_named_by():
    """A task's function is given those of the task's parameters that it names, and no other."""
    found = named_by(lambda outputs, targets, smoothing=0.1: None, {"smoothing": 0.2, "width": 16})

    assert {"smoothing": 0.2} == found


@pytest.mark.parametrize(
    ("text", "error"), [("no_such_module_here:layer", ImportError), ("normbench.errors:layer", AttributeError)]
)
def test_string_that_names_nothing(text, error):
    """A string that names no function fails when it is first called, with Python's own error."""
    with pytest.raises(error):
        function(text)


def _built_in(kind):
    return [pytest.param(offered.thing, id=name) for name, offered in getattr(plugins.load(), kind).items()]


@pytest.mark.parametrize("built_in", _built_in("norms"))
def test_built_in_norm_declares_its_signature(built_in):
    """A built-in norm lists the parameters and defaults that its function takes: `list` and `build` agree."""
    skipped = 2 if built_in.placement == "weight" else 1

    own = list(inspect.signature(function(built_in.layer)).parameters.values())[skipped:]

    assert {parameter.name: parameter.default for parameter in own} == dict(built_in.params)
    assert [type(parameter.default) for parameter in own] == [type(built_in.params[one.name]) for one in own]


@pytest.mark.parametrize("built_in", _built_in("tasks"))
def test_built_in_task_has_its_functions(built_in):
    """A built-in task's strings name functions, which take every parameter that the task declares."""
    given = [getattr(built_in, name) for name in built_in.FUNCTIONS]

    functions = [function(text) for text in given if isinstance(text, str)]

    taken = {name for fn in functions for name in named_by(fn, built_in.params)}
    assert set(built_in.params) == taken


@pytest.mark.parametrize("built_in", [*_built_in("probes"), *_built_in("executors")])
def test_built_in_probe_or_executor_has_its_function(built_in):
    """A built-in probe's or executor's string names something that can be called."""
    found = function(built_in.watch if isinstance(built_in, Probe) else built_in.run)

    assert callable(found)


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Return a function that writes a package whose import would fail, and names its function `layer`."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(source):
        folder = tmp_path / "unimported"
        folder.mkdir()
        (folder / "__init__.py").write_text("raise RuntimeError('imported')\n")
        (folder / "layers.py").write_text(source)
        return "unimported.layers:layer"

    return write


def test_a_strings_parameters_are_read_from_its_source(norm, written):
    """Those with a literal default are the norm's parameters, in their order; nothing is imported."""
    layer = written("def layer(site, eps=1e-5, kind='a', *, shape=(1, -2), named=EPS, needed):\n    pass\n")

    made = norm(layer=layer)

    assert [("eps", 1e-5), ("kind", "a"), ("shape", (1, -2))] == list(made.params.items())


@pytest.mark.parametrize("source", ["def layer(site, eps=1e-5", "def other(site, eps=1e-5): pass", "layer = None"])
def test_a_source_that_does_not_say_the_parameters(norm, written, source):
    """What can't be read has no parameters but those that are declared."""
    layer = written(source)

    assert {} == norm(layer=layer).params
    assert {"eps": 1.0} == norm(layer=layer, params={"eps": 1.0}).params

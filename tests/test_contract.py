"""Descriptions: what a plugin author may write, what is refused, and in which words."""

import functools
import inspect

import pytest

from normbench import plugins
from normbench.contract import (
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
    given = (built_in.data, built_in.network, built_in.loss, built_in.score, built_in.augment)

    functions = [function(text) for text in given if text is not None]

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

"""Suites: what a TOML file and the command line may say, and the words in which the rest is refused."""

import codecs

import msgspec
import numpy as np
import pytest

from normbench import spelling, suites
from normbench.cli import options
from normbench.errors import UsageError
from normbench.spelling import Choice

TABLE = {
    "name": "mine",
    "summary": "What I ask",
    "tasks": ["digits-cnn"],
    "norms": ["none", "batchnorm"],
    "rates": [0.1, 1],
    "seeds": 2,
}


@pytest.fixture
def suite():
    """Return a function that makes a suite, valid but for what it is given; None leaves a key out."""

    def make(**changes):
        table = {key: value for key, value in (TABLE | changes).items() if value is not None}
        return suites.from_table(table, "suite mine.toml")

    return make


@pytest.fixture
def file(tmp_path):
    """Return a function that writes mine.toml."""

    def put(text):
        path = tmp_path / "mine.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return put


def test_file_is_read(file):
    """A suite's file says what to run; what it leaves out has defaults."""
    text = """
    name = "mine"
    summary = "What I ask"
    tasks = ["digits-cnn"]
    norms = ["none", { norm = "batchnorm", eps = 1e-3, label = "wide" }]
    rates = [0.1, 1]

    [vary]
    batch_size = [2, 8]
    """

    found = suites.read(file(text))

    assert ["none", {"norm": "batchnorm", "eps": 1e-3, "label": "wide"}] == found.norms
    assert ("batchnorm", "tuned", [0, 1, 2]) == (found.baseline, found.protocol, found.seed_list())
    assert ([0.1, 1.0], {"batch_size": [2, 8]}, {}) == (found.rates, found.vary, found.tune)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('name = "mine', "suite mine.toml: not TOML: "),
        ('name = "a"\nname = "b"', "suite mine.toml: not TOML: "),
        (b"\xff\xfe", "can't be read as text"),
        ('nmae = "mine"', "suite mine.toml: no key 'nmae'; did you mean 'name'"),
    ],
)
def test_file_that_is_no_suite(file, text, words):
    """A file that is no suite is refused in one line that names the file."""
    with pytest.raises(UsageError) as refused:
        suites.read(file(text))

    assert words in str(refused.value)
    assert "mine.toml" in str(refused.value)


@pytest.mark.parametrize(
    ("name", "words"), [("nowhere.toml", "there is no such file"), ("", "can't be read (Is a directory)")]
)
def test_file_that_is_not_there(tmp_path, name, words):
    """A suite's file that is missing, or is a folder, is refused by its path."""
    with pytest.raises(UsageError) as refused:
        suites.read(tmp_path / name)

    assert f"{tmp_path / name}: {words}" in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": None}, "missing required field name"),
        ({"norm": ["none"]}, "no key 'norm'; did you mean 'norms'"),
        ({"norms": "none"}, "norms: expected array, got str"),
        ({"norms": ["none", 3]}, "norms[1]: expected "),
        ({"tasks": ["digits-cnn", 3]}, "tasks[1]: expected str, got int"),
        ({"seeds": 1.5}, "seeds: expected "),
        ({"seeds": True}, "seeds: expected "),
        ({"seeds": [0, "one"]}, "seeds[1]: expected int, got str"),
        ({"rates": [0.1, "fast"]}, "rates[1]: expected float, got str"),
        ({"protocol": "tune"}, "protocol: invalid enum value 'tune'"),
        ({"vary": {"batch_size": 8}}, "[vary] batch_size is 8; list the values to try"),
        ({"vary": {"batch_size": [8], "epochs": 3}}, "[vary] epochs is 3; list"),
        ({"gate": {"accuracy": 1}}, "suite mine.toml: gate: expected str, got int"),
        ({"tune": [1, 2]}, "tune: expected object, got array"),
        ({"fix": ["epochs"]}, "fix: expected object, got array"),
        ({"plugins": "own.py"}, "plugins: expected array, got str"),
        (
            {"plugins": ["own.py", "own/layer"]},
            "plugins[1] is 'own/layer'; it is a file, like group_norm.py",
        ),
        ({"plugins": ["own; rm"]}, "plugins[0] is 'own; rm'; it is a file"),
        ({"tasks": []}, "tasks is empty; name at least one"),
        ({"norms": []}, "norms is empty; name at least one"),
        ({"vary": {"batch_size": []}}, "[vary] batch_size is empty; list the values to try"),
        ({"tune": {"weight_decay": []}}, "[tune] weight_decay is empty"),
        ({"vary": {"batch_size": [8, 32, 8]}}, "[vary] batch_size lists 8 twice"),
        ({"tune": {"weight_decay": [0, 0.0]}}, "[tune] weight_decay lists 0.0 twice"),
        ({"fix": {"epoch": 3}}, "[fix]: no recipe value 'epoch'; did you mean 'epochs'?"),
        ({"vary": {"rate": [0.1]}}, "[vary]: no recipe value 'rate'"),
        ({"tune": {"hold_out": [True]}}, "[tune]: no recipe value 'hold_out'"),
        ({"fix": {"epochs": 3}, "vary": {"epochs": [3]}}, "epochs stands under [fix] and under [vary]"),
        ({"fix": {"epochs": 3}, "tune": {"epochs": [3]}}, "epochs stands under [fix] and under [tune]"),
        ({"vary": {"epochs": [3]}, "tune": {"epochs": [3]}}, "epochs stands under [vary] and under [tune]"),
        ({"fix": {"epochs": 3}, "tune": {"steps": [9]}}, "epochs stands under [fix] and steps under [tune]"),
        ({"fix": {"epochs": 3, "steps": 9}}, "epochs stands under [fix] and steps under [fix]"),
        ({"rates": None}, "rates is missing; list the learning rates to try"),
        ({"rates": []}, "rates is missing"),
        ({"rates": {}}, "rates is missing"),
        ({"rates": [0.1, 1, -0.1]}, "rates[2] is -0.1; a rate is above 0"),
        ({"rates": [0]}, "rates[0] is 0.0; a rate is above 0"),
        ({"rates": [0.1, float("inf")]}, "rates[1] is inf; a rate is above 0"),
        ({"rates": [float("nan")]}, "rates[0] is nan"),
        ({"rates": {"relative": [1, -2]}}, "rates.relative[1] is -2; a rate is above 0"),
        ({"rates": {"relative": []}}, "rates.relative is empty; list the learning rates to try"),
        ({"rates": {"relative": 3}}, "rates.relative is 3; a grid is a list"),
        ({"rates": {"digits-cnn": [1, 0]}}, "rates.digits-cnn[1] is 0; a rate is above 0"),
        ({"rates": {"digits-cnn": []}}, "rates.digits-cnn is empty"),
        ({"rates": {"digits-cnn": 0.1}}, "rates.digits-cnn is 0.1; a grid is a list"),
        ({"rates": {"digits-cnn": [True]}}, "rates.digits-cnn[0] is True"),
        ({"rates": {"digits-cnn": {"relative": ["x"]}}}, "rates.digits-cnn.relative[0] is 'x'"),
        ({"rates": {"digits-cnn": {"relativ": [1]}}}, "rates.digits-cnn: no key 'relativ'; did you mean 'relative'?"),
        ({"seeds": 0}, "seeds is 0; give a number from 1, or a list of seeds"),
        ({"seeds": -2}, "seeds is -2"),
        ({"seeds": []}, "seeds is []"),
        ({"seeds": [0, 3, 0]}, "seeds is [0, 3, 0]; each seed is a whole number from 0, and stands once"),
        ({"seeds": [0, -1]}, "seeds is [0, -1]"),
        ({"pictures": ["rate"]}, "pictures[0]: no picture 'rate'; did you mean 'rates'? (or PROBE.NAME"),
        ({"pictures": ["curves", "moments.mean"]}, "pictures[1]: no probe 'moments'; known: curve (of a picture"),
        ({"pictures": ["moment.mean"], "probes": {"moments": {}}}, "no probe 'moment'; did you mean 'moments'"),
        ({"pictures": ["curve."]}, "pictures[0] is 'curve.'; it is PROBE.NAME"),
        ({"pictures": ["rates", "curves", "rates()"]}, "pictures lists 'rates' twice"),
        ({"pictures": ["curves(rate=[1])", "curves(rate=[1.0])"]}, "pictures lists 'curves(rate=[1.0])' twice"),
        ({"pictures": ["curves(site=0)"]}, "pictures[0]: no parameter 'site'"),
        ({"pictures": ["rates(rate=[1])"]}, "pictures[0]: no parameter 'rate'"),
        ({"pictures": ["curve.test(rate=1)"]}, "pictures[0]: rate is 1; it takes an array of 1 or more"),
        ({"pictures": ["curve.test(step=-1)"]}, "pictures[0]: step is -1; it takes"),
        (
            {"pictures": ["curve.test(site=0, step=0)"]},
            "is 'curve.test(site=0, step=0)'; it is of one place, by step, or",
        ),
        ({"boards": ["accuracy", "stabilty"]}, "boards[1]: no board 'stabilty'; did you mean 'stability'?"),
        ({"boards": ["accuracy", "accuracy"]}, "boards lists 'accuracy' twice"),
        ({"protocol": "published"}, 'protocol is "published", which takes the recipe as it stands: no rates'),
        ({"protocol": "published", "rates": None, "tune": {"epochs": [3]}}, 'protocol is "published"'),
    ],
    ids=str,
)
def test_suite_that_is_refused(suite, changes, words):
    """A key or a value that can't be is refused, naming the file, the key and what is allowed."""
    with pytest.raises(UsageError) as refused:
        suite(**changes)

    assert str(refused.value).startswith("suite mine.toml: ")
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"rates": {"relative": [0.5, 1, 2]}},
        {"rates": {"digits-cnn": [0.1], "other": {"relative": [1, 2]}}},
        {"protocol": "published", "rates": None},
        {"fix": {"epochs": 3}, "vary": {"batch_size": [8]}, "tune": {"weight_decay": [0, 5e-4]}},
        {"seeds": [3, 0]},
        {
            "pictures": ["rates", "curves", "curve.test(rate=[0.1, 1])", "moments.mean(site=1)", "moments.std(step=0)"],
            "probes": {"moments": {"every": 5}},
        },
        {"pictures": ["curves", "curves(rate=[1])", "curves(rate=[0.1])"]},
        {"boards": ["throughput", "accuracy"]},
    ],
    ids=str,
)
def test_suite_that_is_taken(suite, changes):
    """Each form of grid, protocol, factor and seeds that the docs name is taken as it stands."""
    found = suite(**changes)

    assert changes == {key: getattr(found, key) or None for key in changes}


@pytest.mark.parametrize(("seeds", "expected"), [(1, [0]), (3, [0, 1, 2]), ([0, 3, 4], [0, 3, 4]), ([7], [7])])
def test_seeds_of_a_call(suite, seeds, expected):
    """`seeds` takes a number of seeds, or the seeds themselves."""
    found = suites.changed(suite(), seeds=seeds)

    assert expected == found.seed_list()


def test_norms_of_the_command_line(suite):
    """--norm replaces the suite's norms, in the order given; the baseline stays the suite's."""
    found = suites.changed(suite(baseline="none"), norms=["layer-norm", 'x(eps=1e-3, kind="a b", on=true)'])

    asked = [spelling.choice(entry, "") for entry in found.norms]
    assert [("layer-norm", {}), ("x", {"eps": 1e-3, "kind": "a b", "on": True})] == [
        (one.name, one.params) for one in asked
    ]
    assert "none" == found.baseline


def test_settings_of_the_command_line(suite):
    """--set changes recipe values, also those under [fix], and the rates; the rest of the suite stays."""
    figures = {"digits-cnn": {"source": "Table 2", "setting": "six epochs", "scores": {"batchnorm": 98.1}}}
    given = suite(fix={"epochs": 3, "momentum": 0.5}, vary={"batch_size": [8]}, published=figures)

    found = suites.changed(given, settings={"epochs": 1, "weight_decay": 5e-4, "rates": [1, 3]})

    assert {"epochs": 1, "momentum": 0.5, "weight_decay": 5e-4} == found.fix
    assert [1.0, 3.0] == found.rates
    assert msgspec.structs.replace(given, fix={}, rates=[]) == msgspec.structs.replace(found, fix={}, rates=[])


@pytest.mark.parametrize(
    ("rates", "expected"),
    [(0.5, [0.5]), ({"relative": [1, 2]}, {"relative": [1, 2]}), ({"digits-cnn": [1]}, {"digits-cnn": [1]})],
)
def test_rates_of_a_call(suite, rates, expected):
    """`settings` takes rates in each form that a suite does, and one rate alone."""
    found = suites.changed(suite(), settings={"rates": rates})

    assert expected == found.rates


def test_norms_that_are_added(suite):
    """Norms with a plus stand behind the suite's own, in any spelling."""
    given = suite(norms=["none", {"norm": "batchnorm", "label": "plain"}])

    found = suites.changed(given, norms=["+layer-norm", "+batchnorm(eps=1e-3)"])

    assert [*given.norms, "layer-norm", "batchnorm(eps=1e-3)"] == found.norms


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (
            {"norms": ["+a", "b"]},
            "norms: +a is added to the suite's norms, and b replaces them; give all with +",
        ),
        ({"seeds": 0}, "seeds is 0; give a number from 1"),
        ({"seeds": []}, "seeds is []; give a number from 1"),
        ({"seeds": [1, 1]}, "seeds is [1, 1]; each seed"),
        ({"seeds": [-1, 2]}, "seeds is [-1, 2]; each seed"),
        ({"settings": {"epoch": 6}}, "settings: no recipe value 'epoch'; did you mean 'epochs'?"),
        ({"settings": {"seeds": 6}}, "settings: no recipe value 'seeds'"),
        ({"settings": {"rate": 6}}, "settings['rate']: the rates are a grid, as in 'rates=[0.1, 1]'"),
        ({"settings": {"batch_size": 6}}, "settings['batch_size']: the suite 'mine' has it under [vary]"),
        ({"settings": {"weight_decay": 0.1}}, "settings['weight_decay']: the suite 'mine' has it under [tune]"),
        ({"settings": {"rates": [0.1, -1]}}, "rates[1] is -1.0; a rate is above 0"),
        ({"settings": {"rates": ["fast"]}}, "settings: rates[0]: expected float, got str"),
        ({"settings": {"rates": "fast"}}, "settings: rates[0]: expected float, got str"),
        ({"settings": {"rates": []}}, "rates is missing"),
    ],
    ids=str,
)
def test_call_that_is_refused(suite, asked, words):
    """A mistake in seeds or settings is refused, naming the argument, or the suite as it would be."""
    given = suite(vary={"batch_size": [8]}, tune={"weight_decay": [0, 0.1]})

    with pytest.raises(UsageError) as refused:
        suites.changed(given, **asked)

    assert words in str(refused.value)


def test_rates_for_a_published_suite(suite):
    """--set rates is refused where the protocol takes the recipe as it stands."""
    with pytest.raises(UsageError, match="suite mine, as changed: protocol is"):
        suites.changed(suite(protocol="published", rates=None), settings={"rates": [1]})


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("group-norm", Choice("group-norm")),
        (" group-norm() ", Choice("group-norm")),
        ("group-norm(groups=4)", Choice("group-norm", {"groups": 4})),
        ("x (b = 2, a = [1, 2])", Choice("x", {"a": [1, 2], "b": 2})),
        ('x(kind="a), (b")', Choice("x", {"kind": "a), (b"})),
        ({"norm": "x"}, Choice("x")),
        ({"norm": "x", "b": 2, "a": 1, "label": "mine"}, Choice("x", {"a": 1, "b": 2}, "mine")),
    ],
    ids=str,
)
def test_choice(entry, expected):
    """A norm is asked for by its name, with parameters in brackets, or as a table with a label."""
    found = spelling.choice(entry, "")

    assert expected == found


@pytest.mark.parametrize("entry", [{}, {"name": "x"}, {"norm": 3}, {"norm": "x", "label": 3}], ids=str)
def test_choice_that_is_refused(entry):
    """A table that names no norm, or has a label that is no text, is refused with the form it should have."""
    with pytest.raises(UsageError, match=r'suite mine.toml: norms: a table of a norm has norm = "name"'):
        spelling.choice(entry, "suite mine.toml: norms")


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({}, "x"),
        ({"groups": 4}, "x(groups=4)"),
        ({"a": 0.5, "b": True, "c": 1e-5, "d": 1e20, "e": -3}, None),
        ({"kind": 'a "b" \\ c\n\té', "other": ""}, 'x(kind="a \\"b\\" \\\\ c\\n\\té", other="")'),
        ({"axes": [1, 2], "names": ["a", "b"], "none": []}, 'x(axes=[1, 2], names=["a", "b"], none=[])'),
    ],
    ids=str,
)
def test_spelled_and_chosen(params, expected):
    """What a board names a norm can be copied into --norm, and means the same norm."""
    text = spelling.spelled("x", params)

    found = spelling.choice(text, "")

    assert ("x", params) == (found.name, found.params)
    assert [type(value) for value in params.values()] == [type(value) for value in found.params.values()]
    assert (expected or text) == text


def test_label_is_shown():
    """A label stands for a norm on boards; without one, its name and parameters."""
    labelled, bare = Choice("x", {"a": 1}, "mine"), Choice("x", {"a": 1})

    assert ("mine", "x(a=1)") == (labelled.shown, bare.shown)


def test_a_file_that_begins_with_a_byte_order_mark_is_read(file):
    """Editors on Windows write one; it says nothing."""
    text = 'name = "mine"\r\nsummary = "S"\r\ntasks = ["t"]\r\nnorms = ["none"]\r\nrates = [1]\r\n'

    assert "mine" == suites.read(file(codecs.BOM_UTF8 + text.encode())).name


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_a_file_in_utf_16_is_told_so(file, encoding):
    """With its mark it is known for what it is; without, it is no TOML."""
    with pytest.raises(UsageError, match=r"mine\.toml: .*(UTF-16; a suite is saved as UTF-8|not TOML)"):
        suites.read(file('name = "mine"'.encode(encoding)))


DEEP = "[" * 3000


@pytest.mark.parametrize(
    "read",
    [
        lambda file: suites.read(file(f"a = {DEEP}")),
        lambda file: spelling.choice(f"none(a={DEEP})", "--norm"),
        lambda file: options.assignment(f"epochs={DEEP}", "--set", "epochs=12"),
        lambda file: suites.read(file("a = " + "{a = " * 3000)),
    ],
    ids=["a file", "a norm", "a setting", "tables"],
)
def test_what_is_nested_too_deep_is_refused(file, read):
    """However deep, it is a mistake and no crash."""
    with pytest.raises(UsageError):
        read(file)


@pytest.mark.parametrize("label", ["\x1b]0;title\x07", "two\nlines", "a\u2028b", "\x9b31m"])
def test_a_label_with_control_characters_is_refused(suite, label):
    """It would be a command to a terminal, or a second line; the message spells it out."""
    with pytest.raises(UsageError, match=r"label is .*without control characters") as refused:
        spelling.choice({"norm": "none", "label": label}, "suite mine.toml: norms")

    assert str(refused.value).isprintable()


def test_a_name_that_no_folder_can_have_is_refused(suite):
    """Results go to results/NAME, and disks allow 255 bytes."""
    with pytest.raises(UsageError, match="name has 300 characters; it has 200 at most"):
        suite(name="a" * 300)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float64(0.5), "0.5"),
        (np.float32(0.5), "0.5"),
        (np.int64(3), "3"),
        (np.bool_(True), "true"),
        (np.array([0.1, 1]), "[0.1, 1.0]"),
        ([np.float64(0.1)], "[0.1]"),
    ],
    ids=repr,
)
def test_numbers_of_numpy_are_spelled_as_numbers(value, expected):
    """A script hands over what it reckoned with."""
    assert f"x={expected}" == spelling.assignments({"x": value})


def test_what_toml_cannot_say_is_refused():
    """Any object of Python's may be handed over by mistake."""
    with pytest.raises(UsageError, match="is no value of TOML"):
        spelling.assignments({"x": [object()]})

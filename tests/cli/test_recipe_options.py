"""Each recipe value, and rates, is an option that does what --set does."""

import pytest

from normbench.cli import options, recipe_options
from normbench.errors import UsageError
from normbench.execute import Request
from normbench.suites import RECIPE_VALUES


@options.of_request("settings")
def asked(request: Request) -> Request:
    """Return the request that options make."""
    return request


def given(settings=None, **values):
    """Return the request of --set, and of options by the name of their recipe value."""
    return asked(settings=settings, **{f"{recipe_options.PREFIX}{name}": value for name, value in values.items()})


def test_there_is_an_option_for_each():
    """None is left out, whatever a recipe comes to have."""
    assert {*RECIPE_VALUES, "rates"} == {name.removeprefix(recipe_options.PREFIX) for name in recipe_options.OPTIONS}


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("epochs", "2", 2),
        ("weight_decay", "5e-4", 5e-4),
        ("optimizer", "adam", "adam"),
        ("optimizer", '"adam"', "adam"),
        ("precision", "bf16", "bf16"),
        ("precision", "32", 32),
        ("rates", "0.1,1", [0.1, 1]),
        ("rates", "[0.1, 1]", [0.1, 1]),
        ("rates", "{ relative = [1, 2] }", {"relative": [1, 2]}),
        ("rates", "1", [1]),
        ("milestones", "0.5, 0.9", [0.5, 0.9]),
        ("compile", True, True),
    ],
)
def test_text_becomes_a_value(name, text, expected):
    """A value is as in TOML; a list needs no brackets, and a word no quotes."""
    assert {name: expected, "threads": 2} == given(["threads=2"], **{name: text}).settings


@pytest.mark.parametrize(
    ("settings", "values", "says"),
    [
        (None, {"epochs": "two"}, "--epochs two: it takes a whole number"),
        (None, {"batch_size": "6.5"}, "--batch-size 6.5: it takes a whole number"),
        (None, {"optimizer": "lion"}, '--optimizer lion: it takes one of "adam", "adamw", "sgd"'),
        (None, {"rates": "low"}, "--rates low: it takes numbers, with commas between"),
        (["epochs=3"], {"epochs": "5"}, "--epochs: --set epochs=3 says it as well; give one of the two"),
    ],
)
def test_what_is_refused(settings, values, says):
    """A message has the words that were typed, and says what is taken."""
    with pytest.raises(UsageError) as refused:
        given(settings, **values)

    assert str(refused.value).startswith(says)


def test_later_messages_name_the_option():
    """What only the plan can refuse is spelled as it was typed."""
    words = given(["threads=2"], batch_size="4").words

    assert ["--batch-size", "--set threads"] == [words("settings", "batch_size"), words("settings", "threads")]


@pytest.mark.parametrize("command", ["run", "plan", "throughput", "fingerprint"])
def test_commands_that_take_settings_take_them(normbench, command):
    """A suite that varies a value refuses it by its option; help has none of them, but says that there are."""
    ran = normbench(command, "batch-size", "--batch-size", "4")

    assert "normbench: --batch-size: the suite 'batch-size' has it under [vary]\n" == ran.err
    helped = normbench(command, "--help").out
    assert "Each is an option as well" in helped
    assert "--batch-size" not in helped

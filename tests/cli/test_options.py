"""The options of a request: what is text on the command line is a value in the request, and messages name options."""

import pytest

from normbench.cli import options
from normbench.errors import UsageError
from normbench.execute import Request


@options.of_request(*options.REQUEST)
def asked(request: Request) -> Request:
    """Return the request that options make."""
    return request


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"seeds": "1"}, {"seeds": 1}),
        ({"seeds": "0,3,4"}, {"seeds": [0, 3, 4]}),
        ({"seeds": "7,"}, {"seeds": [7]}),
        ({"seeds": "10000"}, {"seeds": 10_000}),
        ({"seeds": " 2, 0 "}, {"seeds": [2, 0]}),
        (
            {"settings": ["epochs=1", "weight_decay = 5e-4", "rates=[1, 3]"]},
            {"settings": {"epochs": 1, "weight_decay": 5e-4, "rates": [1, 3]}},
        ),
        ({"jobs": "auto"}, {"options": {"jobs": 0}}),
        ({"jobs": "4", "per_gpu": 2, "address": None}, {"options": {"jobs": 4, "per_gpu": 2}}),
        ({"timeout": "90s"}, {"options": {"timeout": 90.0}}),
        ({"timeout": "1.5m"}, {"options": {"timeout": 90.0}}),
        ({"timeout": "2h"}, {"options": {"timeout": 7200.0}}),
        ({"timeout": "3"}, {"options": {"timeout": 3.0}}),
        ({"gates": ["accuracy:-1pt"], "norms": ["none"]}, {"gates": {"accuracy": "-1pt"}, "norms": ["none"]}),
    ],
    ids=str,
)
def test_text_becomes_values(given, expected):
    """An option that was not given leaves the field at its default."""
    made = asked(**{name: given.get(name) for name in options.REQUEST})

    assert Request("", **expected, words=made.words) == made


def test_messages_name_options():
    """A field, or one item of it, is spelled as on the command line."""
    words = asked(**dict.fromkeys(options.REQUEST)).words

    spelled = [words("norms", 0), words("settings", "rate"), words("data_dir"), words("jobs")]
    assert ["--norm", "--set rate", "--data-dir", "--jobs"] == spelled


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"seeds": "three"}, "--seeds 'three': give a number of seeds (5), or the seeds themselves (0,3,4)"),
        ({"seeds": "1,,2"}, "--seeds '1,,2'"),
        ({"seeds": "10001"}, "--seeds 10001: at most 10000 seeds; the seed 10001 alone is --seeds 10001,"),
        ({"settings": ["epochs"]}, "--set 'epochs': write key=value"),
        ({"settings": ["epochs="]}, "--set 'epochs=': '' is no TOML value"),
        ({"jobs": "two"}, "--jobs two: it is auto, or a number of 1 or more"),
        ({"timeout": "5x"}, "--timeout 5x: a time is a number of seconds, or like 90s"),
        ({"gates": ["accuracy"]}, "--fail 'accuracy': write METRIC:MARGIN"),
    ],
    ids=str,
)
def test_text_that_is_refused(given, words):
    """What can't be read is refused with its option."""
    with pytest.raises(UsageError) as refused:
        asked(**{name: given.get(name) for name in options.REQUEST})

    assert words in str(refused.value)

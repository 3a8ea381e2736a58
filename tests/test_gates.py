"""Margins as `[gate]` and --fail spell them, and one line for each that can't be."""

import pytest

from normbench import suites
from normbench.compare import metrics
from normbench.errors import UsageError
from normbench.gates import METRICS, THROUGHPUT, Gate, gates, given, replaced

SUITE = """
name = "mine"
summary = "Mine"
tasks = ["digits-cnn"]
norms = ["none"]
baseline = "none"
rates = [0.1]

[gate]
"""


@pytest.mark.parametrize(
    ("metric", "text", "margin", "unit"),
    [
        ("accuracy", "-0.5pt", 0.005, "pt"),
        ("accuracy", "-2 pts", 0.02, "pt"),
        ("accuracy", "-.02", 0.02, ""),
        ("over_the_grid", " - 1pt ", 0.01, "pt"),
        ("max_trainable_lr", "-1step", 1, "step"),
        ("max_trainable_lr", "-2steps", 2, "step"),
        ("max_trainable_lr", "-0.477dec", 0.477, "dec"),
        ("max_trainable_lr", "-0.3decades", 0.3, "dec"),
        ("failure_rate", "+10pt", 0.1, "pt"),
        ("sensitivity", "+1.pt", 0.01, "pt"),
        ("throughput", "-10%", 0.1, "%"),
    ],
)
def test_a_margin_is_a_sign_a_number_and_a_unit(metric, text, margin, unit):
    """Points and per cents become shares; steps, decades and plain numbers stay what they are."""
    found = gates({metric: text}, "gate")

    assert {metric: Gate(metric, pytest.approx(margin), unit, text)} == found


@pytest.mark.parametrize(
    ("metric", "text", "message"),
    [
        ("acuracy", "-1pt", "here: no metric 'acuracy'; did you mean 'accuracy'?"),
        (
            "accuracy",
            "0.5pt",
            "here: accuracy is '0.5pt'; a margin is a sign, a number above 0 and a unit, like -0.5pt",
        ),
        ("accuracy", "", "here: accuracy is ''; a margin is a sign"),
        ("accuracy", "-0pt", "here: accuracy is '-0pt'; a margin is a sign, a number above 0"),
        ("accuracy", "-1e-3", "here: accuracy is '-1e-3'; a margin is a sign"),
        ("accuracy", "-nan", "here: accuracy is '-nan'; a margin is a sign"),
        ("accuracy", "+0.5pt", "here: accuracy is '+0.5pt'; it gets worse as it falls: write -0.5pt"),
        ("failure_rate", "-5pt", "here: failure_rate is '-5pt'; it gets worse as it rises: write +5pt"),
        ("accuracy", "-5%", "here: accuracy is '-5%'; its margin is like -0.5pt (percentage points) or -0.02"),
        ("failure_rate", "+0.2", "here: failure_rate is '+0.2'; its margin is like +0.5pt"),
        ("throughput", "-3pt", "here: throughput is '-3pt'; its margin is like -10%"),
        ("throughput", "-100%", "here: throughput is '-100%'; it can't fall by 100% or more"),
        ("max_trainable_lr", "-0.5step", "here: max_trainable_lr is '-0.5step'; steps of the grid are whole"),
        (
            "max_trainable_lr",
            "-3",
            "here: max_trainable_lr is '-3'; its margin is like -1step (of the grid) or -0.5dec",
        ),
    ],
)
def test_what_is_no_gate_is_refused_in_one_line(metric, text, message):
    """A refusal names the place, the metric and the text, and says what would be right."""
    with pytest.raises(UsageError) as refused:
        gates({metric: text}, "here")

    assert str(refused.value).startswith(message)
    assert "\n" not in str(refused.value)


def test_fail_is_read_as_metric_and_margin():
    """Spaces about the parts of --fail do not matter; what they say is judged later."""
    found = given(["accuracy:-0.5pt", " throughput : -10% "])

    assert {"accuracy": "-0.5pt", "throughput": "-10%"} == found


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["accuracy"], "--fail 'accuracy': write METRIC:MARGIN, as in --fail 'accuracy:-0.5pt'"),
        (["accuracy:-1pt", "accuracy:-2pt"], "--fail names accuracy twice; a metric has one margin"),
    ],
)
def test_what_is_no_fail_is_refused(texts, message):
    """--fail without a colon, or twice for one metric, is refused."""
    with pytest.raises(UsageError) as refused:
        given(texts)

    assert message == str(refused.value)


def test_a_gate_is_written_as_it_was_spelled():
    """Reports show a gate in the user's own words."""
    [gate] = gates({"accuracy": "-0.5pt"}, "gate").values()

    assert "accuracy:-0.5pt" == str(gate)


def test_every_metric_has_an_example_that_is_a_gate():
    """The example in a refusal is itself accepted, with the sign and the first unit of its metric."""
    for name, metric in METRICS.items():
        with pytest.raises(UsageError) as refused:
            gates({name: "nothing"}, "here")
        example = str(refused.value).rpartition("like ")[2].split()[0]

        [gate] = gates({name: example}, "here").values()

        assert (metric.units[0], metric.worse) == (gate.unit, gate.text[0])


def test_the_gate_of_a_suite_is_read(tmp_path):
    """A suite's [gate] is kept as it is spelled."""
    file = tmp_path / "mine.toml"
    file.write_text(SUITE + "accuracy = '-0.5pt'\n", encoding="utf-8")

    suite = suites.read(file)

    assert {"accuracy": "-0.5pt"} == suite.gate


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("accuracy = '+1pt'", "[gate]: accuracy is '+1pt'; it gets worse as it falls: write -1pt"),
        ("speed = '-10%'", "[gate]: no metric 'speed'; known: "),
    ],
)
def test_the_gate_of_a_suite_is_checked_on_reading(tmp_path, line, message):
    """A gate that can't be is the suite's mistake, found before anything is trained."""
    file = tmp_path / "mine.toml"
    file.write_text(SUITE + line + "\n", encoding="utf-8")

    with pytest.raises(UsageError) as refused:
        suites.read(file)

    assert message in str(refused.value)
    assert "mine.toml" in str(refused.value)


def test_a_gate_may_have_the_name_of_the_boards_column():
    """`trains_up_to` is the same metric; a given margin replaces a declared one whichever way each is spelled."""
    assert gates({"max_trainable_lr": "-1step"}, "gate") == gates({"trains_up_to": "-1step"}, "gate")
    for declared, new in (("trains_up_to", "max_trainable_lr"), ("max_trainable_lr", "trains_up_to")):
        assert {"max_trainable_lr": "-2step"} == replaced({declared: "-1step"}, {new: "-2step"})


def test_a_metric_named_twice_is_refused():
    """Both names of a metric in one table are one metric with two margins."""
    with pytest.raises(UsageError, match="names max_trainable_lr twice"):
        gates({"max_trainable_lr": "-1step", "trains_up_to": "-2step"}, "here")


def test_every_metric_but_the_throughput_has_its_value():
    """A gate that can be spelled can be tested."""
    assert set(METRICS) - {THROUGHPUT.name} == set(metrics.METRICS)

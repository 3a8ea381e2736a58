"""A comparison in every form of the report."""

import csv
import io
import json
from xml.etree import ElementTree

import pytest
from comparisons import SCORES, moved, session

from normbench.compare import text as report


@pytest.fixture
def mixed(folder, head, against):
    """Return a comparison with regressed, ok, unclear, identical and vanished rows, and throughput."""
    grid = {
        "falling": {0.1: SCORES, 1.0: moved(-0.1)},
        "steady": {0.1: SCORES, 1.0: moved(-0.2)},
        "wide": {0.1: SCORES, 1.0: moved(-0.3)},
        "equal": {0.1: SCORES, 1.0: moved(-0.1)},
    }
    folder.add({**grid, "gone": {0.1: SCORES, 1.0: SCORES}}, condition={"momentum": 0.5})
    changed = {
        "falling": {0.1: moved(-0.06), 1.0: moved(-0.1)},
        "steady": {0.1: moved(0), 1.0: moved(-0.2)},
        "wide": {0.1: [0.95, 0.85, 0.93, 0.84, 0.94], 1.0: moved(-0.3)},
    }
    head.add({**grid, **changed}, condition={"momentum": 0.5})
    session(folder, layer=1.0)
    session(head, layer=0.7)
    return against({"accuracy": "-2pt", "throughput": "-10%"})


@pytest.mark.parametrize("ascii_only", [False, True])
def test_a_terminal_of_80_columns_is_not_overrun(mixed, ascii_only):
    """No line is wider than the terminal; plain ASCII holds nothing else."""
    text = report.terminal(mixed, 80, ascii_only=ascii_only)

    assert [] == [line for line in text.splitlines() if len(line) > 80]
    assert not ascii_only or text.isascii()


def test_every_form_has_the_same_figures(mixed):
    """JSON, CSV, JUnit, Markdown, LaTeX and terminal agree on a row's verdict and numbers."""
    text = {form: write(mixed) for form, write in report.FORMATS.items()}

    document = json.loads(text["json"])["compare"]
    [row] = [row for row in document["rows"] if (row["norm"], row["metric"]) == ("falling", "accuracy")]
    [line] = [
        line
        for line in csv.DictReader(io.StringIO(text["csv"]))
        if (line["norm"], line["metric"]) == ("falling", "accuracy")
    ]
    assert ("regressed", "points", "-2pt", 5) == (row["verdict"], row["unit"], row["gate"], row["seeds"])
    assert pytest.approx((90.4, 84.42, -5.98)) == (row["base"], row["head"], row["difference"])
    for key in ("base", "head", "difference", "difference_low", "difference_high", "p"):
        assert row[key] == float(line[key])
    figures = [f"{row['base']:.1f}", f"{row['head']:.1f}", f"{row['difference']:.1f}"]
    for form in ("terminal", "github", "latex_booktabs"):
        shown = next(line for line in text[form].splitlines() if "falling" in line and "90.4" in line)
        assert [figure in shown for figure in figures] == [True] * 3, form
    [failure] = ElementTree.fromstring(text["junit"]).findall(".//testcase[@name='falling accuracy']/failure")
    assert figures[2] in failure.get("message")


def test_programs_read_throughput_as_ratios_and_their_difference_in_percent(mixed):
    """BASE and HEAD are ratios to the baseline, and the difference is in the row's unit."""
    [row] = [row for row in report.as_dicts(mixed) if row["metric"] == "throughput" and row["norm"] == "layer"]

    assert "%" == row["unit"]
    assert pytest.approx((1.0, 0.7, -30.0)) == (row["base"], row["head"], row["difference"])


def test_junit_counts_what_failed_and_what_was_skipped(mixed):
    """Regressed rows and gated ones that vanished are failures, unclear ones skipped, all others passed."""
    root = ElementTree.fromstring(report.junit(mixed))

    found = {key: sum(int(suite.get(key)) for suite in root) for key in ("tests", "failures", "skipped")}
    expected = {
        "tests": len(mixed.rows),
        "failures": mixed.count("regressed", "vanished"),
        "skipped": mixed.count("unclear"),
    }
    assert expected == found
    assert min(found.values()) > 0


def test_markdown_opens_what_regressed_and_folds_the_rest(mixed):
    """Of the tables those with a regression are open."""
    text = report.github(mixed)

    tables = len(report.tables(mixed))
    regressed = {(row.table_id, row.metric.name) for row in mixed.rows if row.word == "regressed"}
    assert (len(regressed), tables - len(regressed)) == (text.count("<details open>"), text.count("<details>"))
    assert text.startswith("### normbench compare: 2 regressed, ")


def test_a_comparison_of_nothing_can_be_written_in_every_form(against, folder, head):
    """Where nothing is in common every form still says so, or is empty."""
    folder.add({"layer": {0.1: [None]}})
    head.add({"layer": {0.1: [None]}})

    text = {form: write(against()) for form, write in report.FORMATS.items()}

    assert [] == json.loads(text["json"])["compare"]["rows"]
    assert "nothing to compare" in text["terminal"]
    assert "nothing to compare" in text["github"]

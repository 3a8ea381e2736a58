"""The report as a file: what it holds, that it needs nothing else, and that no name in it is more than text."""

import base64
import hashlib
import itertools
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from reported import HOSTILE

from normbench.errors import UsageError
from normbench.report import default_file
from normbench.report.page import OPEN, page

#: Elements that end themselves.
VOID = {"meta", "link", "input", "br", "img", "path"}
#: So many bytes are the scripts of the charts.
SCRIPTS = 1_000_000


class Reader(HTMLParser):
    """Reads a page as a browser would: elements in their order, those that do not end, and what scripts hold."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert tag == self.open.pop()

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
        elif not self.open or self.open[-1] != "style":
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def written(mine):
    """Return the page of a folder that has everything."""
    return page([mine]).decode()


@pytest.fixture(scope="module")
def read(written):
    """Return that page as a browser reads it."""
    return Reader(written)


def test_it_is_one_file(read):
    """Nothing is loaded from elsewhere, and the browser is told to run these scripts alone, and to load nothing."""
    [policy] = [meta["content"] for meta in read.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    scripts = [script for script in read.scripts if not script.startswith("{")]
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    named = [value for _, attributes in read.elements for key, value in attributes.items() if key in ("src", "href")]

    assert policy.startswith(f"default-src 'none'; script-src {allowed}; ")
    assert "unsafe-eval" not in policy
    assert [] == [value for value in named if not value.startswith(("#", "data:"))]


def test_there_is_one_copy_of_the_script(mine, written):
    """Whatever the number of charts and sources; what more there is are a few hundred bytes per trial."""
    assert 1 == written.count("window.vegaEmbed=")
    assert len(written) < SCRIPTS + 200_000


def test_a_name_is_text(read):
    """Markup in a norm's name, or in an error's words, is no element; nor does it end the data."""
    assert "img" not in {tag for tag, _ in read.elements}
    assert "b" not in {tag for tag, _ in read.elements}
    assert HOSTILE in read.text
    assert "no <b>luck</b>" in read.text
    [data] = [script for script in read.scripts if script.startswith("{")]
    assert HOSTILE in json.loads(data)["charts"][0]["columns"]["norm"]


def test_headings_do_not_skip_a_level(read):
    """One title; what is below has each next level."""
    levels = [int(tag[1]) for tag, _ in read.elements if re.fullmatch("h[1-6]", tag)]

    assert 1 == levels[0] == levels.count(1)
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_tables_and_charts_are_named(read):
    """For who hears them: each heading of a table says what it heads, each chart and box what it is."""
    assert all(heading.get("scope") in ("col", "row") for heading in read.all("th"))
    assert len(read.all("table")) == len(read.all("caption"))
    assert all(box.get("aria-label") for box in read.all("div") if box.get("role") in ("img", "region", "group"))


def test_identifiers_are_unique(written):
    """So that links and labels reach what they name."""
    names = re.findall(r' id="([^"]+)"', written)

    assert sorted(names) == sorted(set(names))


def test_failures_are_said_first(read):
    """How many, of which outcome and why, and the command that shows one; what is not ranked."""
    top = read.text.partition("Validation accuracy against learning rate")[0]

    assert "9 of 45 trials have no score: 9 error." in top
    assert "9 × layer-norm, error: no <b>luck</b>" in top
    assert re.search(r"normbench show [0-9a-f]{16} --in \S+/mine", top)
    assert "'layer-norm' is not ranked" in top


def test_several_stand_side_by_side(mine, folder):
    """Each with its own heading; the title names the suites."""
    folder.add({"none": {0.1: [0.8]}})

    read = Reader(page([mine, folder.store.folder]).decode())

    assert 2 == len([1 for section in read.all("section") if section.get("class") == "source"])
    assert "mine · results – normbench report" in read.text


def test_more_than_a_few_parts_are_folded(folder):
    """All of them are named above."""
    for size in range(OPEN + 2):
        folder.add({"none": {0.1: [0.8]}}, condition={"init_scale": size + 2.0})

    read = Reader(page([folder.store.folder]).decode())

    parts = [part for part in read.all("details") if part.get("class") == "part"]
    assert [True] * OPEN + [False] * 2 == ["open" in part for part in parts]
    links = {link["href"] for link in read.all("a")}
    assert {f"#{part['id']}" for part in parts} <= links


def test_a_run_that_just_began_has_a_report(folder):
    """Without a trial, so that it can be written while trials run."""
    folder.add({"none": {0.1: [None]}})

    assert "0 trials" in Reader(page([folder.store.folder]).decode()).text


def test_the_same_results_give_the_same_page(mine, written):
    """It says nothing of when it was written."""
    assert written == page([mine]).decode()


def test_it_stands_beside_the_results(mine, tmp_path):
    """By the name of the folder, or of the export."""
    export = tmp_path / "quick.json"
    export.write_text("{}")

    assert mine.parent / "mine-report.html" == default_file(mine)
    assert tmp_path / "quick-report.html" == default_file(export)


def test_what_is_not_there_is_refused(mine, tmp_path):
    """And a folder that is given twice."""
    with pytest.raises(UsageError, match="no results there"):
        page([tmp_path])
    with pytest.raises(UsageError, match="given twice"):
        page([mine, Path(f"{mine}/../mine")])

"""Tables as HTML: read back by a parser, they hold what the table holds, and no name is more than text."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser

import pytest

from normbench.boards import tables
from normbench.tables import Table
from normbench.tables.html import as_html, notebook
from normbench.tables.text import entry_text, rank_text, title

#: Markup, quotes of both kinds, an entity, and characters that a browser would obey.
HOSTILE = '<img src=x onerror="alert(1)"> </table></details>\' &lt; \u202e\x00'
SHOWN = HOSTILE.replace("\u202e", r"\u202e").replace("\x00", r"\u0000")
GOOD, FAIR, POOR = [0.91, 0.9, 0.92], [0.7, 0.75, 0.72], [0.2, 0.3, 0.25]


class Page(HTMLParser):
    """HTML, read: `elements` are each element's tag, attributes, text, and the tags around it, as they end."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None], str, list[str]]] = []
        self._open: list[tuple[str, dict[str, str | None], list[str]]] = []
        self.feed(text)
        self.close()
        assert [] == self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "br":
            self.handle_data("\n")
        else:
            self._open.append((tag, dict(attrs), []))

    def handle_data(self, data: str) -> None:
        for _, _, texts in self._open:
            texts.append(data)

    def handle_endtag(self, tag: str) -> None:
        opened, attributes, texts = self._open.pop()
        assert opened == tag
        self.elements.append((tag, attributes, "".join(texts), [outer for outer, *_ in self._open]))

    def texts(self, tag: str, **attributes: str) -> list[str]:
        """Return the texts of elements with a tag and attributes."""
        return [text for own, given, text, _ in self.elements if own == tag and attributes.items() <= given.items()]


def tables_of(folder, names: dict[str, str], **more: object) -> list[Table]:
    """Return an accuracy and a stability board of four norms, one of them not ranked; names replace theirs."""
    norms = {
        "batchnorm": {0.1: GOOD, 1.0: FAIR},
        "none": {0.1: FAIR, 1.0: ["diverged"] * 3},
        "group-norm": {0.1: POOR, 1.0: POOR},
        "layer-norm": {0.1: [{"outcome": "error", "reason": HOSTILE}] * 3, 1.0: ["oom"] * 3},
    }
    folder.add({names.get(name, name): given for name, given in norms.items()}, **more)
    return tables(folder.store)


@pytest.mark.parametrize("board", ["accuracy", "stability"])
def test_html_holds_what_the_table_holds(folder, board: str) -> None:
    """Each row begins with its rank and norm, each heading and entry is there as a terminal has it."""
    [table] = [table for table in tables_of(folder, {}) if table.board == board]

    page = Page(as_html(table))

    assert [title(table)] == page.texts("caption")
    assert ["#", "norm"] == page.texts("th", scope="col")[:2]
    assert [column.title for column in table.columns[1:]] == page.texts("th", scope="col")[3:]
    assert [row.norm for row in table.rows] == page.texts("th", scope="row")
    assert page.texts("td") == [
        text
        for row in table.rows
        for text in [rank_text(row), *(entry_text(table, column, row) for column in table.columns)]
    ]


def test_scripts_find_norms_columns_and_numbers(folder) -> None:
    """A row says its norm, a heading its column and which way is better, an entry the number behind its text."""
    table = tables_of(folder, {})[0]

    page = Page(as_html(table))
    entries = [given for tag, given, *_ in page.elements if tag == "td"]
    wide = len(table.columns) + 1

    assert [row.norm for row in table.rows] == [
        given["data-norm"] for _, given, *_ in page.elements if "data-norm" in given
    ]
    assert [column.better for column in table.columns] == [
        given.get("data-better")
        for tag, given, *_ in page.elements
        if tag == "th" and given.get("data-column") in {column.name for column in table.columns}
    ]
    for place, row in enumerate(table.rows):
        numbers = [row.rank, *(row.values[column.name].number for column in table.columns)]
        sorts = [given.get("data-sort") for given in entries[place * wide : (place + 1) * wide]]
        assert numbers == [None if sort is None else float(sort) for sort in sorts]


def test_numbers_stand_on_the_right_and_marks_below_their_rates(folder) -> None:
    """The class of an entry says what it is; a rate that may have a mark behind it begins on the left."""
    accuracy, stability = tables_of(folder, {})

    classes = [
        {
            given["data-column"]: given.get("class")
            for tag, given, *_ in Page(as_html(table)).elements
            if tag == "th" and "data-column" in given
        }
        for table in (accuracy, stability)
    ]

    assert {"rank": "number", "accuracy": "number", "failed": "number"}.items() <= classes[0].items()
    assert (None, None) == (classes[0]["norm"], classes[0]["rate"])
    assert "marks" == classes[1]["strip"]


def test_warnings_are_in_sight_and_notes_are_folded(folder) -> None:
    """A norm without a rank and what is missing are named outside of what is folded; other notes are inside."""
    table = tables_of(folder, {})[0]

    page = Page(as_html(table))
    around = {text: outer for tag, _, text, outer in page.elements if tag == "li"}

    assert ["ul"] == [outer[-1] for text, outer in around.items() if "layer-norm" in text and "details" not in outer]
    folded = [text for text, outer in around.items() if "details" in outer]
    assert set(table.warnings) == set(table.notes) - set(folded) != set()
    assert [f"{len(folded)} notes"] == page.texts("summary")[-1:]


def test_each_column_is_defined(folder) -> None:
    """Below each table stands what its columns are, in their order, but for those that say nothing of it."""
    for table in tables_of(folder, {}):
        page = Page(as_html(replace(table, columns=[*table.columns[:-1], replace(table.columns[-1], meaning="")])))

        assert [column.meaning for column in table.columns[:-1]] == page.texts("dd")[1:]
        assert "95% interval" in page.texts("dd")[0]


def test_nothing_that_is_named_is_more_than_text(folder) -> None:
    """Names, conditions, reasons and notes with markup are shown as they are, what can't be seen as an escape."""
    made = tables_of(folder, {"batchnorm": HOSTILE}, baseline=HOSTILE, task=HOSTILE)
    table = replace(made[0], notes=[HOSTILE], condition={"optimizer": HOSTILE})

    text = as_html(table)
    page = Page(text)

    assert "img" not in {tag for tag, *_ in page.elements}
    assert [] == [name for _, given, *_ in page.elements for name in given if name.startswith("on")]
    assert SHOWN in page.texts("th", scope="row")
    assert SHOWN in page.texts("li")
    assert any(SHOWN in text for text in page.texts("dt"))
    assert [title(table)] == page.texts("caption")
    assert not {"\x00", "\u202e"} & set(text)


def test_a_table_without_a_ranked_norm_still_says_why(folder) -> None:
    """Without rows there is no table: its title, and why no norm is there."""
    folder.add({"batchnorm": {0.1: [{"outcome": "error", "reason": "no luck"}] * 3}})
    [table] = tables(folder.store, ["accuracy"])

    page = Page(as_html(table))

    assert [title(table)] == page.texts("strong")
    assert [] == page.texts("table") + page.texts("dl")
    assert any("3 ended in error" in text for text in page.texts("li"))


def test_a_page_adds_to_the_norms(folder) -> None:
    """What a page has of a row stands behind its norm, as the HTML that it is."""
    table = tables_of(folder, {"none": HOSTILE})[0]

    page = Page(as_html(table, lambda row: f"<b>{len(row.norm)}</b>"))

    assert [str(len(row.norm)) for row in table.rows] == page.texts("b")


def test_a_notebook_gets_the_style_once(folder) -> None:
    """Tables for a notebook have one style, which is for them alone."""
    page = Page(notebook(*map(as_html, tables_of(folder, {}))))

    [style] = page.texts("style")
    assert all(line.startswith(".normbench ") for line in style.strip().splitlines())
    assert 2 == len(page.texts("table"))

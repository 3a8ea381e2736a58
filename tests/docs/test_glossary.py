"""docs/glossary.md: its terms in order, and each in use."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GLOSSARY = ROOT / "docs" / "glossary.md"
#: What readers of the glossary come from, without its line breaks.
OTHERS = " ".join(
    " ".join(page.read_text(encoding="utf-8").split())
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
    if page not in (GLOSSARY, ROOT / "CHANGELOG.md")
)
ENTRIES = re.findall(r"^- \*\*(.+?)\*\*: ", GLOSSARY.read_text(encoding="utf-8"), re.MULTILINE)


def test_terms_are_in_alphabetical_order():
    """A term is where a reader looks for it, and once."""
    assert sorted({entry.casefold() for entry in ENTRIES}) == [entry.casefold() for entry in ENTRIES]


@pytest.mark.parametrize("term", [term for entry in ENTRIES for term in entry.split(", ")])
def test_a_term_is_used(term):
    """Other pages use each term, or its plural: none is left over from a text that has gone."""
    words = re.escape(term).replace(r"\ ", r"[\s-]")

    assert re.search(rf"\b{words}(s|es)?\b", OTHERS, re.IGNORECASE)

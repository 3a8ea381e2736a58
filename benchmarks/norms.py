"""Write docs/norms.md from the norms' descriptions: its table, and what stands first in each norm's section."""

from __future__ import annotations

import re
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import fields

from sections import ROOT

from normbench import plugins, spelling
from normbench.contract import Norm, Traits

PAGE = ROOT / "docs" / "norms.md"
WIDTH = 120
#: What is written: the lines from `<!-- norms -->`, for the table, or `<!-- norm: NAME -->` to `<!-- end -->`.
BLOCK = re.compile(r"^<!-- (?P<marker>norms|norm: (?P<name>\S+)) -->\n(?:(?!<!--).*\n)*<!-- end -->$", re.MULTILINE)


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


def page() -> str:
    """Return the page."""
    offered = plugins.current().norms
    norms = {name: one.thing for name, one in offered.items() if one.plugin.built_in}
    return filled(PAGE.read_text(encoding="utf-8"), norms)


def filled(text: str, norms: Mapping[str, Norm]) -> str:
    """Return the text of a page, written anew between its markers. Exits where these are not one pair per norm."""
    wanted = Counter(["norms", *(f"norm: {name}" for name in norms)])
    found = Counter(block["marker"] for block in BLOCK.finditer(text))
    wrong = [f"<!-- {marker} --> with an <!-- end --> is missing" for marker in wanted - found]
    wrong += [f"<!-- {marker} --> is there twice, or of no norm" for marker in found - wanted]
    if wrong:
        sys.exit(f"docs/{PAGE.name}: {'; '.join(wrong)}")

    def written(block: re.Match[str]) -> str:
        lines = _section(norms[block["name"]]) if block["name"] else _table(text, norms)
        return "\n".join([f"<!-- {block['marker']} -->", *lines, "<!-- end -->"])

    return BLOCK.sub(written, text)


def _table(text: str, norms: Mapping[str, Norm]) -> Iterator[str]:
    """Yield a row per norm, in the order of the page, linked to the section that its markers stand in."""
    yield from ["| norm | what it is | paper |", "| --- | --- | --- |"]
    for block in BLOCK.finditer(text):
        if block["name"]:
            norm = norms[block["name"]]
            heading = text[: block.start()].rpartition("\n## ")[2].partition("\n")[0]
            anchor = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
            yield f"| [`{norm.name}`](#{anchor}) | {norm.summary} | {norm.paper or '–'} |"


def _section(norm: Norm) -> Iterator[str]:
    """Yield what a norm's description says: signature, summary, placement, layouts, traits, paper and source."""
    signature = spelling.spelled(norm.name, dict(norm.params))
    yield from [*_wrapped(f"`{signature}`"), "", *_wrapped(f"{norm.summary}."), ""]
    yield f"- Placement {norm.placement}; layouts {', '.join(sorted(norm.layouts))}"
    if claimed := "; ".join(_claimed(norm.traits_with({}))):
        yield from _wrapped(f"- Traits{' at the defaults' * callable(norm.traits)}: {claimed}")
    if norm.paper:
        yield from _wrapped(f"- Paper: {norm.paper}")
    if norm.source:
        yield from _wrapped(f"- Source: {norm.source}" + f" ({norm.licence})" * bool(norm.licence))


def _claimed(traits: Traits) -> Iterator[str]:
    """Yield the traits in words, those that are not as in a layer that claims nothing."""
    for field in fields(traits):
        value, words = getattr(traits, field.name), field.name.replace("_", " ")
        if value != field.default:
            shown = ", ".join(f"`{name}`" for name in value) if isinstance(value, tuple) else value
            yield words if value is True else f"{words}: {shown}"


def _wrapped(text: str) -> list[str]:
    indent = "  " * text.startswith("- ")
    return textwrap.wrap(text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


if __name__ == "__main__":
    main()

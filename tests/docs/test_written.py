"""Pages that a command writes are what it writes now; docs/norms.md has each norm once."""

from __future__ import annotations

from pathlib import Path

import pytest

from normbench.contract import Norm, Traits

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["results", "norms", "why"])
def test_a_page_is_what_its_command_writes(name, command):
    """docs/results.md and docs/why.md are those of the stored records, docs/norms.md that of the registered norms."""
    written = command(name).page()

    assert (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8") == written


NORM = Norm(
    "ours",
    "nowhere:layer",
    summary="Ours",
    params={"eps": 1e-5},
    layouts={"NC", "NLC"},
    traits=Traits(centres=True, state=("mean",)),
    source="ours/ours",
    licence="MIT",
)
HEAD = "<!-- norms -->\nold\n<!-- end -->\n"
SECTION = "\n## Our norm: one\n\n<!-- norm: ours -->\nold\n<!-- end -->\n"


def test_what_stands_between_markers(command):
    """A norm has a row that links to its section, and there what its description says; all else stays."""
    written = command("norms").filled(f"{HEAD}{SECTION}kept", {"ours": NORM})

    assert "| [`ours`](#our-norm-one) | Ours | – |\n<!-- end -->" in written
    assert written.endswith(
        "<!-- norm: ours -->\n`ours(eps=1e-05)`\n\nOurs.\n\n- Placement before; layouts NC, NLC\n"
        "- Traits: state: `mean`; centres\n- Source: ours/ours (MIT)\n<!-- end -->\nkept"
    )
    assert "old" not in written


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        (HEAD, "<!-- norm: ours --> with an <!-- end --> is missing"),
        (HEAD + SECTION.replace("<!-- end -->", ""), "<!-- norm: ours --> with an <!-- end --> is missing"),
        (SECTION, "<!-- norms --> with an <!-- end --> is missing"),
        (HEAD + SECTION + SECTION, "<!-- norm: ours --> is there twice, or of no norm"),
        (HEAD + SECTION + SECTION.replace("ours", "theirs"), "<!-- norm: theirs --> is there twice, or of no norm"),
    ],
)
def test_markers_that_are_not_one_pair_per_norm(text, wrong, command):
    """The command ends with a line, and writes nothing."""
    with pytest.raises(SystemExit) as ended:
        command("norms").filled(text, {"ours": NORM})

    assert ended.value.code == f"docs/norms.md: {wrong}"

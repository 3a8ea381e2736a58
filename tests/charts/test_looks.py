"""How norms look in pictures: the same everywhere, and no two alike."""

from __future__ import annotations

from itertools import combinations
from types import SimpleNamespace
from typing import Any

import pytest

from normbench import plugins
from normbench.charts.looks import COLOURS, DARK, DASHES, LINES, LOOKS, MARKERS, OTHER_MARKERS, OUTLINES, WHITE, looks
from normbench.trials import OfNorm


def norm(name: str, **params: Any) -> OfNorm:
    """Return what belongs to a norm with its parameters."""
    return type("One", (SimpleNamespace, OfNorm), {})(norm=name, params=params)


def test_every_built_in_norm_has_a_look_of_its_own():
    """Two of the table share neither colour and line nor, for a reader who sees grey, line and marker."""
    loaded = plugins.load().norms
    built_in = {name for name, offered in loaded.items() if offered.plugin.name == "builtin"}

    assert built_in <= LOOKS.keys()
    assert not [
        (one, other)
        for (one, a), (other, b) in combinations(LOOKS.items(), 2)
        if a.line == b.line and (a.colour == b.colour or a.marker == b.marker)
    ]


@pytest.mark.parametrize(
    "one",
    [norm("batchnorm"), norm("batchnorm", eps=0.1), norm("theirs"), norm("theirs", x=1)],
    ids=lambda one: one.norm_id,
)
def test_a_look_hangs_on_the_norm_alone(one):
    """What else a picture shows, and in which order, changes nothing."""
    others = [*map(norm, LOOKS), norm("rms-norm", eps=0.1), norm("another")]

    alone = looks([one])[one.norm_id]

    assert alone == looks([*others, one])[one.norm_id] == looks([one, *reversed(others)])[one.norm_id]


def test_a_form_with_parameters_resembles_its_norm():
    """It has the norm's colour with another line, and a hollow marker."""
    of_norm, of_form = norm("dyt"), norm("dyt", alpha=1.0)

    found = looks([of_norm, of_form])

    plain, form = found[of_norm.norm_id], found[of_form.norm_id]
    assert (plain.colour, False, True) == (form.colour, plain.hollow, form.hollow)
    assert plain.line != form.line


def test_many_strange_norms_of_one_picture_differ():
    """Where hashes meet, one norm steps aside."""
    strange = [*(norm(f"theirs-{i}") for i in range(40)), *(norm("batchnorm", eps=1.0 / i) for i in range(1, 21))]

    assert 60 == len(set(looks(strange).values()))


def luminance(colour: str) -> float:
    """Return the relative luminance that WCAG 2.2 defines."""
    shares = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("colour", COLOURS)
def test_a_line_is_seen_on_its_ground(colour):
    """Colours on white and their twins on dark ground have the contrast of 3 that WCAG asks of graphics."""
    for line, ground in ((colour, WHITE), (DARK[colour], DARK[WHITE])):
        dark, light = sorted(map(luminance, (line, ground)))
        assert (light + 0.05) / (dark + 0.05) >= 3


def test_twins_differ():
    """No two colours are one on dark ground."""
    assert len(COLOURS) == len({DARK[colour] for colour in COLOURS})


def test_lines_and_markers_are_drawn_without_matplotlib():
    """Each has its dashes, and its outline."""
    assert (set(LINES), {*MARKERS, *OTHER_MARKERS}) == (DASHES.keys(), OUTLINES.keys())

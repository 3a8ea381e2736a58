"""How norms look in pictures: the same everywhere, and no two alike."""

from __future__ import annotations

from itertools import combinations
from types import SimpleNamespace
from typing import Any

import pytest

from normbench import plugins
from normbench.charts.looks import LOOKS, looks
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

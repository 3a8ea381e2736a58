"""Curves against the rate: their panels, and their order."""

from __future__ import annotations

import re

import pytest

from normbench.charts.looks import LOOKS
from normbench.charts.panels import TOGETHER
from normbench.charts.pictures import figure
from normbench.charts.scores import _labels


def _drawn(folder, norms: list[str]) -> tuple[int, list[str]]:
    """Return how many panels a picture of norms has, each better than the one before, and the norms as it has them."""
    scores = {name: {0.1: [0.5 + 0.01 * i] * 2, 1.0: ["diverged"] * 2} for i, name in enumerate(norms)}
    svg = figure(folder.add(scores)).encoded("svg").decode()
    return len(re.findall('<g id="axes_', svg)), [text for text in re.findall(">(.*?)</text>", svg) if text in norms]


@pytest.mark.parametrize(("many", "panels"), [(3, 1), (TOGETHER, 1), (TOGETHER + 1, TOGETHER + 1)])
def test_many_norms_have_a_panel_each(folder, many, panels):
    """Few share one panel; in both the norms are in the order of the board, the best first."""
    norms = [name for name in LOOKS if len(name) < 26][:many]

    assert (panels, norms[::-1]) == _drawn(folder, norms)


def test_labels_of_rates_do_not_touch():
    """A rate whose label would run into the one before has none."""
    assert ["0.001", "", "", "0.03", "", "1"] == list(_labels([0.001, 0.002, 0.003, 0.03, 0.05, 1], 20))
    assert ["0.1"] == list(_labels([0.1], 20))

"""Speeds beside the baseline: the numbers are those of the session."""

from __future__ import annotations

import pytest
from drawn import drawn, rows
from timings import NINE, measured, session, timing

__all__ = ["measured"]


def test_ratios_with_their_intervals(measured):
    """The median over rounds with its 95% interval, the fastest first, and the samples a second."""
    store = measured(session(timing("none", 2.0), timing("dyt", NINE), baseline=1.0))

    chart = drawn(store)["Throughput"]

    assert [
        {"norm": "none", "line": 0, "ratio": 2.0, "low": 2.0, "high": 2.0, "speed": 320.0},
        {"norm": "dyt", "line": 1, "ratio": 1.1, "low": 0.8, "high": 2.0, "speed": 176.0},
        {"norm": "batchnorm", "line": 2, "ratio": 1.0, "low": 1.0, "high": 1.0, "speed": 160.0},
    ] == [pytest.approx(row) for row in rows(chart)]
    assert ["dyt", "1.100", "0.800…2.000", "176"] == chart.table.rows[1]
    assert ["none", "dyt", "batchnorm"] == chart.columns["norm"]


def test_nothing_measured_is_no_chart(measured):
    """Where each norm failed."""
    store = measured(session(baseline=timing("batchnorm", outcome="oom"), stopped="failed", again=1.0))

    assert {} == drawn(store)

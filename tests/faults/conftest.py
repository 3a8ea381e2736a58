"""Counts what the fault tests do, and shows it at the end."""

from collections import Counter

import pytest

_COUNTS = pytest.StashKey[Counter]()


@pytest.fixture
def counts(request):
    """Return the counter of what was done to runs, and of what became of it."""
    return request.config.stash.setdefault(_COUNTS, Counter())


def pytest_terminal_summary(terminalreporter, config):
    """Say how many faults there were."""
    for what, count in config.stash.get(_COUNTS, Counter()).items():
        terminalreporter.write_line(f"{count:6} {what}")

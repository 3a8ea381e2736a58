"""Two results folders made of scores, held against each other."""

import msgspec
import pytest

from normbench import gates as gating
from normbench.compare.folders import compare
from normbench.store import Store

SCORES = [0.90, 0.91, 0.89, 0.90, 0.92]
RATES = [0.1, 0.3, 1.0]
ACCURACY = {"accuracy": "-2pt"}


def moved(by, scores=SCORES):
    """Return scores moved by as much, not by the same to the last bit at each seed."""
    return [score + by + 0.001 * (-1) ** seed for seed, score in enumerate(scores)]


@pytest.fixture
def against(folder, head):
    """Return a function that compares the two folders under gates as a suite spells them."""

    def run(gates=None, **options):
        return compare(folder.store, head.store, gating.gates(gates or {}, "gate"), **options)

    return run


@pytest.fixture
def one_rate(folder, head, against):
    """Return a function that stores a norm's scores at one rate on both sides, and returns its row of accuracy."""

    def run(base, other, gates=None, norm="layer", **options):
        folder.add({norm: {0.1: base}}, **options)
        head.add({norm: {0.1: other}}, **options)
        return row_of(against(gates))

    return run


def row_of(comparison, metric="accuracy", norm="layer"):
    """Return the one row of a norm and metric."""
    [row] = [row for row in comparison.rows if (row.metric.name, row.norm) == (metric, norm)]
    return row


def session(folder, number=1, task="spirals", environment="environment 1", **speeds):
    """Store a session of its own name."""
    scratch = folder.__class__(folder.store.folder / f"scratch-{number}")
    scratch.time(task, **speeds)
    [found] = Store(scratch.store.folder).sessions()
    named = msgspec.structs.replace(found, session=f"{folder.store.folder} {number}", environment=environment)
    with folder.store.writer() as writer:
        writer.append(named)

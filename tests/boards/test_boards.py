"""Which boards a store gives, and in which order."""

from __future__ import annotations

import pytest

from normbench.boards import BOARDS, NAMES, tables
from normbench.store import Store

RATES = {"batchnorm": {0.1: [0.9, 0.8], 1.0: [0.8, 0.7]}}


def names(store: Store, *boards: str) -> list[tuple[str, object]]:
    return [(table.board, table.condition.get("momentum", table.task)) for table in tables(store, boards or None)]


@pytest.mark.parametrize(
    ("before", "latest", "expected"),
    [
        (None, ["stability", "accuracy"], ["stability", "accuracy"]),
        (["accuracy"], ["stability"], ["stability"]),
        (["stability"], [], ["accuracy", "stability"]),
        (["stability"], None, ["accuracy", "stability"]),
        (None, ["a board of later", "stability"], ["stability"]),
    ],
)
def test_a_table_has_the_boards_of_its_latest_run(folder, before, latest, expected) -> None:
    """They are those that the suite asks for, in its order; all where a record does not say, as older ones do not."""
    for asked in (before, latest):
        folder.add(RATES, suite={} if asked is None else {"boards": asked})

    assert expected == [board for board, _ in names(folder.store)]


def test_each_table_has_the_boards_of_its_own_suite(folder) -> None:
    """Suites that share a folder do not change each other's boards."""
    folder.add(RATES, condition={"momentum": 0.5}, suite={"boards": ["stability"]})
    folder.add(RATES, condition={"momentum": 0.9}, suite={"boards": ["accuracy"]})

    assert [("stability", 0.5), ("accuracy", 0.9)] == names(folder.store)


def test_tasks_of_several_suites_are_aggregated(folder) -> None:
    """No suite of one task has a say in the board over several."""
    for task in ("spirals", "words"):
        folder.add(RATES, task=task, suite={"boards": ["accuracy"]})

    assert ["accuracy", "accuracy", "aggregate"] == [board for board, _ in names(folder.store)]


def test_boards_that_are_asked_for_by_name(folder) -> None:
    """They replace those of the suite, in the order in which they are named."""
    folder.add(RATES, suite={"boards": ["accuracy"]})
    folder.time("spirals")

    assert ["throughput", "stability"] == [board for board, _ in names(folder.store, "throughput", "stability")]


def test_every_board_is_one_that_a_suite_may_ask_for() -> None:
    """A suite's words are checked without what makes a board."""
    assert [board.name for board in BOARDS] == list(NAMES)

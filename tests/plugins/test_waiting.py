"""Which pack a worker takes next: a seed of everything before the next seed, and no new process without need."""

import pytest

import normbench
from normbench.trials import Pack, Trial
from normbench_plugins.executors.processes.forkserver import Context
from normbench_plugins.executors.processes.slot import Slot
from normbench_plugins.executors.processes.waiting import Attempt, Waiting


def packs(*names):
    """Return packs named "cell seed", the cell "-" for what is built in; a seed "d" is a first step."""
    made = []
    for name in names:
        cell, seed = name.split()
        trial = Trial(task="t", task_version=1, norm="n", recipe=normbench.Recipe(rate=1, batch_size=1, epochs=1),
                      seed=0 if seed == "d" else int(seed))  # fmt: skip
        made.append(Pack(trials=(trial,), cell="" if cell == "-" else cell, dry=seed == "d", device=name))
    return [Attempt(pack) for pack in made]


def taken(waiting, own=None, others=()):
    """Return the names of what one worker takes, until nothing is left."""
    names = []
    while waiting:
        attempt = waiting.take(own, others)
        own = attempt.pack.cell
        names.append(attempt.pack.device)
    return names


@pytest.mark.parametrize(
    ("names", "own", "others", "expected"),
    [
        (("- 0", "- 1", "- 0", "- 2"), None, [], ["- 0", "- 1", "- 0", "- 2"]),
        (("- 0", "a 0", "- 0", "a 0"), None, [], ["- 0", "- 0", "a 0", "a 0"]),
        (("a 0", "b 0", "b 1", "a 1"), None, [], ["a 0", "b 0", "b 1", "a 1"]),
        (("a 0", "b 0", "a 1", "b 1"), None, [], ["a 0", "b 0", "b 1", "a 1"]),
        (("a 0", "b 0", "c 0"), None, ["a", "b"], ["c 0", "a 0", "b 0"]),
        (("a 0", "b 0"), "c", ["a", "b"], ["a 0", "b 0"]),
        (("a d", "- d", "- 0", "a 0"), "-", [], ["a d", "- d", "- 0", "a 0"]),
    ],
    ids=["built in", "one cell", "own first", "own first in the next seed", "alone first", "all taken", "first steps"],
)
def test_the_order_in_which_packs_are_taken(names, own, others, expected):
    """What is built in keeps its order; a worker changes its cell as seldom as that allows."""
    assert expected == taken(Waiting(packs(*names)), own, others)


def test_a_pack_whose_worker_died_comes_first():
    """It is given to the next worker, whatever that trained."""
    waiting = Waiting(packs("a 0", "b 0"))
    lost = waiting.take(None, [])

    waiting.again(lost)

    assert ["a 0", "b 0"] == taken(waiting, "b")


def test_a_worker_trains_packs_of_one_cell(monkeypatch):
    """What is built in does not go where a stranger's code was, nor a stranger's where another's was."""
    monkeypatch.setattr(Slot, "open", lambda slot: setattr(slot, "_pool", object()))
    monkeypatch.setattr(Slot, "close", lambda slot: setattr(slot, "_pool", None))
    monkeypatch.setattr(Slot, "ask", lambda slot, function, pack: slot._pool)
    slot = Slot(Context(), {})

    workers = [slot.start(attempt.pack) for attempt in packs("- 0", "- 1", "a 0", "a 1", "- 2", "b 0", "a 2")]

    assert [0, 0, 1, 1, 2, 3, 4] == [list(dict.fromkeys(workers)).index(worker) for worker in workers]

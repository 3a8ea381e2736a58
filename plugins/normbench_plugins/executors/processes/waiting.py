"""The packs that wait for a worker, and which of them a worker takes next."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from normbench.trials import Pack


@dataclass
class Attempt:
    """A pack, and how many workers have died of it."""

    pack: Pack
    deaths: int = 0


class Waiting:
    """Packs in turns: of a seed all before those of the next, so that an interrupted run leaves boards to compare.

    Within a turn a worker goes on with its cell, which costs no new process, and then takes one that no other is at.
    """

    def __init__(self, attempts: Iterable[Attempt]) -> None:
        self._turns: deque[dict[str, deque[Attempt]]] = deque()
        for _, turn in itertools.groupby(attempts, lambda one: (one.pack.dry, one.pack.trials[0].seed)):
            cells: dict[str, deque[Attempt]] = {}
            for attempt in turn:
                cells.setdefault(attempt.pack.cell, deque()).append(attempt)
            self._turns.append(cells)

    def __bool__(self) -> bool:
        return bool(self._turns)

    def take(self, own: str | None, others: Collection[str]) -> Attempt:
        """Return the next for a worker that trained the cell `own`, where the others train theirs."""
        turn = self._turns[0]
        cell = own if own in turn else next((cell for cell in turn if cell not in others), next(iter(turn)))
        attempt = turn[cell].popleft()
        if not turn[cell]:
            del turn[cell]
        if not turn:
            self._turns.popleft()
        return attempt

    def again(self, attempt: Attempt) -> None:
        """Put one first that was taken."""
        self._turns.appendleft({attempt.pack.cell: deque([attempt])})

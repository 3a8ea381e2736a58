"""Where each norm stands in a table: its rank with an interval, its group, and what notes say of both.

numpy is imported where ranks are: listings print through the same renderer as boards.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from normbench.tables.table import TableRow, ranks


@dataclass(frozen=True)
class Standing:
    """A norm's rank, and the ends of its interval and its group where there are any."""

    rank: int
    ends: tuple[int, int] | None = None
    group: int | None = None

    @property
    def flags(self) -> list[str]:
        """What a program should know: whether the norm may be best."""
        return ["may-be-best"] if self.ends is not None and self.ends[0] == 1 else []


def standings(means: Sequence[float], seeds: Sequence[Mapping[int, float]]) -> list[Standing]:
    """Return where norms stand by their means, of which more is better; `seeds` has each norm's score of each seed.

    Without two norms that share two seeds there are no intervals. A norm whose seeds are others than its neighbour's
    may have a rank that the shared seeds deny: its interval is widened to hold it.
    """
    import numpy as np

    from normbench.stats.ranking import comparable, groups, rank_intervals, surely_better

    placed = ranks(list(means))
    every = sorted({seed for scores in seeds for seed in scores})
    table = np.array([[scores.get(seed, np.nan) for seed in every] for scores in seeds], dtype=np.float64)
    if len(placed) < 2 or not comparable(table):
        return [Standing(rank) for rank in placed]
    order = sorted(range(len(placed)), key=placed.__getitem__)
    better = surely_better(table[order])
    low, high = (ends.tolist() for ends in rank_intervals(better))
    found = {
        i: Standing(placed[i], (min(low[place], placed[i]), max(high[place], placed[i])), group)
        for place, (i, group) in enumerate(zip(order, groups(better), strict=True))
    }
    return [found[i] for i in range(len(placed))]


def rank_notes(rows: Sequence[TableRow], by: str) -> Iterator[str]:
    """Say what the ends of ranks by something are, and which groups there are; nothing where ranks have no ends."""
    ranked = [row for row in rows if row.ranks is not None]
    if not ranked:
        return
    yield "rank [a…b]: its 95% interval, for all ranks of the table at once. *: may be best"
    grouped = [[repr(row.norm) for row in group] for _, group in groupby(ranked, key=lambda row: row.group)]
    if len(grouped) > 1:
        parts = " | ".join(map(", ".join, grouped))
        yield f"groups by {by}, each norm surely better than those of the next: {parts}"
    elif all(row.ranks == (1, len(ranked)) for row in ranked):
        yield f"by {by} no norm is surely better than another here"
    else:
        yield f"by {by} some norms are surely better than others, but none than all that follow: one group"

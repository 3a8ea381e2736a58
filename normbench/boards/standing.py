"""Where each norm stands in a table: its rank with an interval, its group, and the notes on both."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby

from normbench.tables.table import TableRow


def ranked(rows: Sequence[TableRow], seeds: Sequence[Mapping[int, float]]) -> list[TableRow]:
    """Return rows ranked by their means over seeds, best first; `seeds` has each row's scores by seed, more is better.

    Equal means share a rank. Without two norms that share two seeds there are no intervals and no groups. Where norms
    have different seeds, a rank may lie outside of its interval, which is then widened to include it. A norm whose
    interval includes 1 is flagged: it may be best.
    """
    means = [statistics.mean(scores.values()) for scores in seeds]
    # Means that differ by rounding alone are equal.
    ranks = [
        1 + sum(other > mean and not math.isclose(other, mean, rel_tol=1e-12) for other in means) for mean in means
    ]
    order = sorted(range(len(rows)), key=ranks.__getitem__)
    placed = [replace(rows[i], rank=ranks[i]) for i in order]
    every = sorted({seed for scores in seeds for seed in scores})
    if len(every) < 2:
        return placed
    # Imported here, as throughput needs neither.
    import numpy as np

    from normbench.stats.ranking import comparable, groups, rank_intervals, surely_better

    table = np.array([[seeds[i].get(seed, np.nan) for seed in every] for i in order], dtype=np.float64)
    if not comparable(table):
        return placed
    better = surely_better(table)
    lows, highs = (ends.tolist() for ends in rank_intervals(better))
    for place, (i, group) in enumerate(zip(order, groups(better), strict=True)):
        ends = min(lows[place], ranks[i]), max(highs[place], ranks[i])
        flags = [*(["may-be-best"] if ends[0] == 1 else []), *rows[i].flags]
        placed[place] = replace(placed[place], ranks=ends, group=group, flags=flags)
    return placed


def rank_notes(rows: Sequence[TableRow], by: str) -> Iterator[str]:
    """Say what the ends of ranks by something are, and which groups there are; nothing where ranks have no ends."""
    with_ends = [row for row in rows if row.ranks is not None]
    if not with_ends:
        return
    yield "rank [a…b]: its 95% interval, for all ranks of the table at once. *: may be best"
    grouped = [[repr(row.norm) for row in group] for _, group in groupby(with_ends, key=lambda row: row.group)]
    if len(grouped) > 1:
        parts = " | ".join(map(", ".join, grouped))
        yield f"groups by {by}, each norm surely better than those of the next: {parts}"
    elif all(row.ranks == (1, len(with_ends)) for row in with_ends):
        yield f"by {by} no norm is surely better than another here"
    else:
        yield f"by {by} some norms are surely better than others, but the table does not divide into groups"

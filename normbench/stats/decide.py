"""From the rows of a comparison to verdicts: many rows at once, and looks after more and more seeds.

Each of K looks spends an equal part of alpha (Lan & DeMets 1983): a row's p is K times its smallest so far, and Holm
over the rows is on these. One look is the ordinary test.

Failures come first. A mean of scores can't see that seeds fail, since the failure itself widens its interval: so where
surely more seeds fail than before, a row of scores is regressed, and leaves Holm's family.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from normbench.stats.intervals import Interval, median_of
from normbench.stats.verdicts import (
    ALPHA,
    Floats,
    Tested,
    failures_p,
    failures_to_tell,
    holm,
    mean_test,
    most_tolerate,
    sign_test,
)

Flags: TypeAlias = NDArray[np.bool_]
Verdict: TypeAlias = Literal["ok", "better", "regressed", "unclear"]
#: How a row is tested: a paired t test of the mean; an exact sign test with a fall of the median, or of the mean, of at
#: least the margin.
Kind: TypeAlias = Literal["mean", "median", "share"]

#: Numbers of seeds after which `--until decided` looks.
LOOKS = (3, 5, 8, 12, 20)


@dataclass(frozen=True)
class Gated:
    """A row to decide: its differences in the order of seeds, signed so that + is better, and its margin above 0.

    `tested` is given where the row has a test of its own, which is final. A look counts paired seeds, of which some may
    be left out of the test for being the same to the last bit: `places` are those of the differences among all
    `paired`; left out, there are no others. Of a mean, `least` is the least variance of a difference, and `lost` has 1
    for each seed that fails in HEAD alone, -1 for one that fails in BASE alone, else 0, and `before` 1 for each that
    fails in BASE; left out, none fail.
    """

    kind: Kind
    differences: Sequence[float]
    margin: float
    tested: Tested | None = None
    places: Sequence[int] = ()
    paired: int = 0
    least: float = 0.0
    lost: Sequence[int] = ()
    before: Sequence[int] = ()

    def seen(self, look: int) -> int | None:
        """Return how many differences there are of the first `look` paired seeds; None where there are fewer seeds."""
        if look > max(self.paired, len(self.differences)):
            return None
        return sum(place < look for place in self.places) if self.places else look


@dataclass(frozen=True)
class Decision:
    """A row's verdict, the number of seeds that it is from, p after Holm, and the difference with its ends.

    `failed`: it is regressed since more seeds fail than before. `nearly`: one fewer, so that it can't be ok.
    """

    verdict: Verdict
    seeds: int
    p: float
    interval: Interval
    failed: bool = False
    nearly: bool = False


class Tried(NamedTuple):
    """What so many seeds say of rows, each an array with one entry per row.

    p of the test; whether a row is surely ok, fell enough to regress, and is surely above 0; whether more seeds fail
    than by chance, and whether one fewer do.
    """

    p: Floats
    ok: Flags
    fell: Flags
    gains: Flags
    failed: Flags
    nearly: Flags


def looks_up_to(most: int) -> list[int]:
    """Return the looks of `--until decided --max-seeds MOST`: the usual ones below, and the last at `most`."""
    return [*(look for look in LOOKS if look < most), most]


def interval(kind: Kind, differences: Sequence[float], alpha: float = ALPHA, least: float = 0.0) -> Interval:
    """Return a difference with its ends, each of which errs at most `alpha`; of a median, as boards have them.

    Fewer than 3 differences, and fewer than 5 of failures, have their lowest and highest.
    """
    if kind == "median":
        return median_of(list(differences), level=1 - 2 * alpha, on_grid=True)
    if len(differences) < (3 if kind == "mean" else 5):
        return Interval(statistics.fmean(differences), min(differences), max(differences), "min-max")
    return mean_test(differences, 1.0, alpha, least).interval


def decide(rows: Sequence[Gated], looks: Sequence[int] = (), alpha: float = ALPHA) -> list[Decision]:
    """Return the verdicts of rows that are gated together; `looks` are the numbers of seeds looked at, ascending.

    Without looks each row is tested once, on all its seeds. A row that is decided at a look stops there, and its later
    seeds are not read.
    """
    states = [_State(row, looks, alpha, len(rows)) for row in rows]
    for look in range(max(1, len(looks))):
        for state in states:
            state.look(look)
        adjusted = holm([state.p for state in states]).tolist() if states else []
        for state, p in zip(states, adjusted, strict=True):
            state.settle(p, alpha)
    return [state.decision() for state in states]


def exact_looks(looks: Sequence[int], rows: int, alpha: float = ALPHA) -> list[int]:
    """Return the looks at which an exact sign test could reject at all: the others spend nothing."""
    for i, first in enumerate(looks):
        if 2.0**-first * len(looks[i:]) * rows <= alpha:
            return list(looks[i:])
    return []


def try_rows(
    kind: Kind, seen: Any, margin: float, alpha: float = ALPHA, *, least: Any = 0.0, lost: Any = 0, before: Any = 0
) -> Tried:
    """Test differences (..., n), n >= 1; `least` (...), `lost` and `before` (..., n) are as in `Gated`."""
    values = np.asarray(seen, dtype=float)
    n, none = values.shape[-1], np.zeros(values.shape[:-1], dtype=bool)
    if kind == "mean":
        net, fails = (np.sum(np.broadcast_to(one, values.shape), axis=-1) for one in (lost, before))
        enough = np.array([failures_to_tell(n, alpha, count) for count in range(n + 1)])[fails]
        failed, nearly = net >= enough, net == enough - 1
        if n < 2:
            return Tried(np.ones(none.shape), none, none, none, failed, nearly)
        tested = mean_test(values, margin, alpha, least)
        return Tried(tested.p, tested.ok & ~nearly, ~none, np.asarray(tested.low > 0), failed, nearly)
    # Of an even number of seeds the middle difference that is the smaller loss must be one of the margin.
    centre = np.sort(values, axis=-1)[..., n // 2] if kind == "median" else values.mean(-1)
    fell = np.asarray(centre <= -margin * (1 - 1e-9))
    ok = most_tolerate(values, np.full(centre.shape, margin), alpha) & ~fell
    return Tried(sign_test(values), ok, fell, np.asarray(sign_test(-values) <= alpha), none, none)


class _State:
    """One row, from look to look. `p` is NaN for a row that has left Holm's family."""

    def __init__(self, row: Gated, looks: Sequence[int], alpha: float, rows: int) -> None:
        self.p, self._row, self._adjusted = 1.0, row, 1.0
        self._looks = [max(row.paired, len(row.differences))] if not looks or row.tested else list(looks)
        self._spending = self._looks
        if len(self._looks) > 1 and row.kind != "mean":
            self._spending = exact_looks(self._looks, rows, alpha)
        self._alpha = alpha / max(1, len(self._spending))
        self._verdict: Verdict = "unclear"
        self._tried: Tried | None = None
        self._seeds = 0

    def look(self, index: int) -> None:
        """Test the row on the seeds of a look, if it is open and has them."""
        row = self._row
        n = row.seen(self._looks[index]) if index < len(self._looks) else None
        if n is None or self._verdict != "unclear":
            return
        self._seeds = n
        if self._looks[index] not in self._spending or not (n or row.tested):
            return
        if row.tested is not None:
            no, own = np.asarray(False), row.tested
            tried = Tried(own.p, own.ok, ~no, np.asarray(own.low > 0), no, no)
        else:
            fails = {"lost": row.lost[:n] or 0, "before": row.before[:n] or 0}
            tried = try_rows(row.kind, row.differences[:n], row.margin, self._alpha, least=row.least, **fails)
        self._tried = tried
        if tried.failed:
            self.p, self._verdict = math.nan, "regressed"
            self._adjusted = min(1.0, len(self._spending) * failures_p(n, sum(row.lost[:n]), sum(row.before[:n])))
        else:
            self.p = min(1.0, self.p, len(self._spending) * float(tried.p))

    def settle(self, p: float, alpha: float) -> None:
        """Decide the row if it is open, with p after Holm over all rows."""
        if self._verdict != "unclear":
            return
        self._adjusted = p
        if self._tried is None:
            return
        if self._tried.ok:
            self._verdict = "better" if self._tried.gains else "ok"
        elif p <= alpha and self._tried.fell:
            self._verdict = "regressed"

    def decision(self) -> Decision:
        """Return the verdict as it stands at the end."""
        row, tried = self._row, self._tried
        if row.tested is not None:
            return Decision(self._verdict, self._seeds, self._adjusted, row.tested.interval)
        seeds = self._seeds or len(row.differences)
        ends = interval(row.kind, row.differences[:seeds], self._alpha if self._spending else ALPHA, row.least)
        failed, nearly = (bool(tried.failed), bool(tried.nearly)) if tried else (False, False)
        return Decision(self._verdict, seeds, self._adjusted, ends, failed, nearly)

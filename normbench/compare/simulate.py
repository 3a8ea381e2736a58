"""How often the gates of `compare` err: many comparisons at once, drawn, and decided by the rules of `decide`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from normbench.stats.decide import Kind, exact_looks, try_rows
from normbench.stats.verdicts import ALPHA, Floats, holm

#: Draws differences of a comparison's rows with mean 0 and standard deviation 1, shape (repetitions, rows, seeds).
Draw: TypeAlias = Callable[[np.random.Generator, tuple[int, int, int]], Floats]

OPEN, OK, REGRESSED = 0, 1, 2


@dataclass(frozen=True)
class Group:
    """Rows of one kind and margin, many comparisons at once: differences (repetitions, rows, seeds), + is better.

    `least`, one number or one per row, and `lost` and `before`, of the shape of the differences, are as in
    `stats.decide.Gated`.
    """

    kind: Kind
    differences: Floats
    margin: float
    least: float | Floats = 0.0
    lost: NDArray[np.int8] | None = None
    before: NDArray[np.int8] | None = None


@dataclass(frozen=True)
class Rate:
    """A share of repetitions, with the simulation's own standard error."""

    share: float
    repetitions: int

    @property
    def error(self) -> float:
        """The standard error of the share."""
        return math.sqrt(max(self.share * (1 - self.share), 1 / self.repetitions) / self.repetitions)


def verdicts(groups: Sequence[Group], looks: Sequence[int] = (), alpha: float = ALPHA) -> NDArray[np.int8]:
    """Return OPEN, OK or REGRESSED of every row of every comparison, shape (repetitions, rows), as `decide` would."""
    repetitions, seeds = groups[0].differences.shape[0], groups[0].differences.shape[-1]
    rows = sum(group.differences.shape[1] for group in groups)
    looks = list(looks) or [seeds]
    state = np.zeros((repetitions, rows), dtype=np.int8)
    smallest = np.ones((repetitions, rows))
    for look in looks:
        parts = [_look(group, look, looks, rows, alpha) for group in groups]
        p, ok, fell, failed = (np.concatenate([part[i] for part in parts], axis=1) for i in range(4))
        is_open = state == OPEN
        # What failed leaves Holm's family.
        smallest = np.where(is_open, np.where(failed, np.nan, np.minimum(smallest, p)), smallest)
        regressed = failed | (~ok & fell & (holm(smallest) <= alpha))
        state = np.where(is_open, np.where(regressed, REGRESSED, np.where(ok, OK, OPEN)), state)
    return state.astype(np.int8)


def _look(group: Group, look: int, looks: Sequence[int], rows: int, alpha: float) -> tuple[Any, ...]:
    """Return of one look p times the number of looks, what is surely ok, fell enough, and failed more than before."""
    seen = group.differences[:, :, :look]
    spending = list(looks) if group.kind == "mean" or len(looks) == 1 else exact_looks(looks, rows, alpha)
    if look not in spending:
        none = np.zeros(seen.shape[:2], dtype=bool)
        return np.ones(none.shape), none, none, none
    lost, before = (0 if fails is None else fails[:, :, :look] for fails in (group.lost, group.before))
    spent = alpha / len(spending)
    tried = try_rows(group.kind, seen, group.margin, spent, least=group.least, lost=lost, before=before)
    return np.minimum(1.0, len(spending) * tried.p), tried.ok, tried.fell, tried.failed


def normal(rng: np.random.Generator, shape: tuple[int, int, int]) -> Floats:
    """Draw differences that vary normally; the rows share half of their variance, as norms share seeds."""
    repetitions, _, seeds = shape
    shared = rng.standard_normal((repetitions, 1, seeds))
    return np.asarray((shared + rng.standard_normal(shape)) / math.sqrt(2))


def skewed(rng: np.random.Generator, shape: tuple[int, int, int]) -> Floats:
    """Draw differences of scores near saturation on both sides, 1 - Beta(2, 98) each."""
    return np.asarray((one_sided(rng, shape) - one_sided(rng, shape)) / math.sqrt(2))


def one_sided(rng: np.random.Generator, shape: tuple[int, int, int]) -> Floats:
    """Draw differences to a BASE that does not vary, of scores 1 - Beta(2, 98): long to the left."""
    spread = math.sqrt(2 * 98 / (100**2 * 101))
    return np.asarray((0.02 - rng.beta(2, 98, shape)) / spread)


def other_sided(rng: np.random.Generator, shape: tuple[int, int, int]) -> Floats:
    """Draw differences of a HEAD that does not vary to such scores: long to the right."""
    return -one_sided(rng, shape)


def rounded(
    rng: np.random.Generator, shape: tuple[int, int, int], *, samples: int, spread: float, loss: float
) -> Floats:
    """Draw differences of shares of so many samples that vary by `spread` over the seeds, and that HEAD lost."""
    mean = rng.uniform(0.94, 0.97, (shape[0], 1, 1))
    base, head = (np.rint(samples * (mean - by + spread * rng.standard_normal(shape))) for by in (0.0, loss))
    return np.asarray((head - base) / samples)


def failing(
    rng: np.random.Generator, shape: tuple[int, int, int], base: float, head: float
) -> dict[str, NDArray[np.int8]]:
    """Draw the `lost` and `before` of a Group where such shares of seeds fail in BASE and in HEAD."""
    after, before = ((rng.random(shape) < share).astype(np.int8) for share in (head, base))
    return {"lost": after - before, "before": before}


def shifted(
    draw: Draw,
    *,
    seeds: int,
    rows: int,
    spread: float,
    margin: float,
    loss: float,
    one: bool = False,
    looks: Sequence[int] = (),
    least: float = 0.0,
    repetitions: int = 10_000,
    seed: int = 0,
) -> NDArray[np.int8]:
    """Return the verdicts on drawn comparisons in which every row, or `one` alone, truly loses `loss` margins."""
    rng = np.random.default_rng([seed, seeds, rows, len(looks)])
    differences = spread * draw(rng, (repetitions, rows, seeds))
    differences[:, : 1 if one else rows] -= loss * margin
    return verdicts([Group("mean", differences, margin, least)], looks)


def any_regressed(words: NDArray[np.int8]) -> Rate:
    """Return the share of comparisons that have a row called regressed."""
    return Rate(float((words == REGRESSED).any(1).mean()), len(words))


def called(words: NDArray[np.int8], word: int, rows: slice = slice(None)) -> Rate:
    """Return the share of rows with a verdict, over all comparisons, or of some rows; its error is that of one row."""
    return Rate(float((words[:, rows] == word).mean()), len(words))

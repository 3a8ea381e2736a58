"""The training loss of a trial by step, thinned so that a long training keeps as few points as a short one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from normbench.trials import Points, Trace

#: The probe whose trace the curve stands in.
PROBE: Final = "curve"
#: The first steps, whose losses are all kept; and how many windows the rest is divided into, at most.
EXACT, WINDOWS = 100, 399


class Curve:
    """The losses of a training of `steps` steps.

    The first 100 are kept as they are. The steps after them are cut into windows of equal length, as short as makes at
    most 399 of them (the last may be shorter); a window has one point, the mean of its losses, at its last step. So all
    is exact up to 499 steps. Points are rounded to 7 significant digits, about as many as a 32-bit float has.

    A loss that is not finite has a point of its own and is the last: the network that gave the later ones is lost. That
    makes 500 points at most.
    """

    def __init__(self, steps: int) -> None:
        self.points = Points()
        self._steps, self._window = steps, max(1, math.ceil((steps - EXACT) / WINDOWS))
        self._taken = self._waiting = 0
        self._sum = 0.0

    def add(self, losses: Iterable[float]) -> None:
        """Add the losses of the steps that follow."""
        for loss in losses:
            if self.points.value and not math.isfinite(self.points.value[-1]):
                return
            lost = not math.isfinite(loss)
            if lost:
                self._close()
            self._sum += loss
            self._waiting += 1
            self._taken += 1
            ended = (self._taken - EXACT) % self._window == 0 or self._taken == self._steps
            if ended or lost or self._taken <= EXACT:
                self._close()

    def _close(self) -> None:
        """End the window, which may be empty, at the last step."""
        if self._waiting:
            self.points.step.append(self._taken - 1)
            self.points.value.append(float(f"{self._sum / self._waiting:.7g}"))
        self._waiting, self._sum = 0, 0.0

    def among(self, traces: Sequence[Trace]) -> tuple[Trace, ...]:
        """Return traces with the curve in that of its probe or, where this is not there or failed, in one of its own.

        A training that ended before its first epoch did has no curve.
        """
        if not self.points.step:
            return tuple(traces)
        own = next((trace for trace in traces if trace.probe == PROBE and trace.ended != "error"), Trace(probe=PROBE))
        own.series["loss"] = self.points
        return (*traces, *[own] * (own not in traces))

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` needs to go on, as plain values."""
        return {"points": (self.points.step, self.points.value), "open": (self._taken, self._waiting, self._sum)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self.points = Points(*state["points"])
        self._taken, self._waiting, self._sum = state["open"]

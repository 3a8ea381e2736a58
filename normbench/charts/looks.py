"""How each norm looks in every picture: its colour, line and marker.

A look belongs to the norm: it does not change with what else a picture shows, nor with the order. No two of the norms
below share colour and line, nor line and marker, so that a picture in grey tells them apart as well.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain, product
from typing import Any

from normbench.store import Store
from normbench.trials import OfNorm

# Those of Okabe & Ito (2008), which colour-blind readers tell apart. Orange and sky are darker than theirs, so that a
# line has a contrast of 3 to white (WCAG 2.2, 1.4.11); their yellow, too pale for a line, is brown here.
BLACK, BLUE, VERMILION, GREEN = "#000000", "#0072B2", "#D55E00", "#009E73"
PURPLE, ORANGE, SKY, BROWN = "#CC79A7", "#C08000", "#3D9AD1", "#661100"
COLOURS = (BLACK, BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BROWN)
SOLID, DASHED, DOTTED, DASHDOT = LINES = ("solid", "dashed", "dotted", "dashdot")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
#: Markers of norms that are not in LOOKS.
OTHER_MARKERS = ("<", ">", "p", "d")
#: What the face of a hollow marker has: the ground.
WHITE = "#FFFFFF"
#: What each colour is on a dark ground, and the ground itself.
DARK = {
    WHITE: "#14171C",
    BLACK: "#F2F2F2",
    BLUE: "#4C9BE8",
    VERMILION: "#F0803C",
    GREEN: "#22B58B",
    PURPLE: "#E09CC4",
    ORANGE: "#F0B840",
    SKY: "#9AD8FF",
    BROWN: "#B98367",
}
#: Dashes and gaps of each line, in pixels.
DASHES = {SOLID: [1, 0], DASHED: [6, 3], DOTTED: [2, 2], DASHDOT: [8, 2, 2, 2]}
#: The outline of each marker, as an SVG path from -1 to 1 either way.
OUTLINES = {
    "o": "M.8,0A.8,.8,0,1,1,-.8,0A.8,.8,0,1,1,.8,0Z",
    "s": "M-.7,-.7H.7V.7H-.7Z",
    "^": "M0,-.9L.9,.7H-.9Z",
    "v": "M0,.9L.9,-.7H-.9Z",
    "<": "M-.9,0L.7,-.9V.9Z",
    ">": "M.9,0L-.7,-.9V.9Z",
    "D": "M0,-1L1,0L0,1L-1,0Z",
    "d": "M0,-1L.6,0L0,1L-.6,0Z",
    "P": "M-.3,-.9H.3V-.3H.9V.3H.3V.9H-.3V.3H-.9V-.3H-.3Z",
    "X": "M-.9,-.5L-.5,-.9L0,-.4L.5,-.9L.9,-.5L.4,0L.9,.5L.5,.9L0,.4L-.5,.9L-.9,.5L-.4,0Z",
    "*": "M0,-1L.26,-.36L.95,-.31L.42,.14L.59,.81L0,.45L-.59,.81L-.42,.14L-.95,-.31L-.26,-.36Z",
    "p": "M0,-.95L.9,-.29L.56,.77H-.56L-.9,-.29Z",
}


@dataclass(frozen=True)
class Look:
    """A colour, and a line and a marker as matplotlib names them; the marker of a form with parameters is hollow."""

    colour: str
    line: str
    marker: str
    hollow: bool = False

    @property
    def face(self) -> str:
        """What its marker is filled with."""
        return WHITE if self.hollow else self.colour

    @property
    def style(self) -> dict[str, Any]:
        """What matplotlib draws a line with."""
        return {"color": self.colour, "linestyle": self.line, "marker": self.marker, "markerfacecolor": self.face}


LOOKS = {
    # The norms that suites have most often: a colour each.
    "none": Look(BLACK, SOLID, "o"),
    "batchnorm": Look(BLUE, SOLID, "s"),
    "batchnorm-no-affine": Look(VERMILION, SOLID, "^"),
    "batchnorm-after": Look(GREEN, SOLID, "D"),
    "online-norm": Look(PURPLE, SOLID, "v"),
    "batch-renorm": Look(ORANGE, SOLID, "P"),
    "layer-norm": Look(SKY, SOLID, "X"),
    "group-norm": Look(BROWN, SOLID, "*"),
    # The suite `tokens` has eight norms, and eight colours.
    "rms-norm": Look(VERMILION, DASHED, "o"),
    "zero-centred-rms-norm": Look(GREEN, DASHED, "s"),
    "dyt": Look(PURPLE, DASHED, "^"),
    "derf": Look(ORANGE, DASHED, "D"),
    "layer-norm-scaling": Look(BROWN, DASHED, "v"),
    "layer-scaling": Look(BLACK, DASHED, "P"),
    "instance-norm": Look(SKY, DASHED, "*"),
    "ghost-batchnorm": Look(BLUE, DASHED, "X"),
    "sync-batchnorm": Look(BLUE, DOTTED, "o"),
    "noise": Look(BLACK, DOTTED, "s"),
    "evonorm-b0": Look(ORANGE, DOTTED, "^"),
    "evonorm-s0": Look(GREEN, DOTTED, "v"),
    "noisy-batchnorm": Look(VERMILION, DOTTED, "D"),
    "switchable-norm": Look(SKY, DOTTED, "P"),
    "frn-tlu": Look(BROWN, DOTTED, "X"),
    "streaming-norm": Look(PURPLE, DOTTED, "*"),
    "batchnorm-frozen": Look(BLUE, DASHDOT, "^"),
    "lp-batchnorm": Look(VERMILION, DASHDOT, "s"),
    "grn": Look(SKY, DASHDOT, "o"),
    "weight-norm": Look(GREEN, DASHDOT, "P"),
    "weight-standardization": Look(PURPLE, DASHDOT, "X"),
    "scaled-weight-standardization": Look(BROWN, DASHDOT, "D"),
}


def looks_in(store: Store) -> dict[str, Look]:
    """Return how each norm of a folder looks, by `norm_id`: the same in all its pictures, and in its report."""
    ran = (cell for run in store.runs() for cell in run.cells)
    return looks(chain(ran, (timing for session in store.sessions() for timing in session.timings)))


def looks(norms: Iterable[OfNorm]) -> dict[str, Look]:
    """Return the looks of norms, by `norm_id`.

    Only where two that are not in LOOKS would look the same, the second takes the next look that is free.
    """
    found: dict[str, Look] = {}
    for norm_id, one in sorted({one.norm_id: one for one in norms}.items()):
        choices = _choices(one.norm, norm_id if one.params else "")
        found[norm_id] = next((look for look in choices if look not in found.values()), choices[0])
    return found


def _choices(norm: str, form: str) -> list[Look]:
    """Return the looks that a norm may have, the first its own; `form` identifies its parameters.

    A form with parameters has its norm's colour, with another line. A hash of the name chooses what is first.
    """
    if form:
        own = _choices(norm, "")[0]
        every = [Look(own.colour, line, mark, hollow=True) for line in LINES if line != own.line for mark in MARKERS]
    elif norm in LOOKS:
        return [LOOKS[norm]]
    else:
        every = [Look(*parts) for parts in product(COLOURS, LINES, OTHER_MARKERS)]
    first = zlib.crc32((form or norm).encode()) % len(every)
    return every[first:] + every[:first]

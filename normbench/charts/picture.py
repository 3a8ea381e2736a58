"""The figure that a picture is: matplotlib's own, which a notebook shows, and which has the same bytes each time."""

from __future__ import annotations

import io
from typing import Any, Final

import matplotlib as mpl
from matplotlib.figure import Figure

#: How its parts are made: a name with $ is no formula.
MADE: Final[dict[Any, Any]] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.parse_math": False,
}
#: How it is written: text that can be selected and searched, and no identifier drawn by lot.
_WRITTEN: Final[dict[Any, Any]] = {"svg.fonttype": "none", "svg.hashsalt": "normbench", "pdf.fonttype": 42}
#: The formats, by their suffix, each with what it would say of the time.
FORMS: Final[dict[str, dict[str, Any]]] = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}


class Picture(Figure):
    """A figure that belongs to no window, so that nothing has to close it."""

    def encoded(self, form: str) -> bytes:
        """Return the picture in one of `FORMS`."""
        content = io.BytesIO()
        with mpl.rc_context(_WRITTEN):
            self.savefig(content, format=form, dpi=160, metadata=FORMS[form])
        return content.getvalue()

    def _repr_png_(self) -> bytes:
        """Return what a notebook shows."""
        return self.encoded("png")
